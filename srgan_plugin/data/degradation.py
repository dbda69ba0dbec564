"""Degrade LR images as cameras and web sites do: blur, noise, then JPEG.

The order is that of the first half of Real-ESRGAN's degradations (Wang et al. 2021, fig. 2).
Downscaling is not part of it, because LR images are downscaled already.
"""

from numbers import Real
from typing import Any, Final, NamedTuple

import cv2
import numpy as np

from srgan_plugin.errors import UserError
from srgan_plugin.io.array_types import RGBArray

from .sampling import SampleIndex

# Added to the seed and number of a sample, so that no other random numbers are the same.
_STREAM: Final = 0x4C52


class DegradationParams(NamedTuple):
    """Ranges from which the degradation of each sample is drawn, uniformly.

    Args:
        blur_sigma: Standard deviation of a Gaussian blur, in pixels of LR.
        noise_sigma: Standard deviation of Gaussian noise, in levels of 255; it is independent in
            each pixel and channel.
        jpeg_quality: Quality of JPEG compression, integers from 1 to 100, both included. The
            chroma channels have half the resolution.
        clean_ratio: Share of the samples that stay as they are, 0 to 1.
    """

    blur_sigma: tuple[float, float] = (0.0, 0.8)
    noise_sigma: tuple[float, float] = (0.0, 4.0)
    jpeg_quality: tuple[int, int] = (40, 95)
    clean_ratio: float = 0.25


def check_degradation(**values: Any) -> DegradationParams:
    """Return parameters of a degradation, as tuples.

    Args:
        values: Arguments of `DegradationParams`.

    Raises:
        UserError: A range is not two numbers in order, or a number is outside its limits; the
            message names the argument.
    """
    limits = {"blur_sigma": (0, np.inf), "noise_sigma": (0, np.inf), "jpeg_quality": (1, 100)}
    unknown = sorted(values.keys() - set(DegradationParams._fields))
    if unknown:
        expected = ", ".join(DegradationParams._fields)
        raise UserError(f"{unknown[0]}: expected one of {expected}, got another argument")
    given = DegradationParams(**values)._asdict()
    for name, (lowest, highest) in limits.items():
        value = given[name]
        numbers = list(value) if isinstance(value, (list, tuple)) else []
        kinds = int if name == "jpeg_quality" else Real
        if (
            len(numbers) != 2
            or any(isinstance(n, bool) or not isinstance(n, kinds) for n in numbers)
            or not lowest <= numbers[0] <= numbers[1] <= highest
            or numbers[1] == np.inf
        ):
            what = "integers from 1 to 100" if name == "jpeg_quality" else "numbers of at least 0"
            raise UserError(f"{name}: expected (lowest, highest), two {what}, got {value!r}")
        given[name] = tuple(numbers)
    ratio = given["clean_ratio"]
    if isinstance(ratio, bool) or not isinstance(ratio, Real) or not 0 <= float(ratio) <= 1:
        raise UserError(f"clean_ratio: expected a share from 0 to 1, got {ratio!r}")
    return DegradationParams(**given)


def degrade(lr: RGBArray, params: DegradationParams, sample_index: SampleIndex) -> RGBArray:
    """Blur an LR image, add noise, and compress it as JPEG, each with a random strength.

    Args:
        lr: LR image or crop, RGB, (H, W, 3), uint8; not changed.
        params: Ranges of the degradation.
        sample_index: Index of the sample, of which the degradation is a pure function.

    Returns:
        RGB, (H, W, 3), uint8; `lr` itself if the sample stays clean.
    """
    random = np.random.default_rng([_STREAM, sample_index.seed, sample_index.number])
    # All are drawn for each sample, so that one range does not change the numbers of another.
    clean, blur, noise, jpeg = random.random(4)
    if clean < params.clean_ratio:
        return lr
    image = lr.astype(np.float32)
    blur_sigma = _between(params.blur_sigma, blur)
    if blur_sigma > 0:
        image = cv2.GaussianBlur(image, (0, 0), blur_sigma, borderType=cv2.BORDER_REFLECT_101)
    noise_sigma = _between(params.noise_sigma, noise)
    image += random.standard_normal(image.shape, np.float32) * np.float32(noise_sigma)
    noisy = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    lowest, highest = params.jpeg_quality
    return compress_jpeg(noisy, lowest + int(jpeg * (highest - lowest + 1)))


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
