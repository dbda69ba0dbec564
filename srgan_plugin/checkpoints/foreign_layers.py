"""Convert weights of Keras and TensorLayer to SRResNet's keys, by the order of the layers.

Keras and TensorLayer only number the layers: the third convolution of a file is the second one of
the first residual block. Kernel axes are reordered from (height, width, in, out) to (out, in,
height, width). The channels before `depth_to_space` are reordered from (row, column, channel) to
(channel, row, column) for torch's pixel shuffle.
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

# {name of a parameter: its name in torch}
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
_TORCH_KEY = re.compile(r"[./]weight$")
_NUMBERED = re.compile(r"(.*/)?(arr_)?\d+")


@dataclass
class _Layer:
    """Parameters of a layer, {name in torch: array}."""

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
    """Convert arrays to a state dict, with SRResNet's keys for an SRGAN generator.

    Args:
        arrays: {name: array}.
        ordered: Whether the arrays are in the order of the network's layers.

    Returns:
        Tensors; arrays without axes, such as an epoch, become numbers. The keys are those of
        SRResNet with the prefix `keras.` or `tensorlayer.`; for other networks, the names of the
        arrays.
    """
    if any(_TORCH_KEY.search(name) for name in arrays):
        return _torch_keys(arrays)
    parameters = {name: array for name, array in arrays.items() if array.ndim}
    family, layers = _layers(parameters) if ordered else ("", [])
    weights = (_srresnet(layers, family) if layers else None) or dict(arrays)
    return {name: _tensor(name, array) for name, array in weights.items()}


def _torch_keys(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Restore a torch state dict from names with groups, or with `/` instead of dots."""
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
    """Return an array as a tensor, or as a number if it has no axes."""
    if not array.ndim and not name.endswith("num_batches_tracked"):
        return array.item()
    return torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))


def _layers(arrays: Mapping[str, Array]) -> tuple[str, list[_Layer]]:
    """Return "keras" or "tensorlayer", and the layers; no layers if a name is unknown."""
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
    """Split arrays without names into layers by their dimensions.

    A kernel has four dimensions; one vector after it is its bias, four are a normalisation.
    Slopes have three dimensions in Keras only. TensorLayer has beta before gamma.
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
    """Return {kind: names of SRResNet's layers in the order of `forward`}."""
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
    """Return the weights with SRResNet's keys; None if the layers do not fit an SRResNet."""
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
    """Reorder axes and channels in place for torch; return False if shapes do not fit."""
    kernels = [named[name] for name in named if "conv" in name]
    shapes = [kernel["weight"].shape for kernel in kernels]
    channels_last = all(shape[0] == shape[1] for shape in shapes)  # (height, width, in, out)
    if channels_last == all(shape[2] == shape[3] for shape in shapes):
        return False
    for kernel in kernels if channels_last else ():
        kernel["weight"] = kernel["weight"].transpose(3, 2, 0, 1)
    features = len(named["conv_first"]["weight"])
    for name, parameters in named.items():
        if name.endswith("upsample_conv"):
            if parameters["weight"].shape[:2] != (4 * features, features):
                return False
            # TensorLayer's backends with the axis order of torch also use torch's pixel shuffle.
            if channels_last:
                parameters |= {leaf: _shuffle_channels(array) for leaf, array in parameters.items()}
        elif "act" in name:
            parameters["weight"] = parameters["weight"].reshape(-1)
    return True


def _shuffle_channels(array: Array) -> Array:
    """Reorder channels for `depth_to_space` with factor 2 to channels for torch's pixel shuffle."""
    parts = array.reshape(4, len(array) // 4, *array.shape[1:])
    shuffled: Array = parts.swapaxes(0, 1).reshape(array.shape)
    return shuffled
