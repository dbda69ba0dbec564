"""MATLAB's bicubic `imresize`, and the LR images of the super-resolution benchmarks.

A resize is, per axis, a table of taps: which input pixels, and with which weights. Every output
pixel is summed in the order of its taps, so that a window is bit-identical to the same window of
the whole result.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from srgan_plugin.errors import UserError
from srgan_plugin.io.images import Image, Shape
from srgan_plugin.io.lazy_image import ArrayMixin, LazyImage, Window, clip_slice


class Sliceable(Protocol):
    """An array, or anything else with a shape that hands out windows of itself."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width and, where there are any, channels."""

    def __getitem__(self, window: tuple[slice, slice], /) -> NDArray[Any]:
        """Return the pixels of a window of rows and columns."""


class ResampleWeights(NamedTuple):
    """Which input pixels make the output pixels of one axis; both arrays are (taps, outputs)."""

    indices: NDArray[np.intp]
    weights: NDArray[np.float64]


def imresize(
    image: NDArray[Any],
    scale: float | None = None,
    *,
    output_size: tuple[int, int] | None = None,
) -> NDArray[Any]:
    """Resizes as MATLAB's `imresize(image, scale, 'bicubic')` does, antialiasing included.

    The kernel is Keys' cubic with a = -0.5, widened by the scale when shrinking; edges are
    mirrored. The axis with the smaller scale goes first, rows when they are equal.

    Args:
        image: (H, W) or (H, W, C). uint8 is rounded after each of the two passes, half away from
            zero, as MATLAB does; floating point is neither rounded nor clipped.
        scale: Output size over input size; the output is ceil(scale * size).
        output_size: Height and width wanted, instead of `scale`.

    Returns:
        The resized image in the dtype of `image`; the arithmetic is float64.

    Raises:
        ValueError: If not exactly one of `scale` and `output_size` is given, if one is not
            positive, or if the image is neither uint8 nor floating point.
    """
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise UserError(
            f"imresize takes uint8 or floating-point images, but got {image.dtype}: convert first"
        )
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise UserError(
            f"imresize takes images of shape (H, W) or (H, W, C), but got {image.shape}"
        )
    scales, sizes = _scales_and_sizes(image.shape, scale, output_size)
    result: NDArray[Any] = image
    for axis in sorted((0, 1), key=lambda axis: scales[axis]):
        taps = _resample_weights(image.shape[axis], scales[axis], 0, sizes[axis])
        result = _weighted_sum(result, taps, axis)
        if image.dtype == np.uint8:
            result = _round(result)
    return result.astype(image.dtype, copy=False)


def resize_rows(
    image: NDArray[Any], output_size: tuple[int, int], start: int, stop: int
) -> NDArray[np.float64]:
    """Make some rows of what `imresize` makes of an image in floating point.

    Args:
        image: (H, W, C), of any numbers.
        output_size: Height and width of the whole result.
        start: First row of the result.
        stop: The row after the last one.

    Returns:
        (stop - start, width, C), neither rounded nor clipped.
    """
    scales = output_size[0] / image.shape[0], output_size[1] / image.shape[1]
    rows, span = _within_span(_resample_weights(image.shape[0], scales[0], start, stop))
    columns = _resample_weights(image.shape[1], scales[1], 0, output_size[1])
    return _weighted_sum(_weighted_sum(image[span], rows, 0), columns, 1)


