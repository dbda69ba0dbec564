"""MATLAB's bicubic `imresize`, and the LR images of the super-resolution benchmarks.

A resize is a table for each axis of the indices of input pixels and their weights. Each output
pixel is summed in the order of the table, so a window is bit-identical to that window of the
complete result.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from srgan_plugin.errors import UserError, check_count
from srgan_plugin.io.array_types import RGBArray, Shape
from srgan_plugin.io.lazy_image import ArrayMixin, CroppedImage, LazyImage, Window, clip_slice


class Sliceable(Protocol):
    """An array or a lazy image: it has a shape and can be sliced by rows and columns."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W) or (H, W, C)."""

    def __getitem__(self, window: tuple[slice, slice], /) -> NDArray[Any]:
        """Return the pixels of a window of rows and columns."""


class ResampleWeights(NamedTuple):
    """Indices and weights of n input pixels for each output pixel of an axis: (n, outputs)."""

    indices: NDArray[np.intp]
    weights: NDArray[np.float64]


def imresize(
    image: NDArray[Any],
    scale: float | None = None,
    *,
    output_size: tuple[int, int] | None = None,
) -> NDArray[Any]:
    """Resize an image as MATLAB's `imresize(image, scale, 'bicubic')` does, with antialiasing.

    The kernel is Keys' cubic with a = -0.5, widened by the scale when shrinking; edges are
    mirrored. The axis with the smaller scale is resized first, rows if the scales are equal.

    Args:
        image: (H, W) or (H, W, C). uint8 is rounded after each of the two passes, half away from
            zero, as in MATLAB; floating point is neither rounded nor clipped.
        scale: Output size over input size; the output has ceil(scale * size) pixels.
        output_size: Height and width of the output, instead of `scale`.

    Returns:
        The resized image in the dtype of `image`; the arithmetic is float64.

    Raises:
        UserError: Not exactly one of `scale` and `output_size` is given, it is not positive, or
            the image is empty or neither uint8 nor floating point.

    Example:
        >>> import numpy as np
        >>> from srgan_plugin.data.resize import imresize
        >>> imresize(np.arange(16, dtype=np.uint8).reshape(4, 4) * 16, 0.5)
        array([[ 37,  71],
               [170, 204]], dtype=uint8)
        >>> imresize(np.zeros((4, 6, 3)), output_size=(9, 5)).shape
        (9, 5, 3)
    """
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise UserError(
            f"imresize: expected uint8 or a floating-point image, got {image.dtype}; convert it"
        )
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise UserError(
            f"imresize: expected an image of shape (H, W) or (H, W, C), got {image.shape}"
        )
    scales, sizes = _scales_and_sizes(image.shape, scale, output_size)
    result: NDArray[Any] = image
    for axis in sorted((0, 1), key=lambda axis: scales[axis]):
        table = _resample_weights(image.shape[axis], scales[axis], 0, sizes[axis])
        result = _weighted_sum(result, table, axis)
        if image.dtype == np.uint8:
            result = _round(result)
    return result.astype(image.dtype, copy=False)


def resize_rows(
    image: NDArray[Any], output_size: tuple[int, int], start: int, stop: int
) -> NDArray[np.float64]:
    """Compute some rows of an `imresize` in floating point, equal up to its rounding errors.

    Args:
        image: (H, W, C), any dtype.
        output_size: Height and width of the complete output.
        start: First row to compute, at least 0.
        stop: Row after the last one to compute, above `start` and at most the height of the output.

    Returns:
        (stop - start, width, C), float64, neither rounded nor clipped.

    Example:
        >>> import numpy as np
        >>> from srgan_plugin.data.resize import imresize, resize_rows
        >>> image = np.random.default_rng(0).random((8, 8, 3))
        >>> rows = resize_rows(image, (32, 32), start=10, stop=20)
        >>> bool(np.allclose(rows, imresize(image, 4)[10:20]))
        True
    """
    scales = output_size[0] / image.shape[0], output_size[1] / image.shape[1]
    rows, span = _within_span(_resample_weights(image.shape[0], scales[0], start, stop))
    columns = _resample_weights(image.shape[1], scales[1], 0, output_size[1])
    return _weighted_sum(_weighted_sum(image[span], rows, 0), columns, 1)


