"""Building blocks of the networks, the check of loaded weights, and the rules of precision."""

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

#: Activation by name, as a function of the number of learned slopes, which PReLU alone has.
ACTIVATIONS: dict[str, Callable[[int], nn.Module]] = {
    "prelu": nn.PReLU,
    "relu": lambda slopes: nn.ReLU(),
    "leaky_relu": lambda slopes: nn.LeakyReLU(0.2),
    "swish": lambda slopes: nn.SiLU(),
}
#: Normalisation by name, as a function of the number of channels and `eps`.
NORMS: dict[str, Callable[..., nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": nn.InstanceNorm2d,
    "instance_affine": partial(nn.InstanceNorm2d, affine=True),
}
#: Function of the last convolution's output, by name.
LAST_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "tanh": torch.tanh,
}


class PixelRange(NamedTuple):
    """A network's range of pixels: the maps from [0, 1] to it and back."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


#: Mean and standard deviation of R, G and B in [0, 1], over ImageNet.
IMAGENET = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))


def _by_channel(function: Callable[[Tensor, float, float], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return a map of RGB (N, 3, H, W) that calls `function(pixels, mean, std)` by channel."""
    return lambda x: torch.stack(
        [function(x[:, n], mean, std) for n, (mean, std) in enumerate(IMAGENET)], 1
    )


#: Ranges of pixels that a network may take or produce.
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
        factor: Factor of height and width.
        act: Activation after the shuffle.
        batch_norm: Normalise between the convolution and the shuffle.
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
        out: Tensor = self.act(pixel_shuffle(wide, self.factor))
        return out


def pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    """Shuffle pixels as torch does, but keep channels-last, which torch does only on a CPU.

    Otherwise the next convolution would copy its input, and the last one the gradient, into that
    format.

    Args:
        x: (N, C * factor**2, H, W).
        factor: Factor of height and width.

    Returns:
        (N, C, factor*H, factor*W), in the memory format of `x`.
    """
    torch_suffices = x.device.type == "cpu" or not is_channels_last(x)
    return F.pixel_shuffle(x, factor) if torch_suffices else shuffle_channels_last(x, factor)


def shuffle_channels_last(x: Tensor, factor: int) -> Tensor:
    """Shuffle pixels, with one copy forward and one back; the result is channels-last."""
    n, c, h, w = x.shape
    pixels = x.permute(0, 2, 3, 1).view(n, h, w, c // factor**2, factor, factor)
    wide = pixels.permute(0, 1, 4, 2, 5, 3).reshape(n, h * factor, w * factor, c // factor**2)
    return wide.permute(0, 3, 1, 2)


class ResidualBlockNoBN(nn.Module):
    """x + conv(ReLU(conv(x))): MSRResNet's block, without batch normalisation as in EDSR."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        out: Tensor = x + self.conv2(F.relu(self.conv1(x), inplace=True))
        return out


class ResidualBlockBN(nn.Module):
    """x + BN(conv(act(BN(conv(x))))): SRResNet's block (Ledig et al. 2016, fig. 4).

    Args:
        channels: Channels of input and output.
        act: Activation; PReLU in the paper.
        norm: Function from the number of channels to a normalisation layer.
        depthwise: Whether to use a depthwise 3x3 and a 1x1 convolution in place of two of 3x3.
    """

    def __init__(
        self,
        channels: int,
        act: nn.Module,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        *,
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        groups, second = (channels, 1) if depthwise else (1, 3)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, groups=groups)
        self.bn1 = norm(channels)
        self.act = act
        self.conv2 = nn.Conv2d(channels, channels, second, padding=second // 2)
        self.bn2 = norm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        out: Tensor = x + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        return out


def refuse_foreign_weights(
    network: nn.Module, state_dict: Mapping[str, Tensor], prefix: str, *_: Any
) -> None:
    """Raise `UserError` for a state dict of another network, even where loading is not strict.

    mmengine loads the keys that match and logs the others, and so does BasicSR with
    `strict_load_g: false`: a checkpoint with other keys would leave random weights, and the run
    would continue. Where keys match but weights are missing, the user may want that (LoRA, another
    scale, the discriminator alone): the function warns.

    Args:
        network: The network to load into; torch passes it to its load_state_dict pre-hooks.
        state_dict: Weights by key.
        prefix: Beginning of the network's keys in `state_dict`.

    Raises:
        UserError: Fewer than half of the network's weights are in `state_dict` with their shape,
            and fewer than half of the keys under `prefix` match.
    """
    named = chain(network.named_parameters(), network.named_buffers())
    # Counters of batch normalisation are missing in files of old versions of torch.
    own = {
        prefix + key: weight.shape
        for key, weight in named
        if not key.endswith("num_batches_tracked")
    }
    given = [key for key in state_dict if key.startswith(prefix)]
    fits = {
        key for key in given if key in own and getattr(state_dict[key], "shape", None) == own[key]
    }
    if len(fits) == len(own):
        return
    message = f"{type(network).__name__}: expected its {len(own)} weights, got {len(fits)} of them"
    if 2 * len(fits) >= min(len(given), len(own)):
        warnings.warn(f"{message}; the others are not changed", PluginWarning, stacklevel=2)
        return
    first = next(key for key in given if key not in fits)
    raise UserError(
        f"{message} and others (first {first}); read this checkpoint with "
        "srgan_plugin.checkpoints.load_generator_weights, which converts keys of other code bases"
    )


def is_channels_last(x: Tensor) -> bool:
    """Return whether a batch of images is channels-last and not contiguous."""
    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


# Losses are computed in float32 or float64, whatever the dtype of the networks.


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32, or unchanged if it is float64; gradients get the dtype of `x`."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def autocast_disabled(x: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast; torch has no autocast for the device `meta`."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def autocast_dtype(x: Tensor) -> torch.dtype | None:
    """Return the dtype to which autocast casts float32 inputs of convolutions on the device of `x`.

    Returns:
        The dtype; None if autocast is off.
    """
    device = x.device.type
    on = not x.is_meta and torch.is_autocast_enabled(device)
    return torch.get_autocast_dtype(device) if on else None
