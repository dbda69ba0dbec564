"""What PSNR, SSIM and NIQE do not show: colour shift and checkerboard."""

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
# Two pixel shuffles repeat themselves after 2 and 4 pixels: where that is in a block's spectrum.
_LINES: Final = tuple(
    (row, column)
    for row, column in itertools.product((0, 16, 32, 48), (0, 16, 32))
    if (row, column) != (0, 0)
)
_NEAR, _FAR = 3, 6  # of a line's neighbours, in steps of the spectrum


def colour_shift(image: Image, gt: Image) -> float:
    """By how many levels of 255 the mean of red, green or blue is off, whichever is most.

    Args:
        image: (H, W, 3), uint8, RGB.
        gt: The image that it should be, likewise.
    """
    means = [image.reshape(-1, 3).mean(0, dtype=np.float64) for image in (image, gt)]
    return float(np.abs(means[0] - means[1]).max())


def checkerboard(image: Image, smooth: Image) -> float:
    """How strong a checkerboard the upsampling left, in levels of 255; from about 1 it can be seen.

    The amplitude of what has a period of 2 or 4 pixels, in the worst direction, so far as it stands
    out of neighbouring frequencies. In levels, not as a ratio: on a smooth image a pattern of a
    hundredth of a level stands out by far. Photographs have texture of those periods, too.

    Args:
        image: (H, W, 3), uint8, RGB, at least 64 pixels high and wide.
        smooth: The same enlarged by bicubic; what was added to it is looked at.
    """
    spectrum = _spectrum(to_y(image) - to_y(smooth))
    return max(_amplitude(spectrum, row, column) for row, column in _LINES)


def _spectrum(detail: Float) -> Float:
    """Mean power of overlapping blocks (Welch): (64, 64); a constant of 1 makes 1 at (0, 0)."""
    blocks = sliding_window_view(detail, (_BLOCK, _BLOCK))[::_STEP, ::_STEP]
    taps = np.hanning(_BLOCK + 1)[:-1]
    window = np.outer(taps, taps) / taps.sum() ** 2
    power: Float = (np.abs(np.fft.fft2(blocks * window)) ** 2).mean((0, 1))
    return power


def _amplitude(spectrum: Float, row: int, column: int) -> float:
    """Of the wave at a line of the spectrum, without the energy that is around it anyway."""
    offsets = range(-_FAR, _FAR + 1)
    around = [
        spectrum[(row + y) % _BLOCK, (column + x) % _BLOCK]
        for y, x in itertools.product(offsets, offsets)
        if max(abs(y), abs(x)) >= _NEAR
    ]
    excess = max(spectrum[row, column] - np.mean(around), 0.0)
    # A wave's energy is in two lines, unless it is the same one.
    lines = 1 if row % 32 == column % 32 == 0 else 2
    return float(lines * np.sqrt(excess))