def make_lr(hr: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Downscale an image as the LR images of the benchmarks (`LRbicx4`) were made.

    This is MATLAB's bicubic on floating-point pixels (`im2double`), rounded once at the end;
    `imresize` rounds uint8 after each pass.

    Args:
        hr: (H, W) or (H, W, C), uint8, H and W multiples of `scale`.
        scale: HR size over LR size.

    Returns:
        (H / scale, W / scale[, C]), uint8.

    Raises:
        UserError: H or W is not a multiple of the scale, the scale is not a positive integer, or
            the image is not uint8.

    Example:
        >>> import numpy as np
        >>> from srgan_plugin.data.resize import make_lr
        >>> make_lr(np.full((8, 12, 3), 100, np.uint8), scale=4).shape
        (2, 3, 3)
    """
    check_count(1, scale=scale)
    if hr.dtype != np.uint8:
        raise UserError(f"HR image: expected uint8 in [0, 255], got {hr.dtype}; convert it")
    height, width = hr.shape[:2]
    if height % scale or width % scale:
        raise UserError(
            f"HR image: expected multiples of {scale}, got {height}x{width} (height x width); crop "
            f"it to {height - height % scale}x{width - width % scale}"
        )
    return lr_window(hr, scale, 0, 0, height // scale, width // scale)


def lr_window(
    hr: Sliceable, scale: int, top: int, left: int, height: int, width: int
) -> NDArray[np.uint8]:
    """Compute a window of the LR image from the HR pixels that it depends on.

    Args:
        hr: (H, W) or (H, W, C), uint8, H and W multiples of `scale`; an array or a lazy image.
        scale: HR size over LR size.
        top: First row, in LR pixels.
        left: First column, in LR pixels.
        height: Number of rows, in LR pixels.
        width: Number of columns, in LR pixels.

    Returns:
        (height, width[, C]), uint8, bit-identical to this part of `make_lr(hr, scale)`.

    Raises:
        UserError: The window is empty or not inside the LR image.

    Example:
        >>> import numpy as np
        >>> from srgan_plugin.data.resize import lr_window, make_lr
        >>> hr = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
        >>> window = lr_window(hr, 4, top=2, left=3, height=5, width=4)
        >>> bool((window == make_lr(hr, 4)[2:7, 3:7]).all())
        True
    """
    lr_height, lr_width = hr.shape[0] // scale, hr.shape[1] // scale
    if not (0 <= top < top + height <= lr_height and 0 <= left < left + width <= lr_width):
        raise UserError(
            f"window: expected one inside {lr_height}x{lr_width} (height x width), got "
            f"{height}x{width} at row {top}, column {left}"
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
    if scale is not None and output_size is None and 0 < scale < math.inf:
        return (scale, scale), (math.ceil(scale * shape[0]), math.ceil(scale * shape[1]))
    raise UserError(
        "imresize: expected one of scale and output_size, positive, got "
        f"scale={scale}, output_size={output_size}"
    )


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate the kernel of cubic convolution (Keys 1981, eq. 15, a = -0.5)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _resample_weights(size: int, scale: float, start: int, stop: int) -> ResampleWeights:
    """Compute the weights of output pixels [start, stop) along an axis of `size` input pixels."""
    shrink = min(scale, 1.0)
    support = 4 / shrink
    centers = (np.arange(start, stop) + 0.5) / scale - 0.5
    first = np.floor(centers - support / 2).astype(np.intp)
    positions = first + np.arange(math.ceil(support) + 2)[:, None]
    weights = _cubic(shrink * (centers - positions))
    # Not weights.sum(axis=0), whose order of summation, and so the last bit, depends on the shape.
    weights /= sum(weights)
    used = weights.any(axis=1)
    mirrored = positions[used] % (2 * size)
    return ResampleWeights(np.minimum(mirrored, 2 * size - 1 - mirrored), weights[used])


def _within_span(table: ResampleWeights) -> tuple[ResampleWeights, slice]:
    """Return the weights with indices relative to the input pixels used, and their interval."""
    start, stop = int(np.min(table.indices)), int(np.max(table.indices)) + 1
    return ResampleWeights(table.indices - start, table.weights), slice(start, stop)


def _weighted_sum(image: NDArray[Any], table: ResampleWeights, axis: int) -> NDArray[np.float64]:
    """Sum the weighted input pixels along an axis, in the order of the table.

    A matrix product takes four fifths of the time, but its order of summation, and so the last bit
    of a window, depends on the shape.
    """
    shape = [1] * image.ndim
    shape[axis] = -1
    total: NDArray[np.float64] | None = None
    for indices, weights in zip(*table, strict=True):
        term = image.take(indices, axis=axis) * weights.reshape(shape)
        total = term if total is None else np.add(total, term, out=total)
    assert total is not None
    return total


def _round(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Round to uint8, half away from zero."""
    rounded: NDArray[np.uint8] = np.floor(np.clip(image, 0, 255) + 0.5).astype(np.uint8)
    return rounded


@dataclass(frozen=True)
class DownscaledImage(ArrayMixin):
    """LR image that is downscaled from an HR image by MATLAB's bicubic, window by window.

    Args:
        hr: HR image; it need not be a multiple of `scale`, the rest is cropped.
        scale: HR size over LR size.

    Example:
        >>> import numpy as np
        >>> from srgan_plugin.data.resize import DownscaledImage, make_lr
        >>> from srgan_plugin.io.lazy_image import DecodedImage
        >>> hr = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
        >>> lr = DownscaledImage(DecodedImage("hr.png", lambda: hr), scale=4)
        >>> lr.shape, bool((lr[2:7, 3:7] == make_lr(hr, 4)[2:7, 3:7]).all())
        ((10, 10, 3), True)
    """

    hr: LazyImage
    scale: int

    @property
    def name(self) -> str:
        """Name of the HR image and the scale, for messages."""
        return f"{self.hr.name} (bicubic /{self.scale})"

    @property
    def shape(self) -> Shape:
        """(H, W, 3) of the LR image."""
        height, width, channels = self.hr.shape
        return height // self.scale, width // self.scale, channels

    def __getitem__(self, window: Window, /) -> RGBArray:
        """Compute a window.

        Raises:
            UserError: The HR image is smaller than `scale`, or the window is empty.
        """
        cropped = CroppedImage(self.hr, self.scale)
        height, width, _ = self.shape
        if not (height and width):
            np.asarray(cropped)  # raises the error
        rows, columns = clip_slice(window[0], height), clip_slice(window[1], width)
        return lr_window(
            cropped,
            self.scale,
            top=rows.start,
            left=columns.start,
            height=rows.stop - rows.start,
            width=columns.stop - columns.start,
        )