def make_lr(hr: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Downscale an image as the LR images of the benchmarks (`LRbicx4`) were made.

    MATLAB's bicubic on floating-point pixels, rounded once at the end.

    Args:
        hr: (H, W) or (H, W, C), uint8, both sizes multiples of `scale`.
        scale: How many times smaller the result is.

    Returns:
        (H / scale, W / scale[, C]), uint8.

    Raises:
        ValueError: If a size is not a multiple of the scale.
    """
    height, width = hr.shape[:2]
    if height % scale or width % scale:
        raise UserError(
            f"expected height and width to be multiples of {scale}, but got {height}x{width}: "
            f"crop to {height - height % scale}x{width - width % scale}"
        )
    return lr_window(hr, scale, 0, 0, height // scale, width // scale)


def lr_window(
    hr: Sliceable, scale: int, top: int, left: int, height: int, width: int
) -> NDArray[np.uint8]:
    """Compute a window of the LR image from only those HR pixels that it depends on.

    Args:
        hr: uint8, (H, W[, C]), both sizes multiples of `scale`: an array or a lazily read image.
        scale: How many times smaller the LR image is.
        top: First row, in pixels of the LR image.
        left: First column.
        height: Number of rows.
        width: Number of columns.

    Returns:
        (height, width[, C]), uint8. Bit for bit this part of `make_lr(hr, scale)`.

    Raises:
        ValueError: If the window does not lie inside the LR image.
    """
    lr_height, lr_width = hr.shape[0] // scale, hr.shape[1] // scale
    if not (0 <= top < top + height <= lr_height and 0 <= left < left + width <= lr_width):
        raise UserError(
            f"expected a window inside {lr_height}x{lr_width}, but got {height}x{width} at "
            f"row {top}, column {left}"
        )
    rows, row_span = _within_span(_resample_weights(hr.shape[0], 1 / scale, top, top + height))
    columns, column_span = _within_span(
        _resample_weights(hr.shape[1], 1 / scale, left, left + width)
    )
    pixels = hr[row_span, column_span]
    return _round(_weighted_sum(_weighted_sum(pixels, rows, 0), columns, 1))


def _scales_and_sizes(
    shape: tuple[int, ...], scale: float | None, output_size: tuple[int, int] | None
) -> tuple[tuple[float, float], tuple[int, int]]:
    if output_size is not None and scale is None and min(output_size) > 0:
        return (output_size[0] / shape[0], output_size[1] / shape[1]), output_size
    if scale is not None and output_size is None and scale > 0:
        return (scale, scale), (math.ceil(scale * shape[0]), math.ceil(scale * shape[1]))
    raise UserError(
        "imresize wants one of scale and output_size, and a positive one, but got "
        f"scale={scale}, output_size={output_size}"
    )


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys, 1981, equation 15: cubic convolution with a = -0.5."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _resample_weights(size: int, scale: float, start: int, stop: int) -> ResampleWeights:
    """Return the weights of output pixels start … stop - 1 along an axis of `size` input pixels."""
    shrink = min(scale, 1.0)
    support = 4 / shrink
    centers = (np.arange(start, stop) + 0.5) / scale - 0.5
    first = np.floor(centers - support / 2).astype(np.intp)
    positions = first + np.arange(math.ceil(support) + 2)[:, None]
    weights = _cubic(shrink * (centers - positions))
    # Not weights.sum(axis=0): its order, and with it the last bit, depends on the shape.
    weights /= sum(weights)
    used = weights.any(axis=1)
    mirrored = positions[used] % (2 * size)
    return ResampleWeights(np.minimum(mirrored, 2 * size - 1 - mirrored), weights[used])


def _within_span(taps: ResampleWeights) -> tuple[ResampleWeights, slice]:
    """Return the weights with indices from the first input pixel used, and the interval used."""
    start, stop = int(np.min(taps.indices)), int(np.max(taps.indices)) + 1
    return ResampleWeights(taps.indices - start, taps.weights), slice(start, stop)


def _weighted_sum(image: NDArray[Any], taps: ResampleWeights, axis: int) -> NDArray[np.float64]:
    shape = [1] * image.ndim
    shape[axis] = -1
    total: NDArray[np.float64] | None = None
    for indices, weights in zip(*taps, strict=True):
        term = image.take(indices, axis=axis) * weights.reshape(shape)
        total = term if total is None else np.add(total, term, out=total)
    assert total is not None
    return total


def _round(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """To uint8, half away from zero."""
    rounded: NDArray[np.uint8] = np.floor(np.clip(image, 0, 255) + 0.5).astype(np.uint8)
    return rounded


@dataclass(frozen=True)
class DownscaledImage(ArrayMixin):
    """The LR image that MATLAB's bicubic makes of another one, window by window."""

    hr: LazyImage
    scale: int

    @property
    def name(self) -> str:
        """See `LazyImage`."""
        return f"{self.hr.name} (bicubic /{self.scale})"

    @property
    def shape(self) -> Shape:
        """See `LazyImage`."""
        height, width, channels = self.hr.shape
        return height // self.scale, width // self.scale, channels

    def __getitem__(self, window: Window, /) -> Image:
        height, width, _ = self.shape
        if not (height and width):
            least = f"{self.scale}x{self.scale}"
            raise UserError(f"{self.hr.name} is smaller than {least}: take it out")
        rows, columns = clip_slice(window[0], height), clip_slice(window[1], width)
        return lr_window(
            self.hr,
            self.scale,
            top=rows.start,
            left=columns.start,
            height=rows.stop - rows.start,
            width=columns.stop - columns.start,
        )
