"""The eight symmetries of a square, and the mean of a network's results under them (EDSR's x8)."""

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

from torch import Tensor


class Symmetry(NamedTuple):
    """Flips of rows and columns, then an exchange of both axes."""

    flip_rows: bool
    flip_columns: bool
    transpose: bool

    def apply(self, image: Tensor) -> Tensor:
        """Transform images of shape (…, H, W)."""
        image = image.flip(self._axes) if self._axes else image
        return image.mT if self.transpose else image

    def undo(self, image: Tensor) -> Tensor:
        """Reverse `apply`, of an image of any size."""
        image = image.mT if self.transpose else image
        return image.flip(self._axes) if self._axes else image

    @property
    def _axes(self) -> list[int]:
        return [-2] * self.flip_rows + [-1] * self.flip_columns


SYMMETRIES = tuple(Symmetry(*each) for each in product((False, True), repeat=3))


def self_ensemble(network: Callable[[Tensor], Tensor], lr: Tensor) -> Tensor:
    """Return the mean of a network's results on flipped and transposed images, turned back.

    Lim et al. 2017 (EDSR), section 3.4, call it geometric self-ensemble. It costs eight times the
    time.

    Args:
        network: Maps images (N, C, H, W) to images (N, C, H * scale, W * scale).
        lr: (N, C, H, W).

    Returns:
        (N, C, H * scale, W * scale).
    """
    total = network(lr)
    for symmetry in SYMMETRIES[1:]:
        total = total + symmetry.undo(network(symmetry.apply(lr)))
    return total / len(SYMMETRIES)
