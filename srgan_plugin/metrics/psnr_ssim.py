"""PSNR and SSIM of two RGB images (arrays); for each channel, of arrays or tensors."""

from collections.abc import Callable, Collection
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srgan_plugin.errors import UserError, check_count, check_option

#: Channels to compare, a letter for each: "b" is blue only, as in OpenMMLab's published SSIM (see
#: docs/protocols.md), "y" is luma.
Channel = Literal["rgb", "b", "y"]
ImageArray = NDArray[Any]
#: A plane is the (H, W) values of one channel: of red, green, blue or luma.
Planes = Tensor | list[NDArray[np.float64]]

PEAK = 255.0
# Wang et al. 2004: an 11x11 Gaussian of sigma 1.5, and constants that avoid 0 / 0 in flat areas.
WINDOW = 11
_GAUSSIAN = cv2.getGaussianKernel(WINDOW, 1.5)
_C1 = (0.01 * PEAK) ** 2
_C2 = (0.03 * PEAK) ** 2
NOT_FINITE = (
    "prediction: expected finite values, got NaN or infinite ones; "
    "the network diverged, its checkpoint is damaged, or half precision (fp16) overflowed"
)


def luma(red: Any, green: Any, blue: Any) -> Any:
    """Compute ITU-R BT.601 luma in studio range, not rounded.

    Args:
        red: Red channel in [0, 255], a floating-point array or tensor of any shape.
        green: Green channel, of the same type and shape.
        blue: Blue channel, of the same type and shape.

    Returns:
        Luma in [16, 235], of the same type and shape.
    """
    return (65.481 * red + 128.553 * green + 24.966 * blue) / PEAK + 16.0


def to_y(rgb: ImageArray) -> NDArray[np.float64]:
    """Compute the luma of an image.

    Args:
        rgb: RGB in [0, 255], (..., 3), integers or floating point.

    Returns:
        Luma in [16, 235], (...): ITU-R BT.601 in studio range, as by MATLAB's `rgb2ycbcr` of a
        double image, which is not rounded.

    Raises:
        UserError: The last axis does not have three channels, or `rgb` is not an array of numbers.

    Example:
        >>> import numpy as np
        >>> from srgan_plugin.metrics import to_y
        >>> to_y(np.array([[[0, 0, 0], [255, 255, 255]]]))
        array([[ 16., 235.]])
    """
    check_arrays(rgb=rgb)
    if rgb.shape[-1:] != (3,):
        raise UserError(
            f"rgb: expected RGB of shape (..., 3), got {rgb.shape}; convert grey or RGBA to RGB"
        )
    y: NDArray[np.float64] = luma(*np.moveaxis(rgb.astype(np.float64), -1, 0))
    return y


def quantize(pred: ImageArray) -> NDArray[np.uint8]:
    """Convert a network's output to uint8: clamp, scale to [0, 255], round half to even.

    Args:
        pred: Floating point, any shape; values outside [0, 1] are clamped.

    Returns:
        uint8 in [0, 255], same shape.

    Raises:
        UserError: `pred` is not a floating-point array, or an element is NaN or infinite.

    Example:
        >>> import numpy as np
        >>> from srgan_plugin.metrics import quantize
        >>> quantize(np.array([-0.1, 0.5, 1.2]))
        array([  0, 128, 255], dtype=uint8)
    """
    return to_levels(pred).astype(np.uint8)


def to_levels(pred: ImageArray, *, peak: float = 1, rounding: bool = True) -> ImageArray:
    """Clamp a floating-point prediction and scale it to [0, 255].

    Args:
        pred: Floating point, any shape; values outside [0, `peak`] are clamped.
        peak: Value of white in the prediction, such as 255; default 1.
        rounding: Whether to round half to even; default True.

    Returns:
        Floating point in [0, 255], same shape; float64 if it is not rounded.

    Raises:
        UserError: `pred` is not a floating-point array, an element is NaN or infinite, or `peak`
            is not positive.
    """
    check_arrays(prediction=pred)
    if pred.dtype.kind != "f":
        raise UserError(
            f"prediction: expected floating point, got {pred.dtype}; "
            "integers in [0, 255] only need astype(np.uint8)"
        )
    if not np.isfinite(pred).all():
        raise UserError(NOT_FINITE)
    if not 0 < peak < np.inf:
        raise UserError(f"peak: expected a positive number, got {peak}")
    # float16 would round the products with 255 before `np.rint`.
    dtype = np.result_type(pred, np.float32) if rounding else np.dtype(np.float64)
    levels: ImageArray = np.clip(pred.astype(dtype), 0, peak) * (PEAK / peak)
    return np.rint(levels) if rounding else levels


