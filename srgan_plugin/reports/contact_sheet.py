"""Images side by side, labelled."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from srgan_plugin.io.atomic import atomic_path

Image = NDArray[np.uint8]

_BAND: Final = 28  # of a label
_GAP: Final = 4


class Region(NamedTuple):
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: Image) -> Image:
        """Cuts it out."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


def sheet(rows: Sequence[dict[str, Image]], zoom: int = 1) -> Image:
    """Lays pictures of one size out, each under its label.

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


def write_webp(target: Path, rgb: Image, quality: int = 95) -> None:
    """Writes a small file of a picture, whole or not at all.

    Args:
        target: Ends in `.webp`.
        rgb: (H, W, 3), uint8, RGB.
        quality: Up to 100.
    """
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, quality])
    assert done
    with atomic_path(target) as temporary:
        temporary.write_bytes(encoded.tobytes())
