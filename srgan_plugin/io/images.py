"""Read image files: as 8-bit RGB for training, and as they are (depth, alpha, profile) to upscale.

For training an image is RGB, uint8, (height, width, 3), as the file stores it: EXIF orientation and
colour profiles are left alone, and what cannot become that without loss is refused by name. OpenCV
decodes it: a PNG image of 480x480 in 7.1 ms where Pillow takes 7.7, and gives the same pixels.

To upscale, Pillow reads 8 bits and everything but the pixels; OpenCV reads 16-bit colour, which
Pillow would cut to 8 bits.
"""

import functools
import os
import re
import stat
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final

import cv2
import numpy as np
import PIL.Image
import PIL.ImageChops
from numpy.typing import NDArray

from srgan_plugin.errors import MissingFileError, UserError

Buffer = bytes | memoryview
Image = NDArray[np.uint8]
Pixels = NDArray[Any]
Shape = tuple[int, int, int]
SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_MAX_COMPONENTS: Final = 3  # of a JPEG; of four OpenCV makes RGB regardless of the profile
_MAX_PIXELS: Final = 2**28
_MOST_BYTES: Final = 8  # of a pixel: 16 bits of RGB and alpha


class _CMYKError(Exception):
    pass


def is_tiff(buffer: Buffer) -> bool:
    """Whether it begins like a TIFF file; its header may be anywhere and is not parsed."""
    return bytes(buffer[:4]) in (b"II*\0", b"MM\0*")


def header_shape(buffer: Buffer, name: str) -> tuple[int, int] | None:
    """Return height and width of a PNG, JPEG, WebP or BMP image; None for any other format.

    Raises:
        UserError: It is truncated, or a JPEG in CMYK.
    """
    for magic, at, parse in _HEADERS:
        if bytes(buffer[at : at + len(magic)]) == magic:
            try:
                return parse(bytes(buffer))
            except _CMYKError:
                raise UserError(f"{name} is in CMYK: convert it to RGB first") from None
            except (struct.error, ValueError):
                raise _damaged(name) from None
    return None


def _damaged(name: str, reason: object = "") -> UserError:
    details = f" ({reason})" if reason else ""
    return UserError(f"{name} is corrupt or truncated{details}: restore it from its source")


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
            if components > _MAX_COMPONENTS:
                raise _CMYKError
            shape = (height, width)
        at += 2 + length
        if marker == 0xFFDA:
            buffer.index(b"\xff\xd9", at)  # not before: a thumbnail has an end of its own
            return shape


def _webp_shape(buffer: bytes) -> tuple[int, int]:
    (size,) = struct.unpack_from("<I", buffer, 4)
    if size + 8 > len(buffer):
        raise ValueError
    return _webp_head_shape(buffer)


def _webp_head_shape(buffer: bytes) -> tuple[int, int]:
    kind = buffer[12:16]
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", buffer, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8X":
        width, height = (int.from_bytes(buffer[at : at + 3], "little") for at in (24, 27))
        return height + 1, width + 1
    width, height = struct.unpack_from("<HH", buffer, 26)
    return height & 0x3FFF, width & 0x3FFF


def _is_webp(buffer: bytes) -> bool:
    return buffer[8:12] == b"WEBP"


