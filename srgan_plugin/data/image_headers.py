"""What the first and last bytes of a picture file tell: its size, and whether it is all there.

Decoders, OpenCV's of some versions among them, fill the missing part of a truncated file with grey
without a word, so each format's end is looked for here.
"""

import struct
from collections.abc import Callable
from typing import Final

Buffer = bytes | memoryview
_MOST_COMPONENTS: Final = 3  # of a JPEG; of four OpenCV makes RGB regardless of the profile


class _CMYKError(Exception):
    pass


def is_tiff(buffer: Buffer) -> bool:
    """Whether it begins like a TIFF file, whose header is anywhere and not looked into."""
    return bytes(buffer[:4]) in (b"II*\0", b"MM\0*")


def header_shape(buffer: Buffer, name: str) -> tuple[int, int] | None:
    """Height and width of a PNG, JPEG, WebP or BMP picture; None for any other format.

    Raises:
        ValueError: If the picture is not there to its end, or a JPEG in CMYK.
    """
    for magic, at, parse in _HEADERS:
        if bytes(buffer[at : at + len(magic)]) == magic:
            try:
                return parse(bytes(buffer))
            except _CMYKError:
                raise ValueError(f"{name} is in CMYK: convert it to RGB first") from None
            except (struct.error, ValueError):
                raise ValueError(
                    f"{name} is corrupt or truncated: restore it from its source"
                ) from None
    return None


def _png_shape(buffer: bytes) -> tuple[int, int]:
    buffer.rindex(b"IEND\xaeB`\x82")
    width, height = struct.unpack_from(">II", buffer, 16)
    return height, width


def _jpeg_shape(buffer: bytes) -> tuple[int, int]:
    at = 2
    shape = (0, 0)
    while True:
        while buffer[at : at + 2] == b"\xff\xff":  # padding between segments
            at += 1
        marker, length = struct.unpack_from(">HH", buffer, at)
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            height, width, components = struct.unpack_from(">HHB", buffer, at + 5)
            if components > _MOST_COMPONENTS:
                raise _CMYKError
            shape = (height, width)
        at += 2 + length
        if marker == 0xFFDA:
            buffer.index(b"\xff\xd9", at)  # not before: a thumbnail has an end of its own
            return shape


def _webp_shape(buffer: bytes) -> tuple[int, int]:
    size, kind = struct.unpack_from("<I4x4s", buffer, 4)
    if size + 8 > len(buffer):
        raise ValueError
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", buffer, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8X":
        width, height = (int.from_bytes(buffer[at : at + 3], "little") for at in (24, 27))
        return height + 1, width + 1
    width, height = struct.unpack_from("<HH", buffer, 26)
    return height & 0x3FFF, width & 0x3FFF


def _bmp_shape(buffer: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<ii", buffer, 18)
    return abs(height), width


_HEADERS: Final[tuple[tuple[bytes, int, Callable[[bytes], tuple[int, int]]], ...]] = (
    (b"\x89PNG\r\n\x1a\n", 0, _png_shape),
    (b"\xff\xd8\xff", 0, _jpeg_shape),
    (b"WEBP", 8, _webp_shape),
    (b"BM", 0, _bmp_shape),
)