def psnr(pred: ImageArray, gt: ImageArray, *, border: int = 0, channel: Channel = "rgb") -> float:
    """Compute the peak signal-to-noise ratio from one MSE over all compared channels.

    Args:
        pred: RGB in [0, 255], (H, W, 3), integers or floating point, used as it is (see
            `quantize`).
        gt: GT image of the same shape and range.
        border: Pixels to crop from each edge, at least 0; default 0.
        channel: "rgb" (default), "b" for blue only, or "y" for the luma of `to_y`.

    Returns:
        PSNR in dB; infinite if the compared channels are equal, NaN if an image has values that
        are not finite.

    Raises:
        UserError: An image is not an array of numbers, the shapes differ or are not (H, W, 3), the
            cropped image is empty, `channel` is unknown, or `border` is not an integer of at least
            0.

    Example:
        >>> import numpy as np
        >>> from srgan_plugin.metrics import psnr
        >>> gt = np.full((16, 16, 3), 100, np.uint8)
        >>> psnr(gt, gt), round(psnr(gt + np.uint8(10), gt, border=4, channel="y"), 2)
        (inf, 29.45)
    """
    planes = _prepare(pred, gt, border, channel, smallest=1)
    return float(psnr_from_mse(mse_by_plane(*planes).mean()))


def ssim(pred: ImageArray, gt: ImageArray, *, border: int = 0, channel: Channel = "rgb") -> float:
    """Compute structural similarity, averaged over windows (Wang et al. 2004, eq. 17) and channels.

    The window is an 11x11 Gaussian of sigma 1.5, at the positions where it is inside the image
    ("valid").

    Args:
        pred: RGB in [0, 255], (H, W, 3), integers or floating point, used as it is (see
            `quantize`).
        gt: GT image of the same shape and range.
        border: Pixels to crop from each edge, at least 0; default 0.
        channel: "rgb" (default), "b" for blue only, or "y" for the luma of `to_y`.

    Returns:
        SSIM in [-1, 1]; 1 if the compared channels are equal, NaN if an image has values that are
        not finite.

    Raises:
        UserError: An image is not an array of numbers, the shapes differ or are not (H, W, 3), the
            cropped image is smaller than the window, `channel` is unknown, or `border` is not an
            integer of at least 0.

    Example:
        >>> import numpy as np
        >>> from srgan_plugin.metrics import ssim
        >>> gt = np.arange(16 * 16 * 3, dtype=np.float64).reshape(16, 16, 3) / 3
        >>> ssim(gt, gt), round(ssim(gt + 10, gt), 3)
        (1.0, 0.997)
    """
    planes = _prepare(pred, gt, border, channel, smallest=WINDOW)
    return float(ssim_by_plane(*planes).mean())


def psnr_from_mse(mse: Tensor) -> Tensor:
    """Compute PSNR in dB from the MSE of values in [0, 255], any shape; infinite for 0."""
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
    """Compute the SSIM by plane, each at least 11x11; else as `mse_by_plane`."""
    return _plane_means(_similarity, a, b)


def split_planes(image: Any, names: Collection[str]) -> Planes:
    """Return planes of an RGB image.

    Args:
        image: RGB in [0, 255], array (H, W, 3) or tensor (3, H, W).
        names: "r", "g", "b", and "y" for luma, in the order of the result.

    Returns:
        Planes, float64: a tensor (n, H, W) for a tensor, a list of n arrays (H, W) for an array.
    """
    rgb: dict[str, Any]
    if isinstance(image, Tensor):
        rgb = dict(zip("rgb", image.double(), strict=True))
    else:
        used = "rgb" if "y" in names else names
        rgb = {n: np.ascontiguousarray(image[..., "rgb".index(n)], np.float64) for n in used}
    planes = [luma(*(rgb[n] for n in "rgb")) if name == "y" else rgb[name] for name in names]
    return torch.stack(planes) if isinstance(image, Tensor) else planes


