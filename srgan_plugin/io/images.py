"""Picture files: finding, reading and writing them, exactly or not at all.

A picture is RGB, uint8, (height, width, 3), as the file stores it: EXIF orientation and colour
profiles are left alone. What cannot become that without loss is refused by name.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from srgan_plugin.files import atomic_path

from .image_headers import Buffer, header_shape, is_tiff

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
        raise FileNotFoundError(f"expected a folder of pictures, but {folder} does not exist")
    found: dict[str, Path] = {}
    for path in sorted(_visible_files(folder)):
        if path.suffix.lower() not in SUFFIXES:
            continue
        key = path.relative_to(folder).with_suffix("").as_posix()
        if key in found:
            raise ValueError(
                f"{folder} holds both {found[key].name} and {path.name}: keep one of them"
            )
        found[key] = path
    if not found:
        raise ValueError(f"{folder} holds no picture: expected files ending in {_suffixes()}")
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
        raise ValueError(f"{name} is not a picture: expected PNG, JPEG, WebP, BMP or TIFF data")
    try:
        image = cv2.imdecode(np.frombuffer(buffer, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise ValueError(f"{name} is corrupt or truncated: restore it from its source")
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
        raise ValueError(f"pictures are written as PNG, but got {path}: let its name end in .png")
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
        raise FileNotFoundError(f"expected a picture, but {path} does not exist") from None


def _to_8_bits(image: NDArray[Any], name: str) -> Image:
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16 and not (image % 257).any():
        return (image // 257).astype(np.uint8)
    raise ValueError(
        f"{name} has pixels of type {image.dtype} that 8 bits cannot hold exactly: "
        "convert it to 8 bits first"
    )


def _to_rgb(image: Image, name: str) -> Image:
    channels = image.shape[2] if image.ndim == 3 else 1
    if channels == 4 and (image[..., 3] < 255).any():
        raise ValueError(f"{name} has transparent pixels: flatten it onto a background first")
    if channels not in _CONVERSIONS:
        raise ValueError(f"{name} has {channels} channels: convert it to RGB first")
    rgb: Image = cv2.cvtColor(image, _CONVERSIONS[channels]).astype(np.uint8, copy=False)
    return rgb


_CONVERSIONS: Final = {
    1: cv2.COLOR_GRAY2RGB,
    3: cv2.COLOR_BGR2RGB,
    4: cv2.COLOR_BGRA2RGB,
}
