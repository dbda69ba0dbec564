"""Read image files for upscaling: with bit depth, alpha, colour profile and orientation.

Pillow decodes 8-bit images and reads all metadata; OpenCV decodes 16-bit images, because Pillow
converts 16-bit colour to 8 bits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL.Image

from srgan_plugin.errors import UserError

from .array_types import Pixels
from .image_files import SUFFIXES, image_file_size, read_image_bytes
from .image_headers import (
    MODES,
    PILLOW_ERRORS,
    channels_of_16_bits,
    header_size,
    open_image,
    pillow_errors_as_user_error,
)
from .images import opencv_decode
from .jpeg import check_pixels_complete
from .metadata import Metadata, read_metadata

READABLE_SUFFIXES: Final = (*SUFFIXES, ".gif", ".avif", ".heic", ".heif")
# Pillow's mode -> mode to convert to. Transparency is handled in `to_pixels`.
_CONVERTED: Final = {"1": "L", "P": "RGB", "PA": "RGBA", "RGBa": "RGBA"}
_EXIF_ORIENTATION: Final = 0x0112
# EXIF orientation -> function that makes the pixels upright.
_UPRIGHT: Final[dict[int, Callable[[Pixels], Pixels]]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: p[::-1].swapaxes(0, 1),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: lambda p: p[:, ::-1].swapaxes(0, 1),
}


@dataclass(frozen=True, kw_only=True)
class ImageContent:
    """The content of an image file.

    Attributes:
        pixels: (H, W, C), upright, uint8 or uint16; C is 1 for grey, 2 for grey and alpha, 3 for
            RGB, 4 for RGB and alpha.
        icc_profile: Colour profile; None if the file has none.
        metadata: EXIF, resolution, XMP, texts and comment.
    """

    pixels: Pixels
    icc_profile: bytes | None
    metadata: Metadata


def read_image_content(path: Path) -> ImageContent:
    """Read an image file and apply its EXIF orientation.

    Formats are PNG, JPEG, WebP, BMP, TIFF and GIF; AVIF if Pillow supports it, and HEIC if
    pillow-heif is installed.

    Raises:
        OSError: The file does not exist or cannot be read.
        UserError: The file is not an image, is damaged, has several frames or pages, has more
            pixels than `SRGAN_MAX_PIXELS` allows, is in CMYK, Lab or floating point, or is in HEIC
            and pillow-heif is not installed.
    """
    content, name = read_image_bytes(path), str(path)
    with open_image(content, name, all_formats=True) as image:
        channels = channels_of_16_bits(image, content)
        with pillow_errors_as_user_error(name):
            image.load()
            if image.format == "JPEG":
                check_pixels_complete(image, content, name)
        pixels = _decode_16_bit(content, channels, name) if channels else to_pixels(image, name)
        # Read after loading, because both decoders rotate the pixels of a TIFF.
        turn = _UPRIGHT.get(_orientation(image), _UPRIGHT[1])
        return ImageContent(
            pixels=np.ascontiguousarray(turn(pixels)),
            icc_profile=image.info.get("icc_profile") or None,
            metadata=read_metadata(image),
        )


def peek_size(path: Path) -> tuple[int, int]:
    """Return height and width of the stored pixels from the header, without decoding.

    The EXIF orientation is not applied, so height and width may be swapped in comparison with
    `read_image_content`.

    Raises:
        OSError: The file does not exist or cannot be read.
        UserError: The file is not an image, or is too large.
    """
    image_file_size(path)  # Pillow reads some files completely for the header
    with path.open("rb") as file:
        width, height = header_size(file, str(path))
    return height, width


def _orientation(image: PIL.Image.Image) -> Any:
    """Return the EXIF orientation, or 1 (upright) if EXIF is damaged."""
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except PILLOW_ERRORS:
        return 1


def to_pixels(image: PIL.Image.Image, name: str = "image") -> Pixels:
    """Return the pixels of a Pillow image with 8 bits, (H, W, C) as in `ImageContent`.

    Raises:
        UserError: The image is in CMYK, Lab or floating point, or has 16 bits.
    """
    if image.mode not in MODES:
        raise UserError(
            f"{name}: expected L, LA, RGB or RGBA, got {image.mode}; convert the image first"
        )
    mode = _CONVERTED.get(image.mode)
    if "transparency" in image.info and image.mode in ("P", "RGB", "L", "1"):
        mode = "LA" if image.mode in ("L", "1") else "RGBA"
    with pillow_errors_as_user_error(name):
        pixels = np.asarray(image.convert(mode) if mode else image)
    if pixels.dtype != np.uint8:
        raise UserError(
            f"{name}: expected 8 bits per channel, got {pixels.dtype}; pass the file path for "
            "16-bit images"
        )
    return pixels.reshape(*pixels.shape[:2], -1)


def _decode_16_bit(content: bytes, channels: int, name: str) -> Pixels:
    """Decode a file with 16 bits per channel, (H, W, C) as in `ImageContent`."""
    pixels = opencv_decode(content, name)
    if pixels.dtype != np.uint16:
        raise UserError(
            f"{name}: expected 16 bits per channel, got {pixels.dtype}; save it with 8 or 16 bits"
        )
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    # OpenCV converts grey with alpha to four channels.
    order = {1: [0], 2: [0, 3], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    return np.take(pixels, order, axis=2)
