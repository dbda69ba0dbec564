"""Open image files by their headers, and refuse what is not read, before anything is decoded.

Pillow parses the headers, in about 10 us for a PNG, JPEG or BMP file and 70 for a TIFF file. Only
the size of a WebP image is read here: Pillow reserves the pixels when it opens one.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from io import BytesIO
from typing import IO, Any, Final

import numpy as np
import PIL.Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from srgan_plugin.errors import UserError

from .image_files import max_pixels

# Not `PIL.Image.open`: its limit of pixels is one for the process, and other formats may be added.
_FORMATS: Final[tuple[tuple[int, bytes, type[ImageFile]], ...]] = (
    (0, b"\x89PNG\r\n\x1a\n", PngImageFile),
    (0, b"\xff\xd8\xff", JpegImageFile),
    (8, b"WEBP", WebPImageFile),
    (0, b"BM", BmpImageFile),
    (0, b"II*\0", TiffImageFile),
    (0, b"MM\0*", TiffImageFile),
)
# Read to upscale, not to train; Pillow has AVIF from 11.3 on, pillow-heif brings HEIC. By the
# class's module: what is not asked for is not imported.
_OTHER_FORMATS: Final = (
    (0, b"GIF8", "PIL.GifImagePlugin", "GifImageFile"),
    (4, b"ftypavif", "PIL.AvifImagePlugin", "AvifImageFile"),
    *(
        (4, b"ftyp" + brand, "pillow_heif.as_plugin", "HeifImageFile")
        for brand in (b"heic", b"heix", b"mif1")
    ),
)
_HEAD: Final = 30  # bytes, in which a WebP file has its size
# What Pillow raises for a damaged file, when it parses the header or decodes.
PILLOW_ERRORS: Final = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError),
    *(AttributeError, AssertionError, RuntimeError, struct.error, zlib.error),
    PIL.Image.DecompressionBombError,
)
# Modes of images that are read.
MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "I;16", "I;16B", "I")
_TIFF_BITS: Final = 258
# With 16 bits, OpenCV returns the values of these kinds unconverted.
_TIFF_UNREAD: Final = {
    262: (0, "white is 0"),
    284: (2, "each channel lies apart"),
    338: (1, "the colours are multiplied by alpha"),
}
_LARGEST_16_BITS: Final = 1_000_000  # to a side: libpng's own limit
# Offsets of the bit depth and the colour type in a PNG file's header.
_PNG_BITS, _PNG_COLOUR = 24, 25
_PNG_CHANNELS: Final = {0: 1, 4: 2, 2: 3, 6: 4}
_HARMLESS: Final = 2**24  # pixels that any file may claim
# Bits of pixels that a byte of the file can mean at the most; of a JPEG, pixels: 64 take a bit.
# Other kinds have no such limit: this many pixels are a blank page of a fax, and of a WebP.
_DENSEST_ELSE: Final = 2**16
_DENSEST: Final = {
    "PNG": 8 * 1032,
    "GIF": 8 * 4096,
    "JPEG": 512,
    "raw": 8,
    "packbits": 8 * 64,
    "tiff_adobe_deflate": 8 * 1032,
    "tiff_deflate": 8 * 1032,
    "tiff_lzw": 8 * 4096,
}


def open_image(content: bytes, name: str, *, more: bool = False) -> ImageFile:
    """Open a PNG, JPEG, WebP, BMP or TIFF image without decoding it.

    Args:
        content: The whole file.
        name: What to call it in an error.
        more: Open GIF, AVIF and HEIC as well.

    Raises:
        UserError: It is of another format or truncated, has several frames or pages, colours or
            numbers that no reader converts exactly, or more pixels than are read or than so many
            bytes can mean.
    """
    opener = _opener(content, name, more=more)
    if opener is WebPImageFile:
        # The proof is a file of 40 bytes that claims 16383x16383: Pillow would reserve 2 GB.
        _check_bounds(_webp_size(content, name), content, name)
    file = BytesIO(content)
    image = _open(opener, file, name)
    _check_kind(image, content, name)
    if not _COMPLETE.get(opener, _no_end)(content, file.tell()):
        raise damaged(name)
    return image


def header_size(file: IO[bytes], name: str) -> tuple[int, int]:
    """Return width and height of an image as its header states them.

    Raises:
        UserError: The header is damaged, or of another format.
    """
    head = file.read(_HEAD)
    file.seek(0)
    opener = _opener(head, name, more=True)
    if opener is WebPImageFile:
        return _webp_size(head, name)
    with _open(opener, file, name) as image:
        return image.width, image.height


def _opener(head: bytes, name: str, *, more: bool = False) -> type[ImageFile]:
    for at, magic, opener in _FORMATS:
        if head.startswith(magic, at):
            return opener
    for at, magic, module, opener_name in _OTHER_FORMATS if more else ():
        if head.startswith(magic, at):
            try:
                other: type[ImageFile] = getattr(import_module(module), opener_name)
            except ImportError:
                package = module.partition(".")[0].replace("PIL", "pillow>=11.3").replace("_", "-")
                raise UserError(f'{name} needs {package}; run: pip install "{package}"') from None
            return other
    kinds = ", TIFF, GIF, AVIF or HEIC" if more else " or TIFF"
    raise UserError(f"{name} is not an image: expected PNG, JPEG, WebP, BMP{kinds} data")


def _open(opener: type[ImageFile], file: IO[bytes], name: str) -> ImageFile:
    try:
        return opener(file)
    except PILLOW_ERRORS as error:  # whose messages name neither the file nor the reason
        if opener is not TiffImageFile:
            raise damaged(name, error) from None
        raise UserError(
            f"{name} is cut off, or a TIFF of a kind that is not read, such as floating point in "
            "colour: save it as grey or RGB of 8 or 16 bits first"
        ) from None


def _check_kind(image: ImageFile, content: bytes, name: str) -> None:
    """Refuse sizes, frames and modes that are not read."""
    packing, bits = image.format or "", 1
    if packing == "PNG":
        if content[12:16] != b"IHDR":
            raise damaged(name)
        bits = content[_PNG_BITS] * _PNG_CHANNELS.get(content[_PNG_COLOUR], 1)
    elif packing == "TIFF":
        packing = str(image.info.get("compression", ""))
    _check_bounds(image.size, content, name, packing, bits)
    with damage_named(name):
        frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise UserError(
            f"{name} has {frames} frames or pages, expected one image: save the one that is meant"
        )
    if image.mode not in MODES:
        kind = {"F": "floating point"}.get(image.mode, image.mode)
        raise UserError(f"{name} is in {kind}: save it as grey or RGB of 8 or 16 bits first")
    if channels_of_16_bits(image, content):
        _check_16_bits(image, name)


def damaged(name: str, reason: object = "") -> UserError:
    """Return the error of an image that cannot be decoded as a whole."""
    details = f" ({reason})" if reason else ""
    return UserError(f"{name} is corrupt or truncated{details}: restore it from its source")


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Convert what Pillow raises for a damaged file."""
    try:
        yield
    except UserError:
        raise
    except PILLOW_ERRORS as error:
        raise damaged(name, error) from None


