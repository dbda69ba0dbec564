"""Where half precision ends: losses are computed in float32 whatever the networks compute in."""

import torch
from torch import Tensor


def widened(x: Tensor) -> Tensor:
    """Return `x` in float32, or in float64 if it is; gradients are rounded once, to its type."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
