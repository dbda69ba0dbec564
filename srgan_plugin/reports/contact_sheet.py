"""Lay out labelled images side by side."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np

from srgan_plugin.io.array_types import RGBArray

_LABEL_HEIGHT: Final = 28  # pixels
_GAP: Final = 4  # pixels between images


class Region(NamedTuple):
    """Rectangle in an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: RGBArray) -> RGBArray:
        """Return this part of an image, (H, W, …)."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


def most_detail(image: RGBArray, side: int) -> Region:
    """Return the square region with the most detail, measured by the Laplacian.

    Args:
        image: Image of shape (H, W, 3), uint8, RGB.
        side: Height and width of the region, limited to the size of the image.
    """
    height, width = (min(side, size) for size in image.shape[:2])
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    strength = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    sums = cv2.integral(strength)
    windows = (sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width]) + sums[
        :-height, :-width
    ]
    top, left = np.unravel_index(int(np.argmax(windows)), windows.shape)
    return Region(int(top), int(left), height, width)


def sheet(rows: Sequence[dict[str, RGBArray]], zoom: int = 1) -> RGBArray:
    """Lay out images in rows, each below its label.

    Args:
        rows: List of {label: image}. Images are (H, W, 3), uint8, RGB; in a row, of equal
            height.
        zoom: Integer factor by which images are magnified by repeating pixels.

    Returns:
        Image, (H', W', 3), uint8, RGB, with a white background.
    """
    lines = []
    for row in rows:
        cells = []
        for label, image in row.items():
            large = image.repeat(zoom, 0).repeat(zoom, 1)
            cell = np.full(
                (_LABEL_HEIGHT + large.shape[0], large.shape[1] + _GAP, 3), 255, np.uint8
            )
            cell[_LABEL_HEIGHT:, _GAP:] = large
            cv2.putText(cell, label, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1)
            cells.append(cell)
        lines.append(np.concatenate(cells, axis=1))
    width = max(line.shape[1] for line in lines)
    padding = (((0, 0), (0, width - line.shape[1]), (0, 0)) for line in lines)
    padded = (np.pad(a, p, constant_values=255) for a, p in zip(lines, padding, strict=True))
    return np.concatenate(list(padded))