def check_arrays(**images: object) -> None:
    """Raise `UserError` if one of `images` is not an array of numbers.

    Args:
        images: Images by name of the argument, as the user wrote it.

    Raises:
        UserError: An image has another type; the message names the argument.
    """
    for name, image in images.items():
        if isinstance(image, np.ndarray) and image.dtype.kind in "uif":
            continue
        kind = f"one of {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UserError(
            f"{name}: expected a NumPy array of integers or floating point, got {kind}; convert an "
            "image by np.asarray, a tensor (3, H, W) by .permute(1, 2, 0).cpu().numpy()"
        )


def remove_border(pred: Any, gt: Any, border: int, smallest: int) -> tuple[Any, Any]:
    """Check that two images can be compared, and crop them.

    Args:
        pred: Prediction, RGB, array (H, W, 3) or tensor (3, H, W).
        gt: GT image, of the same type and shape.
        border: Pixels to crop from each edge, at least 0.
        smallest: Smallest height and width allowed after cropping.

    Returns:
        Views of both images without the border.

    Raises:
        UserError: The shapes differ or are not of one RGB image, `border` is not an integer of at
            least 0, or the cropped image is too small.
    """
    check_count(0, border=border)
    channels_first = isinstance(gt, Tensor)
    shape, other = tuple(pred.shape), tuple(gt.shape)
    if shape != other or len(shape) != 3 or shape[0 if channels_first else 2] != 3:
        expected = "(3, H, W)" if channels_first else "(H, W, 3)"
        raise UserError(
            f"images: expected two of one shape {expected}, got {shape} and {other}; convert both "
            "to RGB of one size"
        )
    height, width = shape[1:] if channels_first else shape[:2]
    if min(height, width) - 2 * border < smallest:
        raise UserError(
            f"image: expected at least {smallest}x{smallest} pixels after {border} are cropped "
            f"from each edge, got height {height} and width {width}; use a larger image or a "
            "smaller border"
        )
    inside = (slice(border, height - border), slice(border, width - border))
    index = (..., *inside) if channels_first else inside
    return pred[index], gt[index]


def _plane_means(compare: Callable[[Any, Any], Any], a: Planes, b: Planes) -> Tensor:
    """Return the mean of `compare(p, q)` over each pair of planes.

    Args:
        compare: Function of two planes, or of all planes (n, H, W) of two tensors at once, as is
            faster on a GPU; it returns a value for each pixel or window.
        a: See `mse_by_plane`.
        b: See `mse_by_plane`.

    Returns:
        (n,), float64.
    """
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
    return ((2 * product + _C1) * (2 * covariance + _C2)) / ((power + _C1) * (variances + _C2))


def _window_mean(x: Any) -> Any:
    """Compute means over an 11x11 Gaussian window at all positions inside the image."""
    if isinstance(x, np.ndarray):  # faster than the sums below
        inside = slice(WINDOW // 2, -(WINDOW // 2))
        return cv2.sepFilter2D(x, cv2.CV_64F, _GAUSSIAN, _GAUSSIAN)[inside, inside]
    weights = _GAUSSIAN.ravel().tolist()
    for axis in (-1, -2):  # on a CPU faster than `conv2d` in float64
        size = x.shape[axis] - WINDOW + 1
        parts = [x.narrow(axis, start, size) for start in range(WINDOW)]
        x = sum(part * weight for part, weight in zip(parts, weights, strict=True))
    return x


def _prepare(
    pred: ImageArray, gt: ImageArray, border: int, channel: Channel, smallest: int
) -> tuple[Planes, Planes]:
    """Check, crop and split both images; arguments as for `psnr` and `remove_border`."""
    check_option("channel", channel, ("rgb", "b", "y"))
    check_arrays(pred=pred, gt=gt)
    cropped_pred, cropped_gt = remove_border(pred, gt, border, smallest)
    return split_planes(cropped_pred, channel), split_planes(cropped_gt, channel)
