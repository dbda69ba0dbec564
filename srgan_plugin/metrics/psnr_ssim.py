"""PSNR and SSIM of two images (arrays), and of planes of arrays or tensors, in float64."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srgan_plugin.errors import UserError, check_at_least, check_option

#: Planes to compare, one letter for each: "b" is blue only, as in OpenMMLab's published SSIM (see
#: docs/protocols.md), "y" is luma.
Channel = Literal["rgb", "b", "y"]
ImageArray = NDArray[Any]
Planes = Tensor | list[NDArray[np.float64]]

PEAK = 255.0
# Wang et al. 2004: an 11x11 Gaussian of sigma 1.5, and constants that avoid 0 / 0 in flat areas.
WINDOW = 11
SIGMA = 1.5
C1 = (0.01 * PEAK) ** 2
C2 = (0.03 * PEAK) ** 2
GAUSSIAN = cv2.getGaussianKernel(WINDOW, SIGMA)
NOT_FINITE = (
    "prediction: expected finite values, got NaN or infinite ones; "
    "the network diverged, its checkpoint is damaged, or half precision (fp16) overflowed"
)


def luma(red: Any, green: Any, blue: Any) -> Any:
    """Compute ITU-R BT.601 luma in studio range, not rounded.

    Args:
        red: Red channel in [0, 255], an array or tensor of any shape.
        green: Green channel, of the same type and shape.
        blue: Blue channel, of the same type and shape.

    Returns:
        Luma in [16, 235], of the same type and shape.
    """
    return (65.481 * red + 128.553 * green + 24.966 * blue) / PEAK + 16.0


def to_y(rgb: ImageArray) -> NDArray[np.float64]:
    """Compute the luma of an image.

    Args:
        rgb: RGB in [0, 255], (..., 3).

    Returns:
        Luma in [16, 235], (...): ITU-R BT.601 in studio range, as by MATLAB's `rgb2ycbcr` but not
        rounded.

    Example:
        >>> import numpy as np
        >>> from srgan_plugin.metrics import to_y
        >>> to_y(np.array([[[0, 0, 0], [255, 255, 255]]]))
        array([[ 16., 235.]])
    """
    y: NDArray[np.float64] = luma(*np.moveaxis(rgb.astype(np.float64), -1, 0))
    return y


def quantize(pred: ImageArray) -> NDArray[np.uint8]:
    """Convert a network's output to uint8: clamp, scale to [0, 255], round half to even.

    Args:
        pred: Floating point, any shape; values outside [0, 1] are clamped.

    Returns:
        uint8 in [0, 255], same shape.

    Raises:
        UserError: An element is NaN or infinite.

    Example:
        >>> import numpy as np
        >>> from srgan_plugin.metrics import quantize
        >>> quantize(np.array([-0.1, 0.5, 1.2]))
        array([  0, 128, 255], dtype=uint8)
    """
    if not np.isfinite(pred).all():
        raise UserError(NOT_FINITE)
    # float16 is too coarse for values up to 255 to be rounded.
    exact = np.asarray(pred, dtype=np.result_type(pred, np.float32))
    rounded: NDArray[np.uint8] = np.rint(np.clip(exact, 0, 1) * 255).astype(np.uint8)
    return rounded


def psnr(pred: ImageArray, gt: ImageArray, *, border: int = 0, channel: Channel = "rgb") -> float:
    """Compute the peak signal-to-noise ratio from one MSE over all pixels and channels.

    Args:
        pred: RGB in [0, 255], (H, W, 3), uint8 or floating point.
        gt: GT image of the same shape and range.
        border: Pixels to crop from each edge first.
        channel: "rgb", "b" for blue only, or "y" for the luma of `to_y`.

    Returns:
        PSNR in dB; infinite if the compared channels are equal.

    Raises:
        UserError: The shapes differ or are not (H, W, 3), the cropped image is empty, `channel` is
            unknown, or `border` is negative.

    Example:
        >>> import numpy as np
        >>> from srgan_plugin.metrics import psnr
        >>> gt = np.full((16, 16, 3), 100, np.uint8)
        >>> psnr(gt, gt), round(psnr(gt + np.uint8(10), gt, border=4, channel="y"), 2)
        (inf, 29.45)
    """
    return float(
        psnr_from_mse(mse_by_plane(*_prepare(pred, gt, border, channel, smallest=1)).mean())
    )


def ssim(pred: ImageArray, gt: ImageArray, *, border: int = 0, channel: Channel = "rgb") -> float:
    """Compute structural similarity (Wang et al. 2004, eq. 13), averaged over channels.

    The window is an 11x11 Gaussian of sigma 1.5, at the positions where it is inside the image
    ("valid").

    Args:
        pred: RGB in [0, 255], (H, W, 3), uint8 or floating point.
        gt: GT image of the same shape and range.
        border: Pixels to crop from each edge first.
        channel: "rgb", "b" for blue only, or "y" for the luma of `to_y`.

    Returns:
        SSIM in [-1, 1]; 1 if the compared channels are equal.

    Raises:
        UserError: The shapes differ or are not (H, W, 3), the cropped image is smaller than the
            window, `channel` is unknown, or `border` is negative.

    Example:
        >>> import numpy as np
        >>> from srgan_plugin.metrics import ssim
        >>> gt = np.arange(16 * 16 * 3, dtype=np.float64).reshape(16, 16, 3) / 3
        >>> ssim(gt, gt), round(ssim(gt + 10, gt), 3)
        (1.0, 0.997)
    """
    return float(ssim_by_plane(*_prepare(pred, gt, border, channel, smallest=WINDOW)).mean())


def psnr_from_mse(mse: Tensor) -> Tensor:
    """Compute PSNR in dB from the mean squared error of values in [0, 255]."""
    return 10 * torch.log10(PEAK**2 / mse)


def mse_by_plane(a: Planes, b: Planes) -> Tensor:
    """Compute the mean squared error by plane, without synchronising with a GPU.

    Args:
        a: Planes, float64: a tensor (n, H, W), or a list of n arrays (H, W).
        b: Planes of the same shape and type.

    Returns:
        (n,), float64.
    """
    return _plane_means(lambda p, q: (p - q) ** 2, a, b)


def ssim_by_plane(a: Planes, b: Planes) -> Tensor:
    """Compute the SSIM by plane; arguments and result as for `mse_by_plane`."""
    return _plane_means(_similarity, a, b)


def split_planes(image: Any, names: Iterable[str]) -> Planes:
    """Return planes of an RGB image by name: "r", "g", "b", and "y" for luma.

    Args:
        image: RGB in [0, 255], array (H, W, 3) or tensor (3, H, W).
        names: Names of the planes, in the order of the result.

    Returns:
        Planes, float64: a tensor (n, H, W) for a tensor, a list of n arrays (H, W) for an array.
    """
    if isinstance(image, Tensor):
        rgb: Any = image.double()
    else:
        rgb = [np.ascontiguousarray(image[..., i], dtype=np.float64) for i in range(3)]
    by_name = dict(zip("rgb", rgb, strict=True))
    chosen = [luma(*rgb) if name == "y" else by_name[name] for name in names]
    return torch.stack(chosen) if isinstance(image, Tensor) else chosen


def check_comparable(
    pred: tuple[int, ...],
    gt: tuple[int, ...],
    border: int,
    smallest: int,
    *,
    channels_first: bool = False,
) -> tuple[slice, slice]:
    """Check the shapes of two images and return the rows and columns inside the border.

    Args:
        pred: Shape of the prediction, (H, W, 3), or (3, H, W) with `channels_first`.
        gt: Shape of the GT image, in the same order.
        border: Pixels to crop from each edge, at least 0.
        smallest: Smallest height and width allowed after cropping.
        channels_first: Whether the channels are the first axis, as in tensors.

    Returns:
        Slices of the rows and of the columns, for the axes H and W.

    Raises:
        UserError: The shapes differ or are not of one RGB image, `border` is negative, or the
            cropped image is too small.
    """
    if pred != gt or len(pred) != 3 or pred[0 if channels_first else 2] != 3:
        expected = "(3, H, W)" if channels_first else "(H, W, 3)"
        raise UserError(
            f"images: expected two of one shape {expected}, got {tuple(pred)} and {tuple(gt)}"
        )
    height, width = pred[1:] if channels_first else pred[:2]
    check_at_least(0, border=border)
    if min(height, width) - 2 * border < smallest:
        raise UserError(
            f"image: expected at least {smallest}x{smallest} pixels within a border of {border}, "
            f"got {height}x{width}; use a larger image or a smaller border"
        )
    return slice(border, height - border), slice(border, width - border)


def _plane_means(compare: Callable[[Any, Any], Any], a: Planes, b: Planes) -> Tensor:
    """Compute the mean of `compare` by plane; all planes of a tensor at once, for a GPU."""
    if isinstance(a, Tensor):
        means: Tensor = compare(a, b).mean((-2, -1))
        return means
    each = [float(compare(p, q).mean()) for p, q in zip(a, b, strict=True)]
    return torch.tensor(each, dtype=torch.float64)


def _similarity(a: Any, b: Any) -> Any:
    """Compute SSIM at all positions where the window is inside the image."""
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    product, power = mean_a * mean_b, mean_a**2 + mean_b**2
    covariance = _window_mean(a * b) - product
    variances = _window_mean(a**2 + b**2) - power
    return ((2 * product + C1) * (2 * covariance + C2)) / ((power + C1) * (variances + C2))


def _window_mean(x: Any) -> Any:
    """Compute means over an 11x11 Gaussian window at all positions inside the image."""
    if isinstance(x, np.ndarray):  # a fifth of the time of the sums below
        inside = slice(WINDOW // 2, -(WINDOW // 2))
        return cv2.sepFilter2D(x, cv2.CV_64F, GAUSSIAN, GAUSSIAN)[inside, inside]
    for axis in (-1, -2):
        size = x.shape[axis] - WINDOW + 1
        parts = [x.narrow(axis, start, size) for start in range(WINDOW)]
        weights = GAUSSIAN.ravel().tolist()
        x = sum(part * weight for part, weight in zip(parts, weights, strict=True))
    return x


def _prepare(
    pred: ImageArray, gt: ImageArray, border: int, channel: Channel, smallest: int
) -> list[Planes]:
    """Check, crop and split both images into planes; `smallest` as for `check_comparable`."""
    check_option("channel", channel, ("rgb", "b", "y"))
    inside = check_comparable(pred.shape, gt.shape, border, smallest)
    return [split_planes(image[inside], channel) for image in (pred, gt)]
