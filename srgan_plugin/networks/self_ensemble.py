"""The eight symmetries of a square, and the geometric self-ensemble over them (EDSR)."""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor


class Symmetry(NamedTuple):
    """Reversal of the order of rows, and of columns, then a transposition."""

    flip_rows: bool
    flip_columns: bool
    transpose: bool

    def apply(self, image: Tensor) -> Tensor:
        """Transform images (…, H, W)."""
        image = image.flip(self._axes) if self._axes else image
        return image.mT if self.transpose else image

    def undo(self, image: Tensor) -> Tensor:
        """Invert `apply`; height and width may have changed in between."""
        image = image.mT if self.transpose else image
        return image.flip(self._axes) if self._axes else image

    @property
    def _axes(self) -> list[int]:
        return [-2] * self.flip_rows + [-1] * self.flip_columns


#: All eight, the identity first.
SYMMETRIES = tuple(Symmetry(*each) for each in product((False, True), repeat=3))


def self_ensemble(network: Callable[[Tensor], Tensor], lr: Tensor) -> Tensor:
    """Average a network's outputs over the eight flips and transpositions of its input.

    This is the geometric self-ensemble of Lim et al. 2017 (EDSR), section 4.3. It takes eight
    times as long as one pass.

    Args:
        network: Maps images (N, C, H, W) to images (N, C, H*scale, W*scale).
        lr: LR images, (N, C, H, W).

    Returns:
        The mean of the outputs, flipped and transposed back, (N, C, H*scale, W*scale), in at least
        float32, not clamped.

    Example:
        >>> import torch
        >>> from srgan_plugin.networks.self_ensemble import self_ensemble
        >>> lr = torch.rand(1, 3, 4, 6)
        >>> torch.allclose(self_ensemble(lambda x: x, lr), lr)
        True
    """
    first = network(lr)
    # In float32, because half precision would round each sum; a copy, because a CUDA graph writes
    # its next output to the same memory.
    total = first.to(torch.promote_types(first.dtype, torch.float32), copy=True)
    for symmetry in SYMMETRIES[1:]:
        total = total + symmetry.undo(network(symmetry.apply(lr)))
    return total / len(SYMMETRIES)
