"""Read image files for training: 8 bits, RGB, as the file stores them.

EXIF orientation and colour profiles are left alone, and what cannot become RGB of 8 bits without
loss is refused by name. OpenCV decodes: a PNG image of 480x480 in 7.1 ms where Pillow takes 7.7,
and gives the same pixels. `image_content` reads images as they are, to upscale them.
"""

import os
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from srgan_plugin.errors import UserError

from .image_files import read_image_bytes
from .image_headers import damage_named, damaged, open_image
from .jpeg import check_pixels_complete

Buffer = bytes | memoryview
Image = NDArray[np.uint8]
Pixels = NDArray[Any]
Shape = tuple[int, int, int]
_CONVERSIONS: Final = {
    1: cv2.COLOR_GRAY2RGB,
    3: cv2.COLOR_BGR2RGB,
    4: cv2.COLOR_BGRA2RGB,
}


def read_image(path: str | os.PathLike[str]) -> Image:
    """Read an image file for training.

    Returns:
        (H, W, 3), uint8, RGB. See `decode_image` for what is converted.

    Raises:
        MissingFileError: The file does not exist.
        UserError: It is damaged, not an image, or cannot be converted exactly.
    """
    return decode_image(read_image_bytes(Path(path)), str(path))


def read_source_image(path: str | os.PathLike[str]) -> Image:
    """Read an image as `read_image` does, and see whether a JPEG file holds all of its pixels.

    That takes three times as long: it is for the first time that a file is read.
    """
    content = read_image_bytes(Path(path))
    with open_image(content, str(path)) as image, damage_named(str(path)):
        if image.format == "JPEG":
            image.load()
            check_pixels_complete(image, content, str(path))
    return decode_image(content, str(path))


def decode_image(buffer: Buffer, name: str) -> Image:
    """Decode a PNG, JPEG, WebP, BMP or TIFF image for training.

    Grey becomes RGB by replication, a fully opaque alpha channel is dropped, and 16 bits become 8
    where every value is a multiple of 257: all of these are exact.

    Args:
        buffer: The encoded image.
        name: What to call it in an error.

    Returns:
        (H, W, 3), uint8, RGB.

    Raises:
        UserError: It is corrupt, truncated, of another format, or not convertible without loss.
    """
    content = bytes(buffer)
    with open_image(content, name) as image:
        rgb = _to_rgb(_to_8_bits(opencv_decode(content, name), name), name)
        if _is_unsure(image, content):
            _check_same(image, rgb, name)
    return rgb


def image_shape(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return an image's height and width from its header; only TIFF files are decoded.

    Raises:
        MissingFileError: The file does not exist.
        UserError: It is truncated, or not an image.
    """
    content = read_image_bytes(Path(path))
    with open_image(content, str(path)) as image:
        if image.format != "TIFF":  # which OpenCV turns as EXIF's orientation says
            return image.height, image.width
    height, width, _ = decode_image(content, str(path)).shape
    return height, width


def opencv_decode(content: bytes, name: str) -> Pixels:
    """Decode as OpenCV does, (H, W) or (H, W, C), channels in its order: BGR, BGRA.

    Raises:
        UserError: OpenCV cannot decode it.
    """
    try:
        pixels: Pixels | None = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise damaged(name)
    return pixels


def _is_unsure(image: ImageFile, content: bytes) -> bool:
    """Whether OpenCV may make up what is missing or damaged, or drop what means transparency."""
    if image.format == "PNG":
        animated = content.find(b"acTL", 0, content.find(b"IDAT")) >= 0
        return animated or "transparency" in image.info
    return image.format != "JPEG"


def _check_same(image: ImageFile, rgb: Image, name: str) -> None:
    """Refuse an image that Pillow refuses, or decodes to other pixels."""
    with damage_named(name):
        image.load()
        if image.mode in ("I;16", "I;16B"):
            grey = np.asarray(image) // 257
            other = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
        else:
            other = np.asarray(image.convert("RGBA"))
    if (other[..., 3] < 255).any():
        raise _transparent(name)
    if not np.array_equal(other[..., :3], rgb):
        raise damaged(name, "its readers disagree about its pixels")


def _transparent(name: str) -> UserError:
    return UserError(f"{name} has transparent pixels: flatten it onto a background first")


def _to_8_bits(image: Pixels, name: str) -> Image:
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16 and not (image % 257).any():
        return (image // 257).astype(np.uint8)
    raise UserError(
        f"{name} has pixels of type {image.dtype} that 8 bits cannot hold exactly: "
        "convert it to 8 bits first"
    )


def _to_rgb(image: Image, name: str) -> Image:
    channels = image.shape[2] if image.ndim == 3 else 1
    if channels == 4 and (image[..., 3] < 255).any():
        raise _transparent(name)
    if channels not in _CONVERSIONS:
        raise UserError(f"{name} has {channels} channels: convert it to RGB first")
    rgb: Image = cv2.cvtColor(image, _CONVERSIONS[channels]).astype(np.uint8, copy=False)
    return rgb
