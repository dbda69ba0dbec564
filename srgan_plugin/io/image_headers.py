"""Check the headers of image files before they are decoded, and refuse unsupported ones.

Pillow parses the headers, in about 10 us for a PNG, JPEG or BMP file and 70 us for a TIFF file. The
size of a WebP image is read here, because Pillow reads the whole file and reserves the pixels.
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

# Not `PIL.Image.open`: its limit of pixels is global, and plugins may add formats.
_FORMATS: Final[tuple[tuple[int, bytes, type[ImageFile]], ...]] = (
    (0, b"\x89PNG\r\n\x1a\n", PngImageFile),
    (0, b"\xff\xd8\xff", JpegImageFile),
    (8, b"WEBP", WebPImageFile),
    (0, b"BM", BmpImageFile),
    (0, b"II*\0", TiffImageFile),
    (0, b"MM\0*", TiffImageFile),
)
# For upscaling, not for training; Pillow has AVIF since 11.3, pillow-heif has HEIC. Module and
# class by name, because these modules are imported only if needed.
_OTHER_FORMATS: Final = (
    (0, b"GIF8", "PIL.GifImagePlugin", "GifImageFile"),
    (4, b"ftypavif", "PIL.AvifImagePlugin", "AvifImageFile"),
    *(
        (4, b"ftyp" + brand, "pillow_heif.as_plugin", "HeifImageFile")
        for brand in (b"heic", b"heix", b"mif1")
    ),
)
_HEAD: Final = 30  # bytes up to the size in a WebP file
# Pillow errors for a damaged file, in the header or in decoding.
PILLOW_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    struct.error,
    zlib.error,
    PIL.Image.DecompressionBombError,
)
# Supported Pillow modes.
MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "I;16", "I;16B", "I")
_TIFF_BITS: Final = 258
# TIFF tags of 16-bit images with which OpenCV returns wrong values.
_TIFF_UNSUPPORTED: Final = {
    262: (0, "white as 0"),
    284: (2, "separate planes"),
    338: (1, "premultiplied alpha"),
}
_LARGEST_16_BITS: Final = 1_000_000  # to a side: the limit of libpng
# Offsets of the bit depth and the colour type in a PNG file's header.
_PNG_BITS: Final = 24
_PNG_COLOUR: Final = 25
_PNG_CHANNELS: Final = {0: 1, 4: 2, 2: 3, 6: 4}
_HARMLESS: Final = 2**24  # pixels allowed for a file of any size
# Largest number of bits of pixels that a byte of the file can encode; for JPEG, of pixels (64 take
# a bit). Other formats have no such limit; a blank page as fax or WebP reaches 2**16.
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


def open_image(content: bytes, name: str, *, all_formats: bool = False) -> ImageFile:
    """Open a PNG, JPEG, WebP, BMP or TIFF image without decoding it.

    Args:
        content: The complete file.
        name: Name of the image, for messages.
        all_formats: Whether to open GIF, AVIF and HEIC as well.

    Returns:
        Pillow's image; its pixels are decoded at the first access.

    Raises:
        UserError: The file is of another format or truncated, has several frames or pages, a mode
            that cannot be converted exactly, or more pixels than are allowed or than its bytes can
            encode.
    """
    opener = _opener(content, name, all_formats=all_formats)
    if opener is WebPImageFile:
        # Before Pillow's global limit, and before Pillow reserves 2 GB for a file of 40 bytes.
        _check_bounds(_webp_size(content, name), content, name)
    file = BytesIO(content)
    image = _open(opener, file, name)
    _check_kind(image, content, name)
    is_complete = _COMPLETE.get(opener)
    if is_complete and not is_complete(content, file.tell()):
        raise damage_error(name)
    return image


def header_size(file: IO[bytes], name: str) -> tuple[int, int]:
    """Return width and height of an image from its header.

    Raises:
        UserError: The header is damaged or of another format.
    """
    head = file.read(_HEAD)
    file.seek(0)
    opener = _opener(head, name, all_formats=True)
    if opener is WebPImageFile:
        return _webp_size(head, name)
    with _open(opener, file, name) as image:
        return image.width, image.height


def _opener(head: bytes, name: str, *, all_formats: bool = False) -> type[ImageFile]:
    for at, magic, opener in _FORMATS:
        if head.startswith(magic, at):
            return opener
    for at, magic, module, opener_name in _OTHER_FORMATS if all_formats else ():
        if head.startswith(magic, at):
            try:
                other: type[ImageFile] = getattr(import_module(module), opener_name)
            except ImportError:
                package = module.partition(".")[0].replace("PIL", "pillow>=11.3").replace("_", "-")
                raise UserError(
                    f'{name}: expected {package}, got none; run: pip install "{package}"'
                ) from None
            return other
    kinds = ", TIFF, GIF, AVIF or HEIC" if all_formats else " or TIFF"
    got = "something else" if head else "an empty file; copy it again, or remove it"
    raise UserError(f"{name}: expected PNG, JPEG, WebP, BMP{kinds} data, got {got}")


def _open(opener: type[ImageFile], file: IO[bytes], name: str) -> ImageFile:
    try:
        return opener(file)
    except PILLOW_ERRORS as error:  # the messages have neither the file nor the reason
        if opener is not TiffImageFile:
            raise damage_error(name, error) from None
        raise UserError(
            f"{name}: expected a TIFF image of 8 or 16 bits, got one that is truncated or of an "
            "unsupported kind, such as floating point in colour; save it as grey or RGB first"
        ) from None


def _check_kind(image: ImageFile, content: bytes, name: str) -> None:
    """Raise `UserError` for unsupported sizes, frames and modes."""
    packing, bits = image.format or "", 1
    if packing == "PNG":
        if content[12:16] != b"IHDR":
            raise damage_error(name)
        bits = content[_PNG_BITS] * _PNG_CHANNELS.get(content[_PNG_COLOUR], 1)
    elif packing == "TIFF":
        packing = str(image.info.get("compression", ""))
    _check_bounds(image.size, content, name, packing, bits)
    with pillow_errors_as_user_error(name):
        frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise UserError(
            f"{name}: expected one image, got {frames} frames or pages; save one of them as a file"
        )
    if image.mode not in MODES:
        kind = {"F": "floating point"}.get(image.mode, image.mode)
        raise UserError(
            f"{name}: expected grey or RGB of 8 or 16 bits, got {kind}; convert the image first"
        )
    if channels_of_16_bits(image, content):
        _check_16_bits(image, name)


def damage_error(name: str, reason: object = "") -> UserError:
    """Return the error for an image that cannot be decoded completely."""
    details = f" ({reason})" if reason else ""
    return UserError(
        f"{name}: expected a complete image, got one that is corrupt or truncated{details}; "
        "restore it from its source"
    )


@contextmanager
def pillow_errors_as_user_error(name: str) -> Iterator[None]:
    """Convert Pillow's errors for a damaged file to a `UserError` with the name of the image."""
    try:
        yield
    except UserError:
        raise
    except PILLOW_ERRORS as error:
        raise damage_error(name, error) from None


