"""Building blocks of the networks, their check of loaded weights, and their precision rules."""

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srgan_plugin.errors import PluginWarning, UserError


class ShuffleUpsample(nn.Module):
    """Sub-pixel upsampling: a 3x3 convolution to `factor**2` times the channels, then the shuffle.

    Args:
        channels: Channels of input and output.
        factor: The shuffle's factor.
        act: The activation after the shuffle.
    """

    def __init__(self, channels: int, factor: int, act: nn.Module) -> None:
        super().__init__()
        self.factor = factor
        self.upsample_conv = nn.Conv2d(channels, channels * factor**2, 3, padding=1)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, factor*H, factor*W)."""
        out: Tensor = self.act(F.pixel_shuffle(self.upsample_conv(x), self.factor))
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
    """x + BN(conv(PReLU(BN(conv(x))))): SRResNet's block (Ledig et al. 2016, fig. 4)."""

    def __init__(self, channels: int, act: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act = act
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)

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
