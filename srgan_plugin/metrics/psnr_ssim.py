"""PSNR and SSIM of two images, plane by plane, in float64: of arrays or tensors."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srgan_plugin.errors import UserError, check_option

#: What is compared, one letter for each plane: "b" is blue alone, "y" is luma.
Channel = Literal["rgb", "b", "y"]
ImageArray = NDArray[Any]
Planes = Tensor | list[NDArray[np.float64]]

PEAK = 255.0
# Wang et al. 2004: an 11x11 Gaussian of sigma 1.5, and the constants that keep flat areas defined.
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
TAPS = cv2.getGaussianKernel(WINDOW, SIGMA)
NOT_FINITE = (
    "the prediction holds NaN or infinite values, expected numbers about 0 to 1: "
    "the network diverged, its checkpoint is damaged, or half precision (fp16) overflowed"
)


def luma(red: Any, green: Any, blue: Any) -> Any:
    """Return ITU-R BT.601 luma in studio range, unrounded, of arrays or tensors in 0 to 255."""
    return (65.481 * red + 128.553 * green + 24.966 * blue) / PEAK + 16.0


def to_y(rgb: ImageArray) -> NDArray[np.float64]:
    """Return the luma of an image, unrounded.

    Args:
        rgb: (..., 3), RGB, 0 to 255.

    Returns:
        (...), 16 to 235: ITU-R BT.601 in studio range, as MATLAB's `rgb2ycbcr`, but not rounded.
    """
    y: NDArray[np.float64] = luma(*np.moveaxis(rgb.astype(np.float64), -1, 0))
    return y


def quantize(pred: ImageArray) -> NDArray[np.uint8]:
    """Return a network's output as an image: clamped, scaled to 0 to 255, rounded half to even.

    Args:
        pred: Any shape, floating point, nominally 0 to 1.

    Raises:
        UserError: An element is NaN or infinite, which uint8 cannot hold.
    """
    if not np.isfinite(pred).all():
        raise UserError(NOT_FINITE)
    # Half precision cannot hold 255 times a value finely enough to round it.
    exact = np.asarray(pred, dtype=np.result_type(pred, np.float32))
    rounded: NDArray[np.uint8] = np.rint(np.clip(exact, 0, 1) * 255).astype(np.uint8)
    return rounded


def psnr(pred: ImageArray, gt: ImageArray, *, border: int = 0, channel: Channel = "rgb") -> float:
    """Return the peak signal-to-noise ratio in dB, from one MSE over all pixels and channels.

    Args:
        pred: (h, w, 3), RGB, 0 to 255, uint8 or floating point.
        gt: The image to compare with, of the same shape and range.
        border: Pixels left out at each edge.
        channel: "rgb", "b" for blue alone, or "y" for the luma of `to_y`.

    Returns:
        dB; infinite where the two are equal.

    Raises:
        UserError: Shapes differ or are not (h, w, 3), or the border leaves nothing.
    """
    return float(psnr_from_mse(mse_of(*_prepare(pred, gt, border, channel, smallest=1)).mean()))


def ssim(pred: ImageArray, gt: ImageArray, *, border: int = 0, channel: Channel = "rgb") -> float:
    """Return structural similarity (Wang et al. 2004, eq. 13), per channel, then their mean.

    The window is an 11x11 Gaussian of sigma 1.5 and only its whole positions count ("valid" area).

    Args:
        pred: (h, w, 3), RGB, 0 to 255, uint8 or floating point.
        gt: The image to compare with, of the same shape and range.
        border: Pixels left out at each edge, before the windows are laid.
        channel: "rgb", "b" for blue alone, or "y" for the luma of `to_y`.

    Returns:
        At most 1, which only equal images reach.

    Raises:
        UserError: Shapes differ or are not (h, w, 3), or the border leaves less than a window.
    """
    return float(ssim_of(*_prepare(pred, gt, border, channel, smallest=WINDOW)).mean())


def psnr_from_mse(mse: Tensor) -> Tensor:
    """Return the PSNR in dB that belongs to a mean squared error of values in 0 to 255."""
    return 10 * torch.log10(PEAK**2 / mse)


def mse_of(a: Planes, b: Planes) -> Tensor:
    """Return the mean squared error of each plane, without waiting for a GPU.

    Args:
        a: (n, h, w), float64: a tensor, or arrays one by one.
        b: What to compare with, likewise.

    Returns:
        (n,), float64.
    """
    return _plane_means(lambda p, q: (p - q) ** 2, a, b)


def ssim_of(a: Planes, b: Planes) -> Tensor:
    """Return the SSIM of each plane, without waiting for a GPU; arguments as of `mse_of`."""
    return _plane_means(_similarity, a, b)


def planes(image: Any, names: Iterable[str]) -> Planes:
    """Return planes of an RGB image by name: "r", "g", "b", and "y" for luma.

    Args:
        image: HWC array or CHW tensor, 0 to 255.
        names: Which planes, in which order.

    Returns:
        (n, h, w), float64: a tensor of a tensor, arrays one by one of an array.
    """
    if isinstance(image, Tensor):
        rgb: Any = image.double()
    else:
        rgb = [np.ascontiguousarray(image[..., i], dtype=np.float64) for i in range(3)]
    found = dict(zip("rgb", rgb, strict=True))
    chosen = [luma(*rgb) if name == "y" else found[name] for name in names]
    return torch.stack(chosen) if isinstance(image, Tensor) else chosen


def check_comparable(
    pred: tuple[int, ...], gt: tuple[int, ...], border: int, smallest: int
) -> tuple[slice, slice]:
    """Return what the border leaves of images of these shapes.

    Args:
        pred: (h, w, 3) of the prediction.
        gt: (h, w, 3) of the image to compare with.
        border: Pixels left out at each edge.
        smallest: How many pixels must be left, each way.

    Raises:
        UserError: Shapes differ or are not (h, w, 3), or the border leaves too little.
    """
    if pred != gt or len(pred) != 3 or pred[2] != 3:
        raise UserError(f"expected two RGB images of one shape (h, w, 3), got {pred} and {gt}")
    height, width = pred[:2]
    if border < 0 or min(height, width) - 2 * border < smallest:
        raise UserError(
            f"expected at least {smallest}x{smallest} pixels within a border of {border}, "
            f"got an image of {height}x{width}; take a larger image or a smaller border"
        )
    return slice(border, height - border), slice(border, width - border)


def _plane_means(compare: Callable[[Any, Any], Any], a: Planes, b: Planes) -> Tensor:
    """Return the mean of a comparison of each plane: of tensors at once, for the GPU's sake."""
    if isinstance(a, Tensor):
        means: Tensor = compare(a, b).mean((-2, -1))
        return means
    each = [float(compare(p, q).mean()) for p, q in zip(a, b, strict=True)]
    return torch.tensor(each, dtype=torch.float64)


