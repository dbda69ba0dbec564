"""Give weights of TensorFlow's kind SRResNet's names, by the order of a generator's layers.

Keras and TensorLayer number the layers of a process, so that names say little: the third
convolution of the file is the second of the first residual block. What differs besides is mended
here: the axes of convolutions, and the order of channels before `depth_to_space`, which splits
(row, column, channel) where torch's pixel shuffle splits (channel, row, column).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[Any]
Kind = Literal["convolution", "norm", "slopes"]

# What a parameter is called, and torch's name of it.
_LEAVES = {
    "kernel": "weight",
    "filters": "weight",
    "bias": "bias",
    "biases": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "moving_var": "running_var",
    "alpha": "weight",
}
_KERAS_NORM = ("weight", "bias", "running_mean", "running_var")
_TENSORLAYER_NORM = ("bias", "weight", "running_mean", "running_var")
_OF_TORCH = re.compile(r"[./]weight$")
_NUMBERED = re.compile(r"(.*/)?(arr_)?\d+")


@dataclass
class _Layer:
    """A layer: its parameters by torch's names."""

    parameters: dict[str, Array] = field(default_factory=dict)

    @property
    def kind(self) -> Kind | None:
        names, weight = self.parameters.keys(), self.parameters.get("weight")
        if "running_var" in names:
            return "norm"
        if weight is not None and weight.ndim == 4 and names <= {"weight", "bias"}:
            return "convolution"
        return "slopes" if weight is not None and names == {"weight"} else None


def to_state_dict(arrays: Mapping[str, Array], *, ordered: bool = True) -> dict[str, Any]:
    """Return arrays as tensors: an SRResNet's under its names, any other's under their own.

    Args:
        arrays: By name.
        ordered: Whether they are in the order of the network's layers.

    Returns:
        Keys of SRResNet behind `keras.` or `tensorlayer.` where the arrays are those of such a
        generator, else their own. Numbers beside weights, such as an epoch, become plain numbers.
    """
    if any(_OF_TORCH.search(name) for name in arrays):
        return _torch_keys(arrays)
    weighty = {name: array for name, array in arrays.items() if array.ndim}
    family, layers = _layers(weighty) if ordered else ("", [])
    weights = (_srresnet(layers, family) if layers else None) or dict(arrays)
    return {name: _tensor(name, array) for name, array in weights.items()}


