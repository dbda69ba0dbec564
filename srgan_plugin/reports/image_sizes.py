"""Sizes of the versions of an image: their ratio, bicubic upscaling, and cropping of HR."""

from collections.abc import Sequence
from typing import Final

from srgan_plugin.data.prepare.benchmark_sets import MULTIPLE
from srgan_plugin.data.resize import imresize
from srgan_plugin.io.array_types import RGBArray
from srgan_plugin.metrics import quantize

_MAX_DENOMINATOR: Final = 5  # of scales that are not integers, such as 1.5 and 1.2


def find_scale(small: Sequence[int], large: Sequence[int], *, is_hr: bool) -> float:
    """Return the simplest ratio of two sizes: an integer, or a fraction such as 1.5 or 1.2.

    Args:
        small: Height and width of LR.
        large: Height and width of the other image.
        is_hr: Whether the other image is HR. At integer scales it may then be larger than the scale
            times LR by less than 12 pixels, because published test sets make LR from HR that is
            cropped to multiples of 12 (`benchmark_sets.MULTIPLE`).

    Returns:
        The ratio, with which the sizes agree up to rounding. If there is none, the ratio of the
        heights rounded to an integer. Below 1 if the other image is smaller; it may be 0 then.
    """
    ratio, sides = large[0] / small[0], list(zip(small[:2], large[:2], strict=True))
    wholes = (round(ratio), int(ratio))
    uncropped = [n for n in wholes if is_hr and all(-n < b - n * a < MULTIPLE for a, b in sides)]
    for n in wholes:
        of_multiples = n in uncropped and not any(n * a % MULTIPLE for a, _ in sides)
        if of_multiples or all(-n < b - n * a < n for a, b in sides):
            return n
    fractions = (round(ratio * n) / n for n in range(2, _MAX_DENOMINATOR + 1))
    agreeing = (f for f in fractions if all(abs(b - f * a) < 1 for a, b in sides))
    return next(agreeing, [*uncropped, round(ratio)][0])


def upscale_bicubic(lr: RGBArray, scale: float) -> RGBArray:
    """Upscale LR with `imresize`, as in MATLAB, to the size that `Upscaler` has at this scale."""
    height, width = (max(round(scale * side), 1) for side in lr.shape[:2])
    return quantize(imresize(lr / 255, output_size=(height, width)))


def crop_hr(image: RGBArray, size: tuple[int, ...]) -> RGBArray:
    """Crop HR at the bottom and right by less than 12 pixels (`benchmark_sets.MULTIPLE`).

    Args:
        image: HR image of shape (H, W, 3).
        size: Height and width of the result.

    Returns:
        The cropped image, or `image` itself if it is smaller than `size` or larger by 12 or more.
    """
    rest = [a - b for a, b in zip(image.shape, size, strict=False)]
    return image[: size[0], : size[1]] if all(0 <= n < MULTIPLE for n in rest) else image
