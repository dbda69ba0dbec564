"""Degrade LR images as cameras and web sites do: Gaussian blur, Gaussian noise, then JPEG.

The order is that of Real-ESRGAN's first-order degradation (Wang et al. 2021), but all of it comes
after the downscaling, since stores have LR images.
"""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Final, NamedTuple

import cv2
import numpy as np

from srgan_plugin.errors import UserError
from srgan_plugin.io.array_types import RGBArray

from .sampling import SampleIndex

# Added to the seed and number of a sample, so that no other random numbers are the same.
_STREAM: Final = 0x4C52
# Pixels of height and width that JPEG compresses together, with chroma of half the resolution.
_BLOCK: Final = 16
_LARGEST: Final = 65_500 - _BLOCK  # pixels of height and width, by a limit of libjpeg


class DegradationParams(NamedTuple):
    """Ranges from which the degradation of each sample is drawn, uniformly.

    Args:
        blur_sigma: Standard deviation of a Gaussian blur, in pixels of LR, 0 to 20.
        noise_sigma: Standard deviation of Gaussian noise, in grey levels (0 to 255); it is
            independent in each pixel and channel.
        jpeg_quality: Quality of JPEG compression, integers from 1 to 100, both included; None
            leaves it out. Chroma has half the resolution (4:2:0), so that 100 is not lossless.
        clean_ratio: Share of the samples that stay as they are, 0 to 1.
    """

    blur_sigma: tuple[float, float] = (0.0, 0.8)
    noise_sigma: tuple[float, float] = (0.0, 4.0)
    jpeg_quality: tuple[int, int] | None = (40, 95)
    clean_ratio: float = 0.25


#: Lowest and highest number of each range; beyond, nothing is left of an image.
_LIMITS: Final = {"blur_sigma": (0, 20), "noise_sigma": (0, 255), "jpeg_quality": (1, 100)}


def check_degradation(values: Mapping[str, Any]) -> DegradationParams:
    """Return parameters of a degradation, as tuples of Python's numbers.

    Args:
        values: Arguments of `DegradationParams` by name; missing ones have their defaults.

    Raises:
        UserError: A range is not two numbers in order, or a number is outside its limits; the
            message names the argument.
    """
    for name in values:
        if name not in DegradationParams._fields:
            known = ", ".join(DegradationParams._fields)
            raise UserError(f"{name}: expected one of {known}, got {name!r}")
    given = DegradationParams()._asdict() | dict(values)
    for name, (lowest, highest) in _LIMITS.items():
        value, is_integer = given[name], name == "jpeg_quality"
        if is_integer and value is None:
            continue
        kind: Any = Integral if is_integer else Real
        numbers = list(value) if isinstance(value, (list, tuple)) else []
        wrong = any(isinstance(n, bool) or not isinstance(n, kind) for n in numbers)
        if len(numbers) != 2 or wrong or not lowest <= numbers[0] <= numbers[1] <= highest:
            what = "integers" if is_integer else "numbers"
            raise UserError(
                f"{name}: expected (lowest, highest), two {what} from {lowest} to {highest}, got "
                f"{value!r}"
            )
        given[name] = tuple(map(int if is_integer else float, numbers))
    ratio = given["clean_ratio"]
    if isinstance(ratio, bool) or not isinstance(ratio, Real) or not 0 <= float(ratio) <= 1:
        raise UserError(f"clean_ratio: expected a share from 0 to 1, got {ratio!r}")
    return DegradationParams(**given)


def degrade(lr: RGBArray, params: DegradationParams, sample_index: SampleIndex) -> RGBArray:
    """Blur an LR image, add noise, and compress it as JPEG, each with a random strength.

    The blocks of JPEG begin at a random pixel, because a network would otherwise see by the padding
    at the edges of a crop where they are; in a photograph it does not.

    Args:
        lr: LR image or crop, RGB, (H, W, 3), uint8; not changed.
        params: Ranges of the degradation.
        sample_index: Index of the sample, of which the degradation is a pure function; a second
            degradation of the sample has the same random numbers.

    Returns:
        RGB, (H, W, 3), uint8; `lr` itself if the sample stays clean. Processors with other vector
        instructions may differ by a level.

    Raises:
        UserError: The image is empty, or larger than JPEG can be.
    """
    height, width = lr.shape[:2]
    if not 0 < height <= _LARGEST or not 0 < width <= _LARGEST:
        raise UserError(
            f"degradation: expected an image of 1 to {_LARGEST} pixels of height and width, got "
            f"{height}x{width}"
        )
    random = np.random.default_rng([_STREAM, sample_index.seed, sample_index.number])
    # All are drawn for each sample, so that one range does not change the numbers of another.
    clean, blur, noise, jpeg, *grid = random.random(6)
    if clean < params.clean_ratio:
        return lr
    image = lr.astype(np.float32)
    blur_sigma = _between(params.blur_sigma, blur)
    if blur_sigma > 0:
        image = cv2.GaussianBlur(image, (0, 0), blur_sigma, borderType=cv2.BORDER_REFLECT_101)
    noise_sigma = _between(params.noise_sigma, noise)
    image += random.standard_normal(image.shape, np.float32) * np.float32(noise_sigma)
    noisy = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    if params.jpeg_quality is None:
        return noisy
    lowest, highest = params.jpeg_quality
    top, left = (int(share * _BLOCK) for share in grid)
    larger = cv2.copyMakeBorder(noisy, top, 0, left, 0, cv2.BORDER_REFLECT_101)
    compressed = compress_jpeg(larger, lowest + int(jpeg * (highest - lowest + 1)))
    return np.ascontiguousarray(compressed[top:, left:])


def compress_jpeg(image: RGBArray, quality: int) -> RGBArray:
    """Return an image after JPEG compression and decompression.

    Args:
        image: RGB, (H, W, 3), uint8.
        quality: Quality, 1 to 100.

    Returns:
        RGB, (H, W, 3), uint8.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    _, code = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), options)
    decoded = cv2.imdecode(code, cv2.IMREAD_COLOR)
    assert decoded is not None, "OpenCV reads what it wrote"
    return np.ascontiguousarray(decoded[..., ::-1])


def _between(limits: tuple[float, float], share: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * float(share)
