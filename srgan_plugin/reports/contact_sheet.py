"""Images side by side, labelled."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np

from srgan_plugin.io.images import Image

_BAND: Final = 28  # of a label
_GAP: Final = 4


class Region(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: Image) -> Image:
        """Cut it out."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


def sheet(rows: Sequence[dict[str, Image]], zoom: int = 1) -> Image:
    """Lay images of one size out, each under its label.

    Args:
        rows: By label, (H, W, 3), uint8, RGB; all rows have the same labels.
        zoom: Pixels are shown as squares of this size.

    Returns:
        (H', W', 3), uint8, RGB, on white.
    """
    lines = []
    for row in rows:
        cells = []
        for label, image in row.items():
            large = image.repeat(zoom, 0).repeat(zoom, 1)
            cell = np.full((_BAND + large.shape[0], large.shape[1] + _GAP, 3), 255, np.uint8)
            cell[_BAND:, _GAP:] = large
            cv2.putText(cell, label, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1)
            cells.append(cell)
        lines.append(np.concatenate(cells, axis=1))
    return np.concatenate(lines)
