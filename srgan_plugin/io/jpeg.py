"""Find JPEG files that end inside their pixels."""

import re
from io import BytesIO
from typing import Final

import PIL.Image
import PIL.ImageChops
from PIL.JpegImagePlugin import JpegImageFile

from .image_headers import damaged

# What is neither a byte of pixels nor a restart.
_MARK: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
# Codes of any kind, also behind each restart that may come next.
_CODES: Final = bytes((37 * n * n + 101 * n) % 251 for n in range(1, 256))
_MORE_PIXELS: Final = _CODES + b"".join(bytes([0xFF, 0xD0 + n]) + _CODES for n in range(8)) + _CODES


def check_pixels_complete(image: PIL.Image.Image, content: bytes, name: str) -> None:
    """Refuse a JPEG file that ends inside its pixels, however well it is closed.

    No reader says so: it makes up the rest. Bytes in front of the end mark change the pixels of
    such a file and of no other.
    """
    end, certain = _end_mark(content)
    if not certain:
        return
    longer = content[:end] + _MORE_PIXELS + content[end:]
    with JpegImageFile(BytesIO(longer)) as other:
        other.load()
        if PIL.ImageChops.difference(image, other).getbbox(alpha_only=False):
            raise damaged(name, "it ends before its last pixel")


def _end_mark(content: bytes) -> tuple[int, bool]:
    """Return where the end mark is, and whether pixels are Huffman codes."""
    at, huffman = 2, True
    while found := _MARK.search(content, at):
        kind = content[found.end() - 1]
        if kind == 0xD9:
            return found.start(), huffman
        huffman &= not 0xC9 <= kind <= 0xCF or kind == 0xCC
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return len(content), False
