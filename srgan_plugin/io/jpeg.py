"""Detect truncated JPEG files, and estimate the quality of their compression."""

import os
import re
from io import BytesIO
from pathlib import Path
from typing import Final

import PIL.Image
import PIL.ImageChops
from PIL.JpegImagePlugin import JpegImageFile

from .image_headers import PILLOW_ERRORS, damage_error

# A marker that is neither a stuffed byte of pixels nor a restart.
_MARK: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
# Arbitrary codes, also after each restart that may be next.
_CODES: Final = bytes((37 * n * n + 101 * n) % 251 for n in range(1, 256))
_MORE_PIXELS: Final = _CODES + b"".join(bytes([0xFF, 0xD0 + n]) + _CODES for n in range(8)) + _CODES

# Sum of the table of luminance that libjpeg has for a quality of 50 (ITU-T T.81, table K.1).
_SUM: Final = 3688


def estimate_quality(path: str | os.PathLike[str]) -> int | None:
    """Estimate the quality at which a file was compressed, from its table of luminance.

    Files by libjpeg have the quality they were saved with. Other programs have tables of their own;
    theirs is that of libjpeg's table with the same mean.

    Returns:
        1 to 100; None for what is no JPEG file, grey or in colour, or cannot be read.
    """
    if not Path(path).is_file():  # opening a pipe waits for its other end
        return None
    try:
        with Path(path).open("rb") as file:
            image = JpegImageFile(file)
            table = image.quantization.get(image.layer[0][3] if image.layer else 0)
    except PILLOW_ERRORS:
        return None
    if not table or image.mode not in ("L", "RGB"):
        return None
    percent: float = 100 * sum(table) / _SUM
    quality = 100 - percent / 2 if percent <= 100 else 5000 / percent
    return min(max(round(quality), 1), 100)


def check_pixels_complete(image: PIL.Image.Image, content: bytes, name: str) -> None:
    """Raise `UserError` if a JPEG file has missing pixels, even if it has an end marker.

    Decoders fill in the rest without an error. Extra bytes before the end marker change the pixels
    of a truncated file, and do not change those of a complete one.

    Args:
        image: The image, decoded by Pillow.
        content: Bytes of the file.
        name: Name of the image, for messages.

    Raises:
        UserError: The file is truncated.
    """
    end, certain = _end_mark(content)
    if not certain:
        return
    longer = content[:end] + _MORE_PIXELS + content[end:]
    with JpegImageFile(BytesIO(longer)) as other:
        other.load()
        if PIL.ImageChops.difference(image, other).getbbox(alpha_only=False):
            raise damage_error(name, "it ends before its last pixel")


def _end_mark(content: bytes) -> tuple[int, bool]:
    """Return the offset of the end marker, and whether pixels are Huffman codes."""
    at, huffman = 2, True
    while found := _MARK.search(content, at):
        kind = content[found.end() - 1]
        if kind == 0xD9:
            return found.start(), huffman
        huffman &= not 0xC9 <= kind <= 0xCF or kind == 0xCC
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return len(content), False
