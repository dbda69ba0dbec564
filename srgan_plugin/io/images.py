"""Read image files for training, as 8-bit RGB.

Colour profiles are ignored, and so is EXIF orientation, except in TIFF files, which OpenCV and
Pillow rotate. Images that cannot be converted to 8-bit RGB without loss are refused.
`image_content` reads images for upscaling.
"""

import os
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL.ImageFile import ImageFile

from srgan_plugin.errors import UserError

from .array_types import Buffer, Pixels, RGBArray
from .image_files import read_image_bytes
from .image_headers import damage_error, open_image, pillow_errors_as_user_error
from .jpeg import check_pixels_complete

# Number of channels -> OpenCV's conversion to RGB.
_CONVERSIONS: Final = {
    1: cv2.COLOR_GRAY2RGB,
    3: cv2.COLOR_BGR2RGB,
    4: cv2.COLOR_BGRA2RGB,
}


def read_image(path: str | os.PathLike[str]) -> RGBArray:
    """Read an image file for training.

    JPEG has no checksums, so damage within its data is not noticed.

    Returns:
        RGB, (H, W, 3), uint8; converted as in `decode_image`.

    Raises:
        MissingFileError: The file does not exist.
        UserError: The file is damaged, not an image, or cannot be converted without loss.
    """
    return decode_image(read_image_bytes(Path(path)), str(path))


def read_source_image(path: str | os.PathLike[str]) -> RGBArray:
    """Read an image file as `read_image` does, and check that a JPEG file is not truncated.

    Slower by a factor of 3 for JPEG; use it once, when a data set is built.

    Args:
        path: Path of the image.

    Returns:
        RGB, (H, W, 3), uint8.

    Raises:
        MissingFileError: The file does not exist.
        UserError: The file is damaged, truncated, not an image, or cannot be converted without
            loss.
    """
    content = read_image_bytes(Path(path))
    with open_image(content, str(path)) as image, pillow_errors_as_user_error(str(path)):
        if image.format == "JPEG":
            image.load()
            check_pixels_complete(image, content, str(path))
    return decode_image(content, str(path))


def decode_image(buffer: Buffer, name: str) -> RGBArray:
    """Decode a PNG, JPEG, WebP, BMP or TIFF image for training.

    Conversions are exact: grey is replicated to RGB, a fully opaque alpha channel is dropped, and
    16 bits become 8 if every value is a multiple of 257 (65535 / 255).

    Args:
        buffer: The encoded image.
        name: Name of the image, for messages.

    Returns:
        RGB, (H, W, 3), uint8.

    Raises:
        UserError: The image is corrupt, truncated, in another format, or cannot be converted
            without loss.
    """
    content = bytes(buffer)  # a memoryview of a store cannot be searched for chunks
    with open_image(content, name) as image:
        rgb = _to_rgb(_to_8_bits(opencv_decode(content, name), name), name)
        if _needs_comparison(image, content):
            _check_same(image, rgb, name)
    return rgb


def image_shape(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return height and width of an image from its header; only TIFF files are decoded.

    Raises:
        MissingFileError: The file does not exist.
        UserError: The file is truncated or not an image.
    """
    content = read_image_bytes(Path(path))
    with open_image(content, str(path)) as image:
        if image.format != "TIFF":  # the decoders apply the EXIF orientation of TIFF files
            return image.height, image.width
    height, width, _ = decode_image(content, str(path)).shape
    return height, width


def opencv_decode(content: bytes, name: str) -> Pixels:
    """Decode an image by OpenCV.

    Returns:
        (H, W) or (H, W, C), in the order BGR or BGRA, uint8, uint16 or floating point.

    Raises:
        UserError: OpenCV cannot decode the image.
    """
    # 7% faster than Pillow for a PNG of 480x480, with the same pixels.
    try:
        pixels: Pixels | None = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise damage_error(name)
    return pixels


def _needs_comparison(image: ImageFile, content: bytes) -> bool:
    """Return whether the pixels that OpenCV decodes must be compared with those of Pillow.

    OpenCV fills in missing pixels or drops transparency in formats other than JPEG and PNG, in
    animated PNG (acTL), and in PNG with tRNS. JPEG is checked by `read_source_image`.
    """
    if image.format == "PNG":
        animated = content.find(b"acTL", 0, content.find(b"IDAT")) >= 0
        return animated or "transparency" in image.info
    return image.format != "JPEG"


def _check_same(image: ImageFile, rgb: RGBArray, name: str) -> None:
    """Raise `UserError` if Pillow cannot decode the image, or decodes it to other pixels.

    Args:
        image: The image, not decoded yet.
        rgb: The pixels decoded by OpenCV, (H, W, 3).
        name: Name of the image, for messages.
    """
    with pillow_errors_as_user_error(name):
        image.load()
        if image.mode in ("I;16", "I;16B"):
            grey = np.asarray(image) // 257  # 65535 / 255
            other = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
        else:
            other = np.asarray(image.convert("RGBA"))
    if (other[..., 3] < 255).any():
        raise _transparent(name)
    if not np.array_equal(other[..., :3], rgb):
        raise UserError(
            f"{name}: expected pixels that OpenCV and Pillow decode in the same way, got different "
            "ones: the file is damaged, or of a rare kind; restore it, or save it as PNG"
        )


def _transparent(name: str) -> UserError:
    return UserError(
        f"{name}: expected opaque pixels, got transparent ones; flatten the image onto a background"
    )


def _to_8_bits(image: Pixels, name: str) -> RGBArray:
    """Convert pixels to uint8 if that is exact."""
    if image.dtype == np.uint8:
        return image
    # 65535 / 255 = 257: 16-bit values that are exact 8-bit values
    if image.dtype == np.uint16 and not (image % 257).any():
        return (image // 257).astype(np.uint8)
    is_16_bit = image.dtype == np.uint16
    got = "16-bit values that are not multiples of 257" if is_16_bit else f"{image.dtype} values"
    raise UserError(
        f"{name}: expected pixels that fit into 8 bits, got {got}; convert the image to 8 bits "
        "first"
    )


def _to_rgb(image: RGBArray, name: str) -> RGBArray:
    """Convert grey, BGR or opaque BGRA to RGB."""
    channels = image.shape[2] if image.ndim == 3 else 1
    if channels == 4 and (image[..., 3] < 255).any():
        raise _transparent(name)
    if channels not in _CONVERSIONS:
        raise UserError(f"{name}: expected 1, 3 or 4 channels, got {channels}; convert it to RGB")
    rgb: RGBArray = cv2.cvtColor(image, _CONVERSIONS[channels]).astype(np.uint8, copy=False)
    return rgb
