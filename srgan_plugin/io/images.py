"""Image files for training: headers, lists of files, reading and writing 8-bit RGB.

A picture is RGB, uint8, (height, width, 3), as the file stores it: EXIF orientation and colour
profiles are left alone. What cannot become that without loss is refused by name.
"""

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from srgan_plugin.errors import MissingFileError, UserError

from .atomic import atomic_path

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
                raise UserError(f"{name} is in CMYK: convert it to RGB first") from None
            except (struct.error, ValueError):
                raise UserError(
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

Image = NDArray[np.uint8]
Shape = tuple[int, int, int]
SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def list_images(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Finds the pictures of a folder and of the folders below it, sorted by key.

    The key is the path below `folder` without its suffix, with forward slashes: `0001`, and
    `a/0001` in a nested folder. Files and folders whose names begin with a dot are passed over.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it holds no picture, or two files of one key (`0001.png`, `0001.jpg`).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"expected a folder of pictures, but {folder} does not exist")
    found: dict[str, Path] = {}
    for path in sorted(_visible_files(folder)):
        if path.suffix.lower() not in SUFFIXES:
            continue
        key = path.relative_to(folder).with_suffix("").as_posix()
        if key in found:
            raise UserError(
                f"{folder} holds both {found[key].name} and {path.name}: keep one of them"
            )
        found[key] = path
    if not found:
        raise UserError(f"{folder} holds no picture: expected files ending in {_suffixes()}")
    return dict(sorted(found.items()))


def read_image(path: str | os.PathLike[str]) -> Image:
    """Reads a picture file.

    Returns:
        (H, W, 3), uint8, RGB. See `decode_image` for what is converted.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a whole picture, or one that cannot be converted exactly.
    """
    return decode_image(_read(Path(path)), str(path))


def decode_image(buffer: Buffer, name: str) -> Image:
    """Decodes a PNG, JPEG, WebP, BMP or TIFF picture.

    Grey becomes RGB by replication, a fully opaque alpha channel is dropped, and 16 bits become 8
    where every value is a multiple of 257: all of these are exact.

    Args:
        buffer: The encoded picture.
        name: What to call it in an error.

    Returns:
        (H, W, 3), uint8, RGB.

    Raises:
        ValueError: If the picture is corrupt, truncated, of another format, or not convertible
            without loss.
    """
    if header_shape(buffer, name) is None and not is_tiff(buffer):
        raise UserError(f"{name} is not a picture: expected PNG, JPEG, WebP, BMP or TIFF data")
    try:
        image = cv2.imdecode(np.frombuffer(buffer, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"{name} is corrupt or truncated: restore it from its source")
    return _to_rgb(_to_8_bits(image, name), name)


def image_shape(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Tells a picture's height and width from its header; only TIFF files are decoded.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a picture, or ends before its end.
    """
    path = Path(path)
    buffer = _read(path)
    shape = header_shape(buffer, str(path))
    if shape is None:
        height, width, _ = decode_image(buffer, str(path)).shape
        return height, width
    return shape


def encode_png(rgb: Image, compress_level: int = 1) -> bytes:
    """Encodes a picture as PNG.

    Args:
        rgb: (H, W, 3), uint8, RGB.
        compress_level: 0 (none) to 9 (smallest, slow).
    """
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3, (rgb.dtype, rgb.shape)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, compress_level])
    assert done
    return encoded.tobytes()


def write_image(path: str | os.PathLike[str], rgb: Image) -> None:
    """Writes a PNG file that appears under its name only when it is whole.

    Args:
        path: Ends in `.png`; missing folders are made.
        rgb: (H, W, 3), uint8, RGB.

    Raises:
        ValueError: If `path` does not end in `.png`.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"pictures are written as PNG, but got {path}: let its name end in .png")
    encoded = encode_png(rgb)
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded)


def _suffixes() -> str:
    return ", ".join(SUFFIXES)


def _visible_files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"expected a picture, but {path} does not exist") from None


def _to_8_bits(image: NDArray[Any], name: str) -> Image:
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
        raise UserError(f"{name} has transparent pixels: flatten it onto a background first")
    if channels not in _CONVERSIONS:
        raise UserError(f"{name} has {channels} channels: convert it to RGB first")
    rgb: Image = cv2.cvtColor(image, _CONVERSIONS[channels]).astype(np.uint8, copy=False)
    return rgb


_CONVERSIONS: Final = {
    1: cv2.COLOR_GRAY2RGB,
    3: cv2.COLOR_BGR2RGB,
    4: cv2.COLOR_BGRA2RGB,
}
