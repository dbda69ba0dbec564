"""VGG-19: layer names, the files its weights come in, and features by layer name."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srgan_plugin.errors import MissingFileError, UserError

from .blocks import widened, without_autocast

URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
TORCHVISION = "torchvision://vgg19"
_BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))  # convolutions, features


#: All layers in order; a layer's position is its index in torchvision's `vgg19().features`.
LAYERS = tuple(
    layer
    for block, (count, _) in enumerate(_BLOCKS, start=1)
    for layer in (
        *(f"{kind}{block}_{n}" for n in range(1, count + 1) for kind in ("conv", "relu")),
        f"pool{block}",
    )
)
_WIDTHS = [3, *(features for count, features in _BLOCKS for _ in range(count))]
#: The weight's shape of every convolution, in order.
CONV_SHAPES: dict[str, tuple[int, ...]] = {
    name: (features, width, 3, 3)
    for name, (width, features) in zip(
        filter(lambda layer: layer.startswith("conv"), LAYERS), pairwise(_WIDTHS), strict=True
    )
}
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
        UserError: There is no such layer; the message has the nearest names.
    """
    if asked in LAYERS:
        return asked
    if asked.isdecimal() and int(asked) < len(LAYERS):
        return LAYERS[int(asked)]
    near = " or ".join(get_close_matches(asked, LAYERS, n=3)) or "conv5_4, relu5_4 or pool5"
    raise UserError(
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
        UserError: The file holds something else, or less.
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
        UserError: `depth` is no layer of VGG-19.
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
        torch.hub.download_url_to_file(URL, str(path), hash_prefix="dcbb9e9d")
    except (OSError, RuntimeError) as error:
        raise MissingFileError(
            f"the VGG-19 weights {path.name} are not here and their download failed ({error}): "
            f"fetch {URL} and put it into {path.parent}, or set `pretrained` to a file of yours"
        ) from error
    return path


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise MissingFileError(
            f"no VGG-19 weights at {path}: `pretrained` is {TORCHVISION!r} or an existing file"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a bad file raises has no common base
        raise UserError(
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
        raise UserError(
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
            raise UserError(
                f"{path} has no {key}: it does not reach the layers asked for; ask for shallower "
                f"ones or set `pretrained` to a deeper VGG-19 file"
            )
        if state[key].shape != expected:
            raise UserError(
                f"{path} does not hold VGG-19 weights: {key} should be {list(expected)}, is "
                f"{list(state[key].shape)}"
            )
        found.append(state[key].detach().float())
    return found[0], found[1]


class VGG19Features(nn.Module):
    """Features of VGG-19 at the layers asked for; the network ends at the deepest of them.

    The weights are frozen and no part of any state dict: gradients reach the input alone.

    Args:
        layers: `conv5_4` is the convolution's output before its ReLU, `relu5_4` after it (the
            paper's phi_5,4), `pool1` to `pool5`; or the index in torchvision's `features`, as
            MMagic's configs have it: '34' is conv5_4, '35' relu5_4.
        pretrained: 'torchvision://vgg19' takes vgg19-dcbb9e9d.pth (548 MB) from torch.hub's
            checkpoint folder and downloads it there if it is missing. Or a file: a state dict in
            torchvision's layout (`features.0.weight`, or `0.weight` without the classifier), or
            the rescaled weights of Gatys et al. (key 0 is a 1x1 convolution from RGB in [0, 1] to
            mean-subtracted BGR in [0, 255], then 2, 5, 9, 12, 16, … are the convolutions).
        use_input_norm: Normalise the input: by ImageNet's mean and deviation, or by the rescaled
            file's own key 0. Without it the image goes to conv1_1 as it is.

    Raises:
        UserError: No layer, an unknown one, one deeper than the file, or not a VGG-19 file.
        FileNotFoundError: The weights are not there and cannot be downloaded.
    """

    conv1_1_weight: Tensor

    def __init__(
        self,
        layers: Iterable[str],
        *,
        pretrained: str | Path = TORCHVISION,
        use_input_norm: bool = True,
    ) -> None:
        super().__init__()
        self.layers = {asked: layer_name(asked) for asked in layers}
        if not self.layers:
            raise UserError("layers must name at least one layer of VGG-19, got none")
        deepest = max(LAYERS.index(name) for name in self.layers.values())
        self._walk = LAYERS[: deepest + 1]
        convs, rescaling = load_vgg19(pretrained, LAYERS[deepest])
        for name, (weight, bias) in convs.items():
            self.register_buffer(f"{name}_weight", weight, persistent=False)
            self.register_buffer(f"{name}_bias", bias, persistent=False)
        self.input_norm: nn.Module = nn.Identity()
        if use_input_norm:
            self.input_norm = _PointwiseConv(*rescaling) if rescaling else _MeanStd()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute VGG features of a batch of images.

        Args:
            x: RGB in [0, 1], (N, 3, H, W); H and W at least 2 to the number of pools passed.

        Returns:
            The features by the names asked for, (N, C, H / 2**pools, W / 2**pools).
        """
        found: dict[str, Tensor] = {}
        wanted = set(self.layers.values())
        # Normalised in float32, then in the type of the weights (autocast has the last word).
        feat: Tensor = self.input_norm(widened(x)).to(self.conv1_1_weight.dtype)
        for before, name in zip(("", *self._walk[:-1]), self._walk, strict=True):
            if name in CONV_SHAPES:
                weight, bias = self.get_buffer(f"{name}_weight"), self.get_buffer(f"{name}_bias")
                feat = F.conv2d(feat, weight, bias, padding=1)
            elif name.startswith("relu"):
                feat = F.relu(feat, inplace=before not in wanted)
            else:
                feat = F.max_pool2d(feat, kernel_size=2, stride=2)
            if name in wanted:
                found[name] = feat
        return {asked: found[name] for asked, name in self.layers.items()}


class _MeanStd(nn.Module):
    """ImageNet's statistics of RGB in [0, 1], which torchvision's weights were trained with."""

    def __init__(self) -> None:
        super().__init__()
        mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
        self.mean = nn.Buffer(mean.view(1, 3, 1, 1), persistent=False)
        self.std = nn.Buffer(std.view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class _PointwiseConv(nn.Module):
    """The rescaled file's key 0."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Buffer(weight, persistent=False)
        self.bias = nn.Buffer(bias, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # Not under autocast: half precision would quantise the image before VGG.
        with without_autocast(x):
            return F.conv2d(x.to(self.weight.dtype), self.weight, self.bias)
