"""Building blocks of the networks, their check of loaded weights, and their precision rules."""

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srgan_plugin.errors import PluginWarning, UserError

#: Activations by name; each is made for a number of slopes, which PReLU alone has.
ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "prelu": nn.PReLU,
    "relu": lambda slopes: nn.ReLU(),
    "leaky_relu": lambda slopes: nn.LeakyReLU(0.2),
    "swish": lambda slopes: nn.SiLU(),
}
#: Normalisations by name; each is made for a number of channels and an epsilon.
NORMS: dict[str, Callable[..., nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": nn.InstanceNorm2d,
    "instance_affine": partial(nn.InstanceNorm2d, affine=True),
}
#: What is applied to the last convolution's result, by name.
LAST_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "tanh": torch.tanh,
}


class PixelRange(NamedTuple):
    """How a network sees pixels: the maps from [0, 1] and back to it."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


#: Mean and standard deviation of R, G and B.
IMAGENET = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))


def _by_channel(function: Callable[[Tensor, float, float], Tensor]) -> Callable[[Tensor], Tensor]:
    """Apply a function of pixels, mean and std to each channel of (N, 3, H, W)."""
    return lambda x: torch.stack(
        [function(x[:, n], mean, std) for n, (mean, std) in enumerate(IMAGENET)], 1
    )


#: Ranges of a network's input and output.
PIXEL_RANGES: dict[Any, PixelRange] = {
    (0.0, 1.0): PixelRange(lambda x: x, lambda y: y),
    (-1.0, 1.0): PixelRange(lambda x: 2 * x - 1, lambda y: (y + 1) / 2),
    "imagenet": PixelRange(
        _by_channel(lambda x, mean, std: (x - mean) / std),
        _by_channel(lambda y, mean, std: y * std + mean),
    ),
}


class ShuffleUpsample(nn.Module):
    """Sub-pixel upsampling: a 3x3 convolution to `factor**2` times the channels, then the shuffle.

    Args:
        channels: Channels of input and output.
        factor: The shuffle's factor.
        act: The activation after the shuffle.
        batch_norm: Whether batch normalisation stands between the convolution and the shuffle.
    """

    def __init__(
        self, channels: int, factor: int, act: nn.Module, batch_norm: bool = False
    ) -> None:
        super().__init__()
        self.factor = factor
        self.upsample_conv = nn.Conv2d(channels, channels * factor**2, 3, padding=1)
        self.upsample_bn = nn.BatchNorm2d(channels * factor**2) if batch_norm else nn.Identity()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, factor*H, factor*W)."""
        wide = self.upsample_bn(self.upsample_conv(x))
        out: Tensor = self.act(F.pixel_shuffle(wide, self.factor))
        return out


class ResidualBlockNoBN(nn.Module):
    """x + conv(ReLU(conv(x))): MSRResNet's block, without batch normalisation as in EDSR."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (N, C, H, W)."""
        out: Tensor = x + self.conv2(F.relu(self.conv1(x), inplace=True))
        return out


class ResidualBlockBN(nn.Module):
    """x + BN(conv(act(BN(conv(x))))): SRResNet's block (Ledig et al. 2016, fig. 4).

    Args:
        channels: Channels of input and output.
        act: The activation; PReLU in the paper.
        norm: Makes a normalisation of so many channels.
    """

    def __init__(
        self, channels: int, act: nn.Module, norm: Callable[[int], nn.Module] = nn.BatchNorm2d
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = norm(channels)
        self.act = act
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (N, C, H, W)."""
        out: Tensor = x + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        return out


def refuse_foreign_weights(
    network: nn.Module, state_dict: Mapping[str, Tensor], prefix: str, *_: Any
) -> None:
    """Refuse weights most of which are another network's, even where loading is not strict.

    mmengine loads what fits and logs the rest, and so does BasicSR with `strict_load_g: false`: a
    checkpoint in other keys leaves random weights behind, and the run goes on. Few weights that
    fit, or none, are a choice (LoRA, a checkpoint of the discriminator alone): a warning.

    Args:
        network: Whose weights are loaded; a `load_state_dict` pre-hook of torch's.
        state_dict: What is loaded.
        prefix: With which the network's keys begin there.

    Raises:
        UserError: Fewer than half of the network's weights are in it, in their shape, and they
            are fewer than half of what it has under `prefix`.
    """
    named = chain(network.named_parameters(), network.named_buffers())
    own = {prefix + key: weight.shape for key, weight in named}
    given = [key for key in state_dict if key.startswith(prefix)]
    fits = {
        key for key in given if key in own and getattr(state_dict[key], "shape", None) == own[key]
    }
    if 2 * len(fits) >= len(own):
        return
    message = f"{type(network).__name__}: expected its {len(own)} weights, got {len(fits)} of them"
    if 2 * len(fits) >= len(given):
        warnings.warn(f"{message}; the others stay as they are", PluginWarning, stacklevel=2)
        return
    first = next(key for key in given if key not in fits)
    raise UserError(
        f"{message} and others (first {first}); read this checkpoint by "
        "srgan_plugin.checkpoints.load_generator_weights, which knows the keys of other code bases"
    )


# Losses are computed in float32 whatever the networks compute in.


def widened(x: Tensor) -> Tensor:
    """Return `x` in float32, or in float64 if it is; gradients are rounded once, to its type."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Leave autocast; the device `meta` has none, and torch refuses to leave it there."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