def _similarity(a: Any, b: Any) -> Any:
    """Return SSIM wherever the window is whole."""
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    product, power = mean_a * mean_b, mean_a**2 + mean_b**2
    covariance = _window_mean(a * b) - product
    variances = _window_mean(a**2 + b**2) - power
    return ((2 * product + C1) * (2 * covariance + C2)) / ((power + C1) * (variances + C2))


def _window_mean(x: Any) -> Any:
    """Return means over an 11x11 Gaussian window, wherever it is whole."""
    if isinstance(x, np.ndarray):  # cv2's filter takes a twelfth of the time of these sums on a CPU
        inside = slice(WINDOW // 2, -(WINDOW // 2))
        return cv2.sepFilter2D(x, cv2.CV_64F, TAPS, TAPS)[inside, inside]
    for axis in (-1, -2):
        size = x.shape[axis] - WINDOW + 1
        parts = [x.narrow(axis, start, size) for start in range(WINDOW)]
        x = sum(part * tap for part, tap in zip(parts, TAPS.ravel().tolist(), strict=True))
    return x


def _prepare(
    pred: ImageArray, gt: ImageArray, border: int, channel: Channel, smallest: int
) -> list[Planes]:
    check_option("channel", channel, ("rgb", "b", "y"))
    inside = check_comparable(pred.shape, gt.shape, border, smallest)
    return [planes(image[inside], channel) for image in (pred, gt)]
