"""VGG-19's layer names and the files its weights come in."""

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor

URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
_HASH_PREFIX = "dcbb9e9d"
TORCHVISION = "torchvision://vgg19"

_BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))  # convolutions, features


def _layer_names() -> tuple[str, ...]:
    names = []
    for block, (count, _) in enumerate(_BLOCKS, start=1):
        for n in range(1, count + 1):
            names += [f"conv{block}_{n}", f"relu{block}_{n}"]
        names.append(f"pool{block}")
    return tuple(names)


def _conv_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    width = 3
    for block, (count, features) in enumerate(_BLOCKS, start=1):
        for n in range(1, count + 1):
            shapes[f"conv{block}_{n}"] = (features, width, 3, 3)
            width = features
    return shapes


#: All layers in order; a layer's position is its index in torchvision's `vgg19().features`.
LAYERS = _layer_names()
#: The weight's shape of every convolution, in order.
CONV_SHAPES = _conv_shapes()

# Where each convolution lies in the two kinds of file. The rescaled one counts the input's 1x1
# convolution and a padding layer before every other convolution.
_TORCHVISION_INDEX = {name: LAYERS.index(name) for name in CONV_SHAPES}
_RESCALED_INDEX = {name: i + n + 2 for n, (name, i) in enumerate(_TORCHVISION_INDEX.items())}


def layer_name(asked: str) -> str:
    """Give the plain name of a layer asked for by name or by torchvision's index.

    Args:
        asked: `conv5_4`, `relu5_4`, `pool5`, or '34', '35', '36' for the same three.

    Returns:
        One of `LAYERS`.

    Raises:
        ValueError: There is no such layer; the message has the nearest names.
    """
    if asked in LAYERS:
        return asked
    if asked.isdecimal() and int(asked) < len(LAYERS):
        return LAYERS[int(asked)]
    near = " or ".join(get_close_matches(asked, LAYERS, n=3)) or "conv5_4, relu5_4 or pool5"
    raise ValueError(
        f"VGG-19 has no layer {asked!r}: did you mean {near}? "
        f"('0' to '{len(LAYERS) - 1}' are torchvision's indices)"
    )


def load_vgg19(
    pretrained: str | Path, depth: str
) -> tuple[dict[str, tuple[Tensor, Tensor]], tuple[Tensor, Tensor] | None]:
    """Read the convolutions up to a layer from any of the files that `VGG19Features` takes.

    Args:
        pretrained: See `VGG19Features`.
        depth: The deepest layer wanted, one of `LAYERS`.

    Returns:
        Weight and bias by the convolution's name, float32 on the CPU; and the input's 1x1
        convolution where the file is a rescaled one, else None.

    Raises:
        ValueError: The file holds something else, or less.
        FileNotFoundError: The weights are not there and cannot be downloaded.
    """
    path = _fetched_torchvision_file() if str(pretrained) == TORCHVISION else Path(pretrained)
    state = _read(path)
    rescaled = state["0.weight"].shape[-1] == 1
    index = _RESCALED_INDEX if rescaled else _TORCHVISION_INDEX
    within = LAYERS[: LAYERS.index(depth) + 1]
    convs = {
        name: _parameters(path, state, index[name], shape)
        for name, shape in CONV_SHAPES.items()
        if name in within
    }
    return convs, _parameters(path, state, 0, (3, 3, 1, 1)) if rescaled else None


def random_vgg19_state_dict(seed: int = 0, depth: str = "conv5_4") -> dict[str, Tensor]:
    """Make up VGG-19 weights for tests and trials where the real ones cannot be had.

    He-initialised (activations stay near 1 in size), biases zero, in torchvision's layout without
    the classifier; `torch.save` makes them a file for `pretrained`.

    Args:
        seed: Of the generator that draws them.
        depth: The deepest layer wanted.

    Returns:
        `features.N.weight` and `features.N.bias`, float32.

    Raises:
        ValueError: `depth` is no layer of VGG-19.
    """
    deepest = LAYERS.index(layer_name(depth))
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for name, shape in CONV_SHAPES.items():
        index = _TORCHVISION_INDEX[name]
        if index <= deepest:
            he = (2 / (9 * shape[1])) ** 0.5
            state[f"features.{index}.weight"] = torch.randn(shape, generator=generator) * he
            state[f"features.{index}.bias"] = torch.zeros(shape[0])
    return state


def torchvision_file() -> Path:
    """Say where torchvision's VGG-19 file lies or would lie: torch.hub's checkpoint folder."""
    return Path(torch.hub.get_dir()) / "checkpoints" / URL.rsplit("/", 1)[-1]


def _fetched_torchvision_file() -> Path:
    path = torchvision_file()
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL, str(path), hash_prefix=_HASH_PREFIX)
    except (OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"the VGG-19 weights {path.name} are not here and their download failed ({error}): "
            f"fetch {URL} and put it into {path.parent}, or set `pretrained` to a file of yours"
        ) from error
    return path


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(
            f"no VGG-19 weights at {path}: `pretrained` is {TORCHVISION!r} or an existing file"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a bad file raises has no common base
        raise ValueError(
            f"{path} is no weight file that torch.load(weights_only=True) can read "
            f"({type(error).__name__}): `pretrained` wants VGG-19 weights"
        ) from error
    plain = (
        {str(key).removeprefix("features."): value for key, value in state.items()}
        if isinstance(state, dict)
        else {}
    )
    first = plain.get("0.weight")
    if not isinstance(first, Tensor) or first.shape not in ((64, 3, 3, 3), (3, 3, 1, 1)):
        raise ValueError(
            f"{path} does not hold VGG-19 weights: `pretrained` wants torchvision's layout "
            f"(features.0.weight or 0.weight of 64x3x3x3) or the rescaled one (0.weight of 3x3x1x1)"
        )
    return plain


def _parameters(
    path: Path, state: Mapping[str, Tensor], index: int, shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    found = []
    for kind, expected in (("weight", shape), ("bias", shape[:1])):
        key = f"{index}.{kind}"
        if key not in state:
            raise ValueError(
                f"{path} has no {key}: it does not reach the layers asked for; ask for shallower "
                f"ones or set `pretrained` to a deeper VGG-19 file"
            )
        if state[key].shape != expected:
            raise ValueError(
                f"{path} does not hold VGG-19 weights: {key} should be {list(expected)}, is "
                f"{list(state[key].shape)}"
            )
        found.append(state[key].detach().float())
    return found[0], found[1]
