"""PSNR and SSIM of two pictures, in RGB or on luma, in float64 numpy."""

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from srgan_plugin.errors import UserError

Channel = Literal["rgb", "y"]
ImageArray = NDArray[Any]
Float = NDArray[np.float64]

PEAK = 255.0
# Wang et al. 2004: an 11x11 Gaussian of sigma 1.5, and the constants that keep flat areas defined.
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
NOT_FINITE = (
    "the prediction holds NaN or infinite values, expected numbers about 0 to 1: "
    "the network diverged, its checkpoint is damaged, or half precision (fp16) overflowed"
)
# ITU-R BT.601, studio range.
BT601 = np.array([65.481, 128.553, 24.966]) / PEAK


def to_y(rgb: ImageArray) -> Float:
    """Gives the luma of a picture, unrounded.

    Args:
        rgb: (..., 3), RGB, 0 to 255.

    Returns:
        (...), 16 to 235: ITU-R BT.601 in studio range, as MATLAB's `rgb2ycbcr`, but not rounded.
    """
    luma: Float = rgb.astype(np.float64) @ BT601 + 16.0
    return luma


def quantize(pred: ImageArray) -> NDArray[np.uint8]:
    """Makes a network's output a picture: clamped, scaled to 0 to 255, rounded half to even.

    Args:
        pred: any shape, floating point, nominally 0 to 1.

    Raises:
        ValueError: an element is NaN or infinite, which no uint8 can tell.
    """
    if not np.isfinite(pred).all():
        raise UserError(NOT_FINITE)
    # Half precision cannot hold 255 times a value finely enough to round it.
    exact = np.asarray(pred, dtype=np.result_type(pred, np.float32))
    rounded: NDArray[np.uint8] = np.rint(np.clip(exact, 0, 1) * 255).astype(np.uint8)
    return rounded


def psnr(pred: ImageArray, gt: ImageArray, *, border: int = 0, channel: Channel = "rgb") -> float:
    """Measures the peak signal-to-noise ratio in dB, from one MSE over all pixels and channels.

    Args:
        pred: (h, w, 3), RGB, 0 to 255, uint8 or floating point.
        gt: the picture it is compared with, of the same shape and range.
        border: pixels left out at each edge.
        channel: "rgb", or "y" for the luma of `to_y`.

    Returns:
        dB; infinite where the two are equal.

    Raises:
        ValueError: shapes differ or are not (h, w, 3), or the border leaves nothing.
    """
    a, b = _prepare(pred, gt, border=border, channel=channel, smallest=1)
    mse = float(np.mean(np.square(a - b)))
    return float(10 * np.log10(PEAK**2 / mse)) if mse else float("inf")


def ssim(pred: ImageArray, gt: ImageArray, *, border: int = 0, channel: Channel = "rgb") -> float:
    """Measures structural similarity (Wang et al. 2004, eq. 13), per channel, then their mean.

    The window is an 11x11 Gaussian of sigma 1.5 and only its whole positions count ("valid" area).

    Args:
        pred: (h, w, 3), RGB, 0 to 255, uint8 or floating point.
        gt: the picture it is compared with, of the same shape and range.
        border: pixels left out at each edge, before the windows are laid.
        channel: "rgb", or "y" for the luma of `to_y`.

    Returns:
        At most 1, which only equal pictures reach.

    Raises:
        ValueError: shapes differ or are not (h, w, 3), or the border leaves less than a window.
    """
    a, b = _prepare(pred, gt, border=border, channel=channel, smallest=WINDOW)
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    product, power = mean_a * mean_b, mean_a**2 + mean_b**2
    covariance = _window_mean(a * b) - product
    variances = _window_mean(a**2 + b**2) - power
    similarity = ((2 * product + C1) * (2 * covariance + C2)) / ((power + C1) * (variances + C2))
    return float(similarity.mean())


def _window_mean(x: Float) -> Float:
    taps = cv2.getGaussianKernel(WINDOW, SIGMA)
    margin = WINDOW // 2
    filtered: Float = cv2.sepFilter2D(x, cv2.CV_64F, taps, taps)
    return filtered[margin:-margin, margin:-margin]


def _prepare(
    pred: ImageArray, gt: ImageArray, *, border: int, channel: Channel, smallest: int
) -> tuple[Float, Float]:
    """Checks the two pictures, cuts the border off and turns them into float64, RGB or luma."""
    if channel not in ("rgb", "y"):
        raise UserError(f"expected channel 'rgb' or 'y', got {channel!r}")
    height, width = check_comparable(pred.shape, gt.shape, border, smallest)
    inside = (slice(border, height - border), slice(border, width - border))
    return _values(pred[inside], channel), _values(gt[inside], channel)


def check_comparable(
    pred: tuple[int, ...], gt: tuple[int, ...], border: int, smallest: int
) -> tuple[int, int]:
    """Refuses pictures of these shapes that cannot be compared.

    Args:
        pred: (h, w, 3) of the prediction.
        gt: (h, w, 3) of the picture it is compared with.
        border: pixels left out at each edge.
        smallest: how many pixels must be left, each way.

    Returns:
        Height and width.

    Raises:
        ValueError: shapes differ or are not (h, w, 3), or the border leaves too little.
    """
    if pred != gt or len(pred) != 3 or pred[2] != 3:
        raise UserError(f"expected two RGB pictures of one shape (h, w, 3), got {pred} and {gt}")
    height, width = pred[:2]
    if border < 0 or min(height, width) - 2 * border < smallest:
        raise UserError(
            f"expected at least {smallest}x{smallest} pixels within a border of {border}, "
            f"got a picture of {height}x{width}: take a larger picture or a smaller border"
        )
    return height, width


def _values(image: ImageArray, channel: Channel) -> Float:
    return to_y(image) if channel == "y" else image.astype(np.float64)
