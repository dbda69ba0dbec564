"""VGG-19: names of layers, files of weights, and features by layer."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srgan_plugin.errors import MissingFileError, UserError

from .blocks import IMAGENET, at_least_float32, autocast_disabled, autocast_dtype

URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
TORCHVISION = "torchvision://vgg19"
_BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))  # convolutions, output channels


#: All layers in order; the position of a layer is its index in torchvision's `vgg19().features`.
LAYERS = tuple(
    layer
    for block, (count, _) in enumerate(_BLOCKS, start=1)
    for layer in (
        *(f"{kind}{block}_{n}" for n in range(1, count + 1) for kind in ("conv", "relu")),
        f"pool{block}",
    )
)
_CHANNELS = [3, *(channels for count, channels in _BLOCKS for _ in range(count))]
#: Shape of the weight by convolution, in order.
CONV_SHAPES: dict[str, tuple[int, ...]] = {
    name: (out_channels, in_channels, 3, 3)
    for name, (in_channels, out_channels) in zip(
        filter(lambda layer: layer.startswith("conv"), LAYERS), pairwise(_CHANNELS), strict=True
    )
}
# Index of each convolution in the two kinds of file. In the rescaled file the 1x1 convolution and
# a padding layer before each 3x3 convolution have indices as well.
_TORCHVISION_INDEX = {name: LAYERS.index(name) for name in CONV_SHAPES}
_RESCALED_INDEX = {name: i + n + 2 for n, (name, i) in enumerate(_TORCHVISION_INDEX.items())}


def layer_name(layer: str) -> str:
    """Return the name of a layer, given by name or by torchvision's index.

    Args:
        layer: 'conv5_4', 'relu5_4', 'pool5', or '34', '35', '36' for the same three.

    Returns:
        One of `LAYERS`.

    Raises:
        UserError: VGG-19 has no such layer; the message lists the nearest names.
    """
    if layer in LAYERS:
        return layer
    if layer.isdecimal() and int(layer) < len(LAYERS):
        return LAYERS[int(layer)]
    near = " or ".join(get_close_matches(layer, LAYERS, n=3)) or "conv5_4, relu5_4 or pool5"
    raise UserError(
        f"layer: expected a name such as {near}, or an index of torchvision's features from '0' to "
        f"'{len(LAYERS) - 1}', got {layer!r}"
    )


def load_vgg19(
    pretrained: str | Path, last_layer: str
) -> tuple[dict[str, tuple[Tensor, Tensor]], tuple[Tensor, Tensor] | None]:
    """Read the convolutions up to a layer from any of the files that `VGG19Features` takes.

    Args:
        pretrained: See `VGG19Features`.
        last_layer: The deepest layer to read, one of `LAYERS`.

    Returns:
        Weight and bias by name of the convolution, float32 on the CPU; and the 1x1 convolution of
        the input if the file is a rescaled one, else None.

    Raises:
        UserError: The file does not hold VGG-19 weights down to that layer.
        MissingFileError: `pretrained` is a missing file, or the download of torchvision's file
            failed.
    """
    path = _fetch_torchvision_file() if str(pretrained) == TORCHVISION else Path(pretrained)
    state = _read(path)
    rescaled = state["0.weight"].shape[-1] == 1
    index = _RESCALED_INDEX if rescaled else _TORCHVISION_INDEX
    within = LAYERS[: LAYERS.index(last_layer) + 1]
    convs = {
        name: _parameters(path, state, index[name], shape)
        for name, shape in CONV_SHAPES.items()
        if name in within
    }
    return convs, _parameters(path, state, 0, (3, 3, 1, 1)) if rescaled else None


def random_vgg19_state_dict(seed: int = 0, depth: str = "conv5_4") -> dict[str, Tensor]:
    """Draw random VGG-19 weights, for tests without the trained ones.

    Weights are He-initialised, which keeps the magnitude of activations near 1; biases are zero.
    The layout is that of torchvision's `vgg19`, without the classifier. Save them with `torch.save`
    for `pretrained`.

    Args:
        seed: Seed of the random generator.
        depth: The deepest layer to draw, by name or torchvision's index.

    Returns:
        `features.N.weight` and `features.N.bias`, float32.

    Raises:
        UserError: `depth` is not a layer of VGG-19.

    Example:
        >>> from srgan_plugin.networks import random_vgg19_state_dict
        >>> state = random_vgg19_state_dict(depth="conv1_2")
        >>> {key: tuple(weight.shape) for key, weight in state.items() if "weight" in key}
        {'features.0.weight': (64, 3, 3, 3), 'features.2.weight': (64, 64, 3, 3)}
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
    """Return the path of torchvision's VGG-19 file in torch.hub's folder; it may not exist."""
    return Path(torch.hub.get_dir()) / "checkpoints" / URL.rsplit("/", 1)[-1]


