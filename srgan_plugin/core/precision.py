"""Where half precision ends: losses are computed in float32 whatever the networks compute in."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def widened(x: Tensor) -> Tensor:
    """Return `x` in float32, or in float64 if it is; gradients are rounded once, to its type."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Leave autocast where the device of `x` has it; `meta` has not, and torch refuses to leave."""
    device = x.device.type
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()
