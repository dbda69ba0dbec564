"""The probe image, on which the outputs of two networks are compared."""

import torch
from torch import Tensor


def probe_image(channels: int, height: int, width: int) -> Tensor:
    """Return the probe image, the same at each call: noise on a horizontal ramp.

    Args:
        channels: Number of channels.
        height: Height.
        width: Width.

    Returns:
        (1, channels, height, width) in [0, 1], float32.
    """
    noise = torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(0))
    ramp = torch.linspace(0, 1, width).expand_as(noise)
    return (noise + ramp) / 2