def _fetch_torchvision_file() -> Path:
    path = torchvision_file()
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL, str(path), hash_prefix="dcbb9e9d")
    except (OSError, RuntimeError) as error:
        raise MissingFileError(
            f"{path}: expected VGG-19 weights, got no file and a failed download ({error}); fetch "
            f"{URL} into {path.parent}, or set `pretrained` to another file"
        ) from error
    return path


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise MissingFileError(
            f"{path}: expected VGG-19 weights, got no file; set `pretrained` to {TORCHVISION!r} or "
            "to an existing file"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the errors of a bad file have no common base
        raise UserError(
            f"{path}: expected a weight file that torch.load(weights_only=True) reads, got "
            f"{type(error).__name__}; set `pretrained` to VGG-19 weights"
        ) from error
    plain = (
        {str(key).removeprefix("features."): value for key, value in state.items()}
        if isinstance(state, dict)
        else {}
    )
    first = plain.get("0.weight")
    if not isinstance(first, Tensor) or first.shape not in ((64, 3, 3, 3), (3, 3, 1, 1)):
        raise UserError(
            f"{path}: expected VGG-19 weights in torchvision's layout (features.0.weight or "
            "0.weight of 64x3x3x3) or the rescaled one (0.weight of 3x3x1x1), got neither; set "
            "`pretrained` to such a file"
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
                f"{path}: expected VGG-19 weights with {key}, got fewer layers; use shallower ones "
                "or set `pretrained` to a file with more layers"
            )
        if state[key].shape != expected:
            raise UserError(
                f"{path}: expected VGG-19 weights with {key} of {list(expected)}, got "
                f"{list(state[key].shape)}"
            )
        found.append(state[key].detach().float())
    return found[0], found[1]


class VGG19Features(nn.Module):
    """Features of VGG-19 at given layers; the network ends at the deepest of them.

    The weights are frozen buffers outside the state dict; gradients reach the input only.

    Args:
        layers: Names of layers: 'conv5_4' is the output of the convolution before its ReLU,
            'relu5_4' after it (the paper's phi_5,4), 'pool1' to 'pool5'; or the index in
            torchvision's `features`, as in MMagic configs: '34' is conv5_4, '35' relu5_4.
        pretrained: 'torchvision://vgg19' loads vgg19-dcbb9e9d.pth (548 MB) from torch.hub's
            checkpoint folder and downloads it there if it is missing. Or a file: a state dict in
            torchvision's layout (`features.0.weight`, or `0.weight` without the classifier), or
            the weights that Gatys et al. rescaled to a mean activation of 1, in the layout of
            AdaIN's `vgg_normalised.pth`: key 0 is a 1x1 convolution from RGB in [0, 1] to
            mean-subtracted BGR in [0, 255]; 2, 5, 9, 12, 16, … are the 3x3 convolutions. The
            padding layers between them, which reflect the image in AdaIN, are not run: the
            convolutions pad with zeros, as for torchvision's weights.
        use_input_norm: Normalise the input: by ImageNet's mean and standard deviation, or by key 0
            of a rescaled file. If false, conv1_1 gets the image unchanged.

    Raises:
        UserError: `layers` is empty or has an unknown layer, or the file does not hold VGG-19
            weights down to the deepest of them.
        MissingFileError: `pretrained` is a missing file, or the download of torchvision's file
            failed.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from srgan_plugin.networks import VGG19Features, random_vgg19_state_dict
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(random_vgg19_state_dict(depth="conv2_2"), f"{folder}/vgg.pth")
        ...     vgg = VGG19Features(["relu1_2", "conv2_2"], pretrained=f"{folder}/vgg.pth")
        >>> {name: tuple(feat.shape) for name, feat in vgg(torch.rand(1, 3, 8, 8)).items()}
        {'relu1_2': (1, 64, 8, 8), 'conv2_2': (1, 128, 4, 4)}
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
        self.layers = {layer: layer_name(layer) for layer in layers}
        if not self.layers:
            raise UserError("layers: expected at least one layer of VGG-19, got none")
        deepest = max(LAYERS.index(name) for name in self.layers.values())
        self._computed_layers = LAYERS[: deepest + 1]
        convs, rescaling = load_vgg19(pretrained, LAYERS[deepest])
        for name, (weight, bias) in convs.items():
            self.register_buffer(f"{name}_weight", weight, persistent=False)
            self.register_buffer(f"{name}_bias", bias, persistent=False)
        # Cache of `_weights`: the conv1_1 weight that was cast, the autocast dtype, all weights in
        # that dtype. A `.to()` replaces the conv1_1 weight, and so makes the cache invalid.
        self._cast: tuple[Tensor, torch.dtype, dict[str, Tensor]] | None = None
        self.input_norm: nn.Module = nn.Identity()
        if use_input_norm:
            self.input_norm = _PointwiseConv(*rescaling) if rescaling else _MeanStd()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute VGG features of a batch of images.

        Args:
            x: RGB in [0, 1], (N, 3, H, W); H and W at least 2**p, p being the number of pooling
                layers up to the deepest layer.

        Returns:
            Features by the names in `layers`, (N, C, H // 2**p, W // 2**p), p being the number of
            pooling layers up to that layer.
        """
        found: dict[str, Tensor] = {}
        needed = set(self.layers.values())
        weights = self._weights(x)
        # Normalised in float32, then in the dtype of the weights; autocast may still change it.
        feat: Tensor = self.input_norm(at_least_float32(x)).to(self.conv1_1_weight.dtype)
        for before, name in pairwise(("", *self._computed_layers)):
            if name in CONV_SHAPES:
                feat = F.conv2d(feat, weights[f"{name}_weight"], weights[f"{name}_bias"], padding=1)
            elif name.startswith("relu"):
                feat = F.relu(feat, inplace=before not in needed)
            else:
                feat = F.max_pool2d(feat, kernel_size=2, stride=2)
            if name in needed:
                found[name] = feat
        return {layer: found[name] for layer, name in self.layers.items()}

    def _weights(self, x: Tensor) -> dict[str, Tensor]:
        """Return weights and biases by name, cast to the autocast dtype where that can be cached.

        The casts are cached here, because autocast caches those of trained parameters only and
        would cast these in every pass. Autocast casts what is returned unchanged.
        """
        weights, dtype = dict(self.named_buffers(recurse=False)), autocast_dtype(x)
        source = self.conv1_1_weight
        if dtype is None or source.dtype != torch.float32:
            return weights
        if self._cast is None or self._cast[0] is not source or self._cast[1] != dtype:
            if not torch.is_grad_enabled():
                return weights  # inference tensors cannot be saved for a later backward pass
            cast = {name: weight.to(dtype) for name, weight in weights.items()}
            self._cast = (source, dtype, cast)
        return self._cast[2]


class _MeanStd(nn.Module):
    """Normalisation of RGB in [0, 1] by ImageNet's statistics, as for torchvision's weights."""

    def __init__(self) -> None:
        super().__init__()
        mean, std = torch.tensor(IMAGENET).T.contiguous()
        self.mean = nn.Buffer(mean.view(1, 3, 1, 1), persistent=False)
        self.std = nn.Buffer(std.view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class _PointwiseConv(nn.Module):
    """The 1x1 convolution of the input in a rescaled file."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Buffer(weight, persistent=False)
        self.bias = nn.Buffer(bias, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # Not under autocast: half precision would quantise the image before VGG.
        with autocast_disabled(x):
            return F.conv2d(x.to(self.weight.dtype), self.weight, self.bias)