def _bmp_shape(buffer: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<ii", buffer, 18)
    return abs(height), width


_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"
_HARMLESS: Final = 2**24  # pixels that any file may claim
# Bits of pixels that a byte of the file can mean at the most; of a JPEG, pixels: 64 take a bit.
# Other kinds have no such limit: this many pixels are a blank page of a fax, and of a WebP.
_DENSEST_ELSE: Final = 2**16
_DENSEST: Final = {
    "PNG": 8 * 1032,
    "JPEG": 512,
    "raw": 8,
    "packbits": 8 * 64,
    "tiff_adobe_deflate": 8 * 1032,
    "tiff_deflate": 8 * 1032,
    "tiff_lzw": 8 * 4096,
}
_HEADERS: Final[tuple[tuple[bytes, int, Callable[[bytes], tuple[int, int]]], ...]] = (
    (_PNG, 0, _png_shape),
    (_JPEG, 0, _jpeg_shape),
    (b"WEBP", 8, _webp_shape),
    (b"BM", 0, _bmp_shape),
)


def list_images(folder: str | os.PathLike[str], *, nested: bool = True) -> dict[str, Path]:
    """Find the images of a folder, sorted by key.

    The key is the path below `folder` without its suffix, with forward slashes: `0001`, and
    `a/0001` in a nested folder. Files and folders whose names begin with a dot are skipped. Links
    are followed, but no folder is searched twice.

    Args:
        folder: The folder.
        nested: Whether the folders below it are searched, too.

    Raises:
        MissingFileError: The folder does not exist.
        UserError: It has no image, two files of one key (`0001.png`, `0001.jpg`), or something
            else that is called like an image: a pipe, a device, a link to nothing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"expected a folder of images, but {folder} does not exist")
    found: dict[str, Path] = {}
    for path in sorted(walk_files(folder, nested=nested)):
        if path.suffix.lower() not in SUFFIXES:
            continue
        key = path.relative_to(folder).with_suffix("").as_posix()
        if key in found:
            raise UserError(
                f"{folder} holds both {found[key].name} and {path.name}: keep one of them"
            )
        found[key] = path
        if not path.is_file():
            raise _not_regular(path)
    if not found:
        raise UserError(f"{folder} holds no image: expected files ending in {', '.join(SUFFIXES)}")
    return dict(sorted(found.items()))


def walk_files(
    folder: Path, *, nested: bool = True, onerror: Callable[[OSError], None] | None = None
) -> Iterator[Path]:
    """Find all but the folders in a folder and below it; each real folder is searched once.

    Names that begin with a dot are skipped. Links to folders are followed after the folders
    themselves, except where they lead to one that was searched before, or that holds `folder`.

    Args:
        folder: The folder.
        nested: Whether the folders below it are searched, too.
        onerror: Called with the error of each folder that cannot be read.
    """
    searched = set(map(str, Path(os.path.realpath(folder)).parents))
    waiting = [folder]
    for start in waiting:
        for parent, folders, names in os.walk(start, onerror=onerror):
            real = os.path.realpath(parent)
            if real in searched:
                folders.clear()
                continue
            searched.add(real)
            folders[:] = sorted(name for name in folders if nested and not name.startswith("."))
            waiting += [link for name in folders if (link := Path(parent, name)).is_symlink()]
            yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def read_image(path: str | os.PathLike[str]) -> Image:
    """Read an image file for training.

    Returns:
        (H, W, 3), uint8, RGB. See `decode_image` for what is converted.

    Raises:
        MissingFileError: The file does not exist.
        UserError: It is damaged, not an image, or cannot be converted exactly.
    """
    return decode_image(_read(Path(path)), str(path))


def read_source_image(path: str | os.PathLike[str]) -> Image:
    """Read an image as `read_image` does, and see whether a JPEG file holds all of its pixels.

    That takes three times as long: it is for what is read once, to be stored.
    """
    content = _read(Path(path))
    if content.startswith(_JPEG) and (shape := header_shape(content, str(path))):
        _check_bounds(content, str(path), shape)
        with _damage_named(path), _opened(content, path) as image:
            image.load()
            _check_jpeg_whole(image, content, path)
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
    shape = header_shape(content, name)
    if shape is None and not is_tiff(content):
        raise UserError(f"{name} is not an image: expected PNG, JPEG, WebP, BMP or TIFF data")
    if shape:
        _check_bounds(content, name, shape)
    if _is_rare(content):
        _check_rare(content, name)
    return _to_rgb(_to_8_bits(_opencv_decode(content, name), name), name)


def _is_rare(content: bytes) -> bool:
    """Whether OpenCV may take a part of it for the whole, or its numbers for other colours."""
    if content.startswith(_PNG):
        head = content[: content.find(b"IDAT")]
        return b"acTL" in head or b"tRNS" in head
    animated = _is_webp(content) and content[12:16] == b"VP8X" and content[20] & 2 > 0
    return animated or is_tiff(content)


def _check_rare(content: bytes, name: str) -> None:
    """Refuse what `read_image_content` refuses, and a colour of grey that means transparency."""
    with _opened(content, name) as image:
        _check_kind(image, content, name)
        if image.mode in ("1", "L") and "transparency" in image.info:
            with _damage_named(name):
                alpha = np.asarray(image.convert("LA"))[..., 1]
            if (alpha < 255).any():
                raise _transparent(name)


def _transparent(name: str) -> UserError:
    return UserError(f"{name} has transparent pixels: flatten it onto a background first")


def image_shape(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return an image's height and width from its header; only TIFF files are decoded.

    Raises:
        MissingFileError: The file does not exist.
        UserError: It is truncated, or not an image.
    """
    buffer = _read(Path(path))
    height, width, *_ = header_shape(buffer, str(path)) or decode_image(buffer, str(path)).shape
    _check_bounds(buffer, str(path), (height, width))
    return height, width


def _read(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise _not_regular(path)
        if found.st_size > _MOST_BYTES * max_pixels() + 2**26:
            raise UserError(
                f"{path} has {found.st_size} bytes, more than an image of {max_pixels()} pixels "
                "needs: cut it into pieces, or set SRGAN_MAX_PIXELS"
            )
        with path.open("rb", 0) as file:
            return file.read(found.st_size) or b""  # not to the end: /proc's files have none
    except FileNotFoundError:
        raise MissingFileError(
            f"expected an image, but {path} "
            + ("is a link to nothing" if path.is_symlink() else "does not exist")
        ) from None


def _not_regular(path: Path) -> UserError:
    """Return the error of a file that is not opened: reading it might never end."""
    try:
        kind = next(
            (kind for test, kind in _KINDS.items() if test(path.stat().st_mode)), "unreadable"
        )
    except FileNotFoundError:
        kind = "a link to nothing"
    except OSError as error:
        kind = f"unreadable ({error.strerror})"
    return UserError(f"{path}: expected an image file, got what is {kind}; remove it")


_KINDS: Final[dict[Callable[[int], bool], str]] = {
    stat.S_ISFIFO: "a pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
    stat.S_ISDIR: "a folder",
}


@functools.cache
def max_pixels() -> int:
    """Return the largest number of pixels that is read: `$SRGAN_MAX_PIXELS`, or 2**28."""
    text = os.environ.get("SRGAN_MAX_PIXELS", str(_MAX_PIXELS))
    if not text.isdecimal() or not int(text):
        raise UserError(f"SRGAN_MAX_PIXELS: expected a number of pixels, got {text!r}")
    return int(text)


def _check_bounds(content: bytes, name: object, shape: tuple[int, int], packing: str = "") -> None:
    """Refuse, before it is decoded, a size that is too large, or that the file cannot hold."""
    height, width = shape
    if height * width > max_pixels():
        raise UserError(
            f"{name} has {width}x{height} pixels, more than the {max_pixels()} that are read: cut "
            "it into pieces, or set SRGAN_MAX_PIXELS to more"
        )
    bits = 1
    if content.startswith(_PNG):
        packing, bits = "PNG", content[_PNG_BITS] * _PNG_CHANNELS.get(content[_PNG_COLOUR], 1)
    elif content.startswith(_JPEG):
        packing = "JPEG"
    densest = _DENSEST.get(packing, _DENSEST_ELSE)
    pixels = height * width
    if pixels > _HARMLESS and pixels * max(bits, 1) > densest * len(content):
        raise UserError(
            f"{name} claims {width}x{height} pixels, too many for its {len(content)} bytes: "
            "restore it from its source"
        )


def _opencv_decode(buffer: Buffer, name: str) -> Pixels:
    """Decode as OpenCV does, (H, W) or (H, W, C), channels in its order: BGR, BGRA."""
    try:
        pixels: Pixels | None = cv2.imdecode(np.frombuffer(buffer, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise _damaged(name)
    return pixels


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


_CONVERSIONS: Final = {
    1: cv2.COLOR_GRAY2RGB,
    3: cv2.COLOR_BGR2RGB,
    4: cv2.COLOR_BGRA2RGB,
}


_PILLOW_FORMATS: Final = ("PNG", "JPEG", "WEBP", "TIFF")
# What Pillow raises for a damaged file, when it parses the header or decodes.
_PILLOW_ERRORS: Final = (OSError, SyntaxError, ValueError, EOFError, TypeError, struct.error)
# Pillow's mode -> the mode to convert to; None: as it is, or by OpenCV where it has 16 bits.
_MODES: Final = {
    "1": "L",
    "P": "RGB",
    "PA": "RGBA",
    "RGBa": "RGBA",
    **dict.fromkeys(("L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I"), None),
}
_EXIF_ORIENTATION: Final = 0x0112
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
# EXIF orientation -> what makes the pixels upright.
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
        pixels: (H, W, C), upright, C channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha;
            uint8 or uint16.
        icc_profile: The colour profile; None where the file has none.
    """

    pixels: Pixels
    icc_profile: bytes | None


def read_image_content(path: Path) -> ImageContent:
    """Read a PNG, JPEG, WebP or TIFF file as it is, with EXIF's orientation applied.

    Raises:
        OSError: The file does not exist or cannot be read.
        UserError: It is not an image, is damaged, has several frames or pages, or is in CMYK or
            floating point.
    """
    content = _read(path)
    if _is_webp(content) and (shape := header_shape(content, str(path))):
        _check_bounds(content, path, shape)  # Pillow reserves the canvas when it opens one
    with _opened(content, path) as image:
        channels = _check_kind(image, content, path)
        with _damage_named(path):
            image.load()
            if image.format in ("JPEG", "MPO"):
                _check_jpeg_whole(image, content, path)
        pixels = _16_bits(content, channels, path) if channels else _8_bits(image, path)
        # Read after loading: both decoders have turned a TIFF's pixels by then.
        turn = _UPRIGHT.get(_orientation(image), _UPRIGHT[1])
        return ImageContent(
            pixels=np.ascontiguousarray(turn(pixels)),
            icc_profile=image.info.get("icc_profile") or None,
        )


def _check_kind(image: PIL.Image.Image, content: bytes, name: object) -> int:
    """Refuse what neither reader takes; return the number of channels if they have 16 bits."""
    packing = str(image.info.get("compression", "")) if image.format == "TIFF" else ""
    _check_bounds(content, name, (image.height, image.width), packing)
    with _damage_named(name):
        frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a phone's extra views
        raise UserError(
            f"{name} has {frames} frames or pages, expected one image: save the one that is meant"
        )
    if image.mode not in _MODES:
        kind = {"F": "floating point"}.get(image.mode, image.mode)
        raise UserError(f"{name} is in {kind}: save it as grey or RGB of 8 or 16 bits first")
    channels = _channels_of_16_bits(image, content)
    if channels:
        _check_16_bits(image, name)
    return channels


def _check_jpeg_whole(image: PIL.Image.Image, content: bytes, name: object) -> None:
    """Refuse a JPEG file that ends inside its pixels, however well it is closed.

    No reader says so: it makes up the rest. Bytes in front of the end mark change the pixels of
    such a file and of no other.
    """
    end, certain = _jpeg_end(content)
    if not certain:
        return
    longer = content[:end] + _MORE_PIXELS + content[end:]
    with PIL.Image.open(BytesIO(longer), formats=("JPEG", "MPO")) as other:
        other.load()
        if PIL.ImageChops.difference(image, other).getbbox(alpha_only=False):
            raise _damaged(str(name), "it ends before its last pixel")


def _jpeg_end(content: bytes) -> tuple[int, bool]:
    """Return where the end mark is, and whether pixels are Huffman codes."""
    at, huffman = 2, True
    while found := _JPEG_MARK.search(content, at):
        kind = content[found.end() - 1]
        if kind == 0xD9:
            return found.start(), huffman
        huffman &= not 0xC9 <= kind <= 0xCF or kind == 0xCC
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return len(content), False


# What is neither a byte of pixels nor a restart.
_JPEG_MARK: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
# Codes of any kind, also behind each restart that may come next.
_CODES: Final = bytes((37 * n * n + 101 * n) % 251 for n in range(1, 256))
_MORE_PIXELS: Final = _CODES + b"".join(bytes([0xFF, 0xD0 + n]) + _CODES for n in range(8)) + _CODES


def peek_size(path: Path) -> tuple[int, int]:
    """Return height and width from the header, orientation not applied, without decoding.

    Raises:
        OSError: As for `read_image_content`.
        UserError: It is not an image.
    """
    if not path.is_file():
        raise _not_regular(path)
    with path.open("rb") as file:
        head = file.read(30)
        if _is_webp(head):
            try:
                return _webp_head_shape(head)
            except struct.error:
                raise _damaged(str(path)) from None
        file.seek(0)
        with _opened(file, path) as image:
            return image.height, image.width


_PILLOWS_SETTINGS: Final = threading.Lock()  # and those of warnings are the process's


def _opened(file: IO[bytes] | bytes, name: object) -> PIL.Image.Image:
    file = BytesIO(file) if isinstance(file, bytes) else file
    try:
        with _PILLOWS_SETTINGS, warnings.catch_warnings(), _any_size():
            warnings.simplefilter("ignore")
            return PIL.Image.open(file, formats=_PILLOW_FORMATS)
    except _PILLOW_ERRORS:  # whose messages name neither the file nor the reason
        file.seek(0)
        raise UserError(
            f"{name} is cut off, or a TIFF of a kind that is not read, such as floating point in "
            "colour: save it as grey or RGB of 8 or 16 bits first"
            if is_tiff(file.read(4))
            else f"{name} is not a complete PNG, JPEG, WebP or TIFF image"
        ) from None


@contextmanager
def _any_size() -> Iterator[None]:
    """Suspend Pillow's own limit, which has one value for a process: ours is checked later."""
    limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _damage_named(name: object) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except _PILLOW_ERRORS as error:
        raise _damaged(str(name), error) from None


def _orientation(image: PIL.Image.Image) -> Any:
    """Return EXIF's orientation; 1, upright, where EXIF is damaged."""
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except (SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return 1


def _channels_of_16_bits(image: PIL.Image.Image, content: bytes) -> int:
    """Return the number of channels of 16 bits; 0 where they have 8. Pillow's mode may be wrong."""
    if image.format == "PNG" and content[_PNG_BITS] == 16:
        return _PNG_CHANNELS[content[_PNG_COLOUR]]
    if image.format == "TIFF" and 16 in np.atleast_1d(image.tag_v2.get(_TIFF_BITS, 1)):  # type: ignore[attr-defined]
        return len(image.getbands())
    return 0


def _check_16_bits(image: PIL.Image.Image, name: object) -> None:
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


def _8_bits(image: PIL.Image.Image, path: Path) -> Pixels:
    mode = _MODES[image.mode]
    if "transparency" in image.info and image.mode in ("P", "RGB", "L", "1"):
        mode = "LA" if image.mode in ("L", "1") else "RGBA"
    with _damage_named(path):
        pixels = np.asarray(image.convert(mode) if mode else image)
    if pixels.dtype != np.uint8:
        raise UserError(f"{path}: expected 8 or 16 bits, got pixels of {pixels.dtype}")
    return pixels.reshape(*pixels.shape[:2], -1)


def _16_bits(content: bytes, channels: int, path: Path) -> Pixels:
    pixels = _opencv_decode(content, str(path))
    if pixels.dtype != np.uint16:
        raise UserError(f"{path}: expected 8 or 16 bits, grey or RGB, got pixels of {pixels.dtype}")
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    # OpenCV makes four channels of grey with alpha.
    order = {1: [0], 2: [0, 3], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    return np.take(pixels, order, axis=2)