def channels_of_16_bits(image: ImageFile, content: bytes) -> int:
    """Return the number of channels of 16 bits; 0 where they have 8. Pillow's mode may be wrong."""
    if image.format == "PNG" and content[_PNG_BITS] == 16:
        return _PNG_CHANNELS[content[_PNG_COLOUR]]
    if image.format == "TIFF" and 16 in np.atleast_1d(image.tag_v2.get(_TIFF_BITS, 1)):  # type: ignore[attr-defined]
        return len(image.getbands())
    return 0


def _no_end(content: bytes, at: int) -> bool:
    return True


def _png_is_complete(content: bytes, _: int) -> bool:
    """Whether a PNG file has pixels and consists of whole chunks, transparency before the pixels.

    OpenCV reserves what a chunk claims, up to 4 GB, and where transparency is stated twice or late,
    readers differ.
    """
    at, kinds = 8, [b""]
    while kinds[-1] != b"IEND" and at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        at += 12 + length
        kinds.append(kind)
    if b"IDAT" not in kinds or content[at - 12 : at] != b"\0\0\0\0IEND\xaeB`\x82":
        return False
    pixels = kinds.index(b"IDAT")
    return b"tRNS" not in kinds[pixels:] and kinds[:pixels].count(b"tRNS") < 2


# Whether a file, whose header ends at `at`, has an end. OpenCV decodes files without one.
_COMPLETE: Final[dict[type[ImageFile], Callable[[bytes, int], bool]]] = {
    PngImageFile: _png_is_complete,
    # Behind the header: a thumbnail has an end mark of its own.
    JpegImageFile: lambda content, at: content.rfind(b"\xff\xd9", at) >= 0,
    WebPImageFile: lambda content, _: int.from_bytes(content[4:8], "little") + 8 <= len(content),
}


def _webp_size(head: bytes, name: str) -> tuple[int, int]:
    """Return width and height of a WebP image from its first bytes."""
    if len(head) < _HEAD:
        raise damaged(name)
    kind = head[12:16]
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
        return width + 1, height + 1
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF


def _check_bounds(
    size: tuple[int, int], content: bytes, name: str, packing: str = "", bits: int = 1
) -> None:
    """Refuse a size that is too large, or that the file cannot hold."""
    width, height = size
    pixels = width * height
    if pixels > max_pixels():
        raise UserError(
            f"{name} has {width}x{height} pixels, more than the {max_pixels()} that are read: cut "
            "it into pieces, or set SRGAN_MAX_PIXELS to more"
        )
    densest = _DENSEST.get(packing, _DENSEST_ELSE)
    if pixels > _HARMLESS and pixels * max(bits, 1) > densest * len(content):
        raise UserError(
            f"{name} claims {width}x{height} pixels, too many for its {len(content)} bytes: "
            "restore it from its source"
        )


def _check_16_bits(image: ImageFile, name: str) -> None:
    tags = getattr(image, "tag_v2", {})
    odd = [what for tag, (value, what) in _TIFF_UNREAD.items() if _first(tags.get(tag)) == value]
    if "transparency" in image.info:
        odd.append("one colour stands for transparency")
    if max(image.size) > _LARGEST_16_BITS:
        raise UserError(
            f"{name} has 16 bits, and more than a million pixels to a side: cut it into pieces"
        )
    if odd:
        raise UserError(
            f"{name} has 16 bits, and {odd[0]}: save it as plain grey or RGB, with or without alpha"
        )


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and value else value