def channels_of_16_bits(image: ImageFile, content: bytes) -> int:
    """Return the number of channels if they have 16 bits, else 0; Pillow's mode may be wrong."""
    if image.format == "PNG" and content[_PNG_BITS] == 16:
        return _PNG_CHANNELS[content[_PNG_COLOUR]]
    if image.format == "TIFF" and 16 in np.atleast_1d(image.tag_v2.get(_TIFF_BITS, 1)):  # type: ignore[attr-defined]
        return len(image.getbands())
    return 0


def _png_is_complete(content: bytes, _: int) -> bool:
    """Return whether a PNG file has pixels and complete chunks, with transparency before pixels.

    OpenCV allocates the size stated in a chunk, up to 4 GB; decoders differ if a file has
    transparency twice or after the pixels.
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


# Functions of the file and of the end of its header, which return whether the file ends with its
# end marker, because OpenCV decodes files without an end marker.
_COMPLETE: Final[dict[type[ImageFile], Callable[[bytes, int], bool]]] = {
    PngImageFile: _png_is_complete,
    # After the header, because a thumbnail also has an end marker.
    JpegImageFile: lambda content, at: content.rfind(b"\xff\xd9", at) >= 0,
    WebPImageFile: lambda content, _: int.from_bytes(content[4:8], "little") + 8 <= len(content),
}


def _webp_size(head: bytes, name: str) -> tuple[int, int]:
    """Return width and height of a WebP image from its first bytes."""
    if len(head) < _HEAD:
        raise damage_error(name)
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
    """Raise `UserError` if a size is too large, or larger than the file can encode."""
    width, height = size
    pixels = width * height
    if pixels > max_pixels():
        raise UserError(
            f"{name}: expected at most {max_pixels()} pixels, got {height}x{width} (height x "
            "width); cut the image into pieces, or set SRGAN_MAX_PIXELS to more"
        )
    densest = _DENSEST.get(packing, _DENSEST_ELSE)
    if pixels > _HARMLESS and pixels * max(bits, 1) > densest * len(content):
        raise UserError(
            f"{name}: expected no more pixels than {len(content)} bytes can encode, got "
            f"{height}x{width} (height x width); restore the file from its source"
        )


def _check_16_bits(image: ImageFile, name: str) -> None:
    tags = getattr(image, "tag_v2", {})
    unsupported = [
        kind for tag, (value, kind) in _TIFF_UNSUPPORTED.items() if _first(tags.get(tag)) == value
    ]
    if "transparency" in image.info:
        unsupported.append("a transparent colour")
    if max(image.size) > _LARGEST_16_BITS:
        raise UserError(
            f"{name}: expected at most a million pixels to a side with 16 bits, got "
            f"{max(image.size)}; cut the image into pieces"
        )
    if unsupported:
        raise UserError(
            f"{name}: expected plain grey or RGB with 16 bits, got {unsupported[0]}; save it "
            "without that"
        )


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and value else value