def _torch_keys(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Undo what files make of a state dict: groups around its keys, or `/` in the place of dots."""
    state: dict[str, Any] = {}
    for name, array in arrays.items():
        *groups, key = name.split("/")
        if "." not in key:
            groups, key = [], name.replace("/", ".")
        level = state
        for group in groups:
            level = level.setdefault(group, {})
        level[key] = _tensor(key, array)
    return state


def _tensor(name: str, array: Array) -> Any:
    if not array.ndim and not name.endswith("num_batches_tracked"):
        return array.item()
    return torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))


def _layers(arrays: Mapping[str, Array]) -> tuple[str, list[_Layer]]:
    """Group arrays by their layer; no layers where one of them has another name than is known."""
    if arrays and all(_NUMBERED.fullmatch(name) for name in arrays):
        return _split(list(arrays.values()))
    layers: dict[str, _Layer] = {}
    leaves = set()
    for name, array in arrays.items():
        found = re.fullmatch(r"(.+)[/.](\w+)(:0)?", name)
        if found is None or found[2] not in _LEAVES:
            return "", []
        leaves.add(found[2])
        layers.setdefault(found[1], _Layer()).parameters[_LEAVES[found[2]]] = array
    return ("tensorlayer" if "filters" in leaves else "keras"), list(layers.values())


def _split(arrays: list[Array]) -> tuple[str, list[_Layer]]:
    """Split a bare list into layers, by the dimensions.

    A convolution begins with an array of four; one vector behind it is its bias, four are a
    normalisation. Only Keras's slopes have three, and only TensorLayer puts beta before gamma.
    """
    family = "keras" if any(array.ndim == 3 for array in arrays) else "tensorlayer"
    norm = _KERAS_NORM if family == "keras" else _TENSORLAYER_NORM
    starts = [i for i, array in enumerate(arrays) if array.ndim != 1]
    layers = []
    for start, end in zip(starts, [*starts[1:], len(arrays)], strict=True):
        vectors = arrays[start + 1 : end]
        first = {"weight": arrays[start]}
        if len(vectors) % 4 == 1:
            first["bias"] = vectors.pop(0)
        layers.append(_Layer(first))
        if len(vectors) not in (0, 4):
            return family, []
        if vectors:
            layers.append(_Layer(dict(zip(norm, vectors, strict=True))))
    return family, layers if starts[:1] == [0] else []


def _places(blocks: int, upsamples: int) -> dict[Kind, list[str]]:
    """Name SRResNet's layers of each kind in the order in which they are applied."""
    inside = [f"trunk_net.{n}" for n in range(blocks)]
    above = [f"upsample{n}" for n in range(1, upsamples + 1)]
    return {
        "convolution": [
            "conv_first",
            *(f"{block}.conv{n}" for block in inside for n in (1, 2)),
            "conv_trunk",
            *(f"{name}.upsample_conv" for name in above),
            "conv_last",
        ],
        "norm": [*(f"{block}.bn{n}" for block in inside for n in (1, 2)), "bn_trunk"],
        "slopes": ["act_first", *(f"{name}.act" for name in (*inside, *above))],
    }


def _srresnet(layers: list[_Layer], family: str) -> dict[str, Array] | None:
    """Return the weights under SRResNet's names; None where the layers are not those of one."""
    kinds: dict[Kind, list[_Layer]] = {"convolution": [], "norm": [], "slopes": []}
    for layer in layers:
        if layer.kind is None:
            return None
        kinds[layer.kind].append(layer)
    blocks = (len(kinds["norm"]) - 1) // 2
    upsamples = len(kinds["convolution"]) - 2 * blocks - 3
    places = _places(blocks, upsamples)
    if (
        blocks < 1
        or upsamples < 1
        or any(
            len(kinds[kind]) not in (len(names), 0 if kind == "slopes" else len(names))
            for kind, names in places.items()
        )
    ):
        return None
    named = {
        name: layer.parameters
        for kind, names in places.items()
        for name, layer in zip(names, kinds[kind], strict=False)
    }
    if not _to_torch(named):
        return None
    return {
        f"{family}.{name}.{leaf}": array
        for name, parameters in named.items()
        for leaf, array in parameters.items()
    }


def _to_torch(named: dict[str, dict[str, Array]]) -> bool:
    """Bring weights into torch's order of axes and channels; whether they are an SRResNet's."""
    kernels = [named[name] for name in named if "conv" in name]
    shapes = [kernel["weight"].shape for kernel in kernels]
    last = all(shape[0] == shape[1] for shape in shapes)  # (height, width, in, out)
    if last == all(shape[2] == shape[3] for shape in shapes):
        return False
    for kernel in kernels if last else ():
        kernel["weight"] = kernel["weight"].transpose(3, 2, 0, 1)
    features = len(named["conv_first"]["weight"])
    for name, parameters in named.items():
        if name.endswith("upsample_conv"):
            if parameters["weight"].shape[:2] != (4 * features, features):
                return False
            # TensorLayer's other backends, which have torch's axes, have its pixel shuffle as well.
            if last:
                parameters |= {leaf: _shuffled(array) for leaf, array in parameters.items()}
        elif "act" in name:
            parameters["weight"] = parameters["weight"].reshape(-1)
    return True


def _shuffled(array: Array) -> Array:
    """Reorder the channels that `depth_to_space` splits for torch's pixel shuffle."""
    parts = array.reshape(4, len(array) // 4, *array.shape[1:])
    shuffled: Array = parts.swapaxes(0, 1).reshape(array.shape)
    return shuffled
