"""Where half precision ends: losses are computed in float32 whatever the networks compute in."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def widened(x: Tensor) -> Tensor:
    """Return `x` in float32, or in float64 if it is; gradients are rounded once, to its type."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Leave autocast; the device `meta` has none, and torch refuses to leave it there."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)
