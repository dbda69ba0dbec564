"""Colour shift and checkerboard, which PSNR, SSIM and NIQE do not show."""

import itertools
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from srgan_plugin.metrics import to_y

Image = NDArray[np.uint8]
Float = NDArray[np.float64]

_BLOCK: Final = 64
_STEP: Final = 32
# Frequencies in the spectrum of a block with periods of 2 and 4 pixels, those of pixel shuffles.
_LINES: Final = tuple(
    (row, column)
    for row, column in itertools.product((0, 16, 32, 48), (0, 16, 32))
    if (row, column) != (0, 0)
)
# Distance of the neighbouring frequencies, in steps of the spectrum.
_NEAR: Final = 3
_FAR: Final = 6


def colour_shift(image: Image, gt: Image) -> float:
    """Compute the largest difference of a channel's mean from GT, in levels of 255.

    Args:
        image: RGB, (H, W, 3), uint8.
        gt: GT image of the same shape.

    Returns:
        0 to 255.
    """
    means = [image.reshape(-1, 3).mean(0, dtype=np.float64) for image in (image, gt)]
    return float(np.abs(means[0] - means[1]).max())


def checkerboard(image: Image, smooth: Image) -> float:
    """Compute the strength of the checkerboard of an upscaled image, in levels of 255.

    This is the largest amplitude with a period of 2 or 4 pixels, in any direction, above that of
    the neighbouring frequencies. A value of about 1 is visible. It is not a ratio, because on a
    smooth image a pattern of a hundredth of a level is far above its neighbours. Photographs also
    have texture with these periods.

    Args:
        image: RGB, (H, W, 3), uint8, at least 64x64.
        smooth: The same LR image upscaled by bicubic; the difference from it is measured.

    Returns:
        At least 0.
    """
    spectrum = _spectrum(to_y(image) - to_y(smooth))
    return max(_amplitude(spectrum, row, column) for row, column in _LINES)


def _spectrum(detail: Float) -> Float:
    """Compute the mean power of overlapping blocks (Welch), (64, 64); it is 1 at (0, 0) for 1."""
    blocks = sliding_window_view(detail, (_BLOCK, _BLOCK))[::_STEP, ::_STEP]
    hann = np.hanning(_BLOCK + 1)[:-1]
    window = np.outer(hann, hann) / hann.sum() ** 2
    power: Float = (np.abs(np.fft.fft2(blocks * window)) ** 2).mean((0, 1))
    return power


def _amplitude(spectrum: Float, row: int, column: int) -> float:
    """Compute the amplitude of a frequency above the mean power of its neighbours."""
    offsets = range(-_FAR, _FAR + 1)
    around = [
        spectrum[(row + y) % _BLOCK, (column + x) % _BLOCK]
        for y, x in itertools.product(offsets, offsets)
        if max(abs(y), abs(x)) >= _NEAR
    ]
    excess = max(spectrum[row, column] - np.mean(around), 0.0)
    # The energy of a wave is at two frequencies, unless they are the same.
    lines = 1 if row % 32 == column % 32 == 0 else 2
    return float(lines * np.sqrt(excess))
