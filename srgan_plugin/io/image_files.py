"""Picture files as they are met: 8 and 16 bits, grey, alpha, turned cameras, colour profiles.

Pillow reads what has 8 bits, and all about a file that is not pixels; OpenCV reads 16-bit colour,
which Pillow would cut to 8 bits.
"""

import struct
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from srgan_plugin.errors import UserError

from .atomic import atomic_path
from .encoders import ImageSpec, write_jpeg, write_png, write_tiff, write_webp

Pixels = NDArray[Any]

# Per suffix: who writes it, and the largest height or width that the format holds.
_WRITERS: Final = {
    ".png": (write_png, 2**31 - 1),
    ".jpg": (write_jpeg, 65500),
    ".jpeg": (write_jpeg, 65500),
    ".webp": (write_webp, 16383),
    ".tif": (write_tiff, 2**31 - 1),
    ".tiff": (write_tiff, 2**31 - 1),
}
SUFFIXES: Final = tuple(_WRITERS)
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "TIFF")
# Pillow's mode -> one whose pixels we take; None: as it is, or by OpenCV where it has 16 bits.
_MODES: Final = {
    "1": "L",
    "P": "RGB",
    "PA": "RGBA",
    "RGBa": "RGBA",
    **dict.fromkeys(("L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I"), None),
}
_EXIF_ORIENTATION: Final = 0x0112
_TIFF_BITS: Final = 258
# Of 16 bits, OpenCV hands out the numbers of these kinds as if they were plain ones.
_TIFF_UNREAD: Final = {
    262: (0, "white is 0"),
    284: (2, "each channel lies apart"),
    338: (1, "the colours are multiplied by alpha"),
}
_LARGEST_16_BITS: Final = 1_000_000  # to a side: libpng's own limit
_TIFF_STARTS: Final = (b"II*\0", b"MM\0*")
# Where a PNG file's header has the bits of a channel, and the kind of colour.
_PNG_BITS, _PNG_COLOUR = 24, 25
_PNG_CHANNELS: Final = {0: 1, 4: 2, 2: 3, 6: 4}
# What EXIF's orientation asks to be done with the pixels.
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
    """What was in a file.

    Attributes:
        pixels: (H, W, C), upright, C channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha;
            uint8 or uint16.
        icc_profile: What the colours mean, as bytes; None where the file did not say.
    """

    pixels: Pixels
    icc_profile: bytes | None


def read_image_file(path: Path) -> ImageContent:
    """Reads a PNG, JPEG, WebP or TIFF file; EXIF's orientation is applied.

    Raises:
        OSError: The file is not there or cannot be read.
        ValueError: It is no picture, is damaged, moves or has pages, is in CMYK or floating point.
    """
    content = path.read_bytes()
    with _opened(content, path) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # a phone's extra views
            raise UserError(f"{path} has {frames} frames or pages: expected one picture")
        if image.mode not in _MODES:
            kind = {"F": "floating point"}.get(image.mode, image.mode)
            raise UserError(f"{path} is in {kind}: save it as grey or RGB of 8 or 16 bits first")
        channels = _channels_of_16_bits(image, content)
        if channels:
            _check_16_bits(image, path)
        try:
            image.load()
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise UserError(f"{path} is corrupt or truncated ({error})") from None
        pixels = _read_16_bits(content, channels, path) if channels else _plain(image)
        # Asked after loading: of a TIFF, both readers have turned the pixels by then.
        turn = _UPRIGHT.get(_orientation(image), _UPRIGHT[1])
        return ImageContent(
            pixels=np.ascontiguousarray(turn(pixels)),
            icc_profile=image.info.get("icc_profile") or None,
        )


def image_file_size(path: Path) -> tuple[int, int]:
    """Height and width in pixels as the header has them, orientation not applied.

    Raises:
        OSError: As for `read_image_file`.
        ValueError: It is no picture.
    """
    with path.open("rb") as file, _opened(file, path) as image:
        return image.height, image.width


def check_target(path: Path, shape: tuple[int, int, int]) -> None:
    """Tells before the work whether a file can hold the result.

    Args:
        path: The file to write.
        shape: Height, width, channels.

    Raises:
        ValueError: Its format is unknown, has no alpha, or is too small; or it is a folder.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file to write, such as {path / 'out.png'}")
    if path.suffix.lower() not in _WRITERS:
        raise UserError(f"expected a name ending in {', '.join(SUFFIXES)}, got {path}")
    writer, largest = _WRITERS[path.suffix.lower()]
    height, width, channels = shape
    if max(height, width) > largest:
        raise UserError(
            f"{path}: {width}x{height} pixels are more than this format's {largest} to a side: "
            "write a .png"
        )
    if writer is write_tiff and height * width * channels * 2 >= 2**32:
        raise UserError(f"{path}: the result may be more than a TIFF's 4 GB: write a .png")
    if writer is write_jpeg and channels in (2, 4):
        raise UserError(f"{path}: JPEG has no transparency: write a .png, .webp or .tif")


def write_image_file(
    path: Path,
    strips: Iterable[Pixels],
    *,
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    icc_profile: bytes | None,
) -> None:
    """Writes a picture that comes in strips; it appears under its name only when it is whole.

    PNG and TIFF are written as the strips come, JPEG (quality 95, full colour resolution) and WebP
    (quality 95) when all are there. These two have 8 bits: 16 are rounded to them.

    Args:
        path: Ends in one of `SUFFIXES`.
        strips: (rows, W, C) from top to bottom; the next one is taken when the last one is
            written.
        shape: Height, width, channels of the whole.
        dtype: uint8 or uint16.
        icc_profile: Is kept where it fits the channels that the format stores.

    Raises:
        OSError: The file cannot be written.
        ValueError: See `check_target`.
    """
    check_target(path, shape)
    spec = ImageSpec(shape=shape, bits=8 * dtype.itemsize, icc_profile=icc_profile)
    write, _ = _WRITERS[path.suffix.lower()]
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        write(file, strips, spec)


def _opened(source: Any, path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that are fine here
            return Image.open(
                BytesIO(source) if isinstance(source, bytes) else source, formats=_FORMATS
            )
    except (OSError, SyntaxError, EOFError):
        with path.open("rb") as file:
            tiff = file.read(4) in _TIFF_STARTS
        # Pillow's own message names neither.
        raise UserError(
            f"{path} is cut off, or a TIFF of a kind that is not read, such as floating point in "
            "colour: save it as grey or RGB of 8 or 16 bits first"
            if tiff
            else f"{path} is not a whole PNG, JPEG, WebP or TIFF picture"
        ) from None
    except Image.DecompressionBombError:
        raise UserError(f"{path} has more than 178 million pixels: cut it into pieces") from None


def _orientation(image: Image.Image) -> Any:
    """As EXIF has it; 1, upright, where EXIF is damaged, which the picture need not be."""
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except (SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return 1


def _channels_of_16_bits(image: Image.Image, content: bytes) -> int:
    """How many channels of 16 bits there are; 0 where they have 8. Pillow's mode does not tell."""
    if image.format == "PNG" and content[_PNG_BITS] == 16:
        return _PNG_CHANNELS[content[_PNG_COLOUR]]
    if image.format == "TIFF" and 16 in np.atleast_1d(image.tag_v2.get(_TIFF_BITS, 1)):  # type: ignore[attr-defined]
        return len(image.getbands())
    return 0


def _check_16_bits(image: Image.Image, path: Path) -> None:
    tags = getattr(image, "tag_v2", {})
    odd = [what for tag, (value, what) in _TIFF_UNREAD.items() if _first(tags.get(tag)) == value]
    if "transparency" in image.info:
        odd.append("one colour stands for transparency")
    if max(image.size) > _LARGEST_16_BITS:
        raise UserError(
            f"{path} has 16 bits, and more than a million pixels to a side: cut it into pieces"
        )
    if odd:
        raise UserError(
            f"{path} has 16 bits, and {odd[0]}: save it as plain grey or RGB, with or without alpha"
        )


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and value else value


def _plain(image: Image.Image) -> Pixels:
    mode = _MODES[image.mode]
    if "transparency" in image.info and image.mode in ("P", "RGB", "L", "1"):
        mode = "LA" if image.mode in ("L", "1") else "RGBA"
    pixels = np.asarray(image.convert(mode) if mode else image)
    if pixels.dtype != np.uint8:
        raise UserError(f"expected 8 or 16 bits, got pixels of {pixels.dtype}")
    return pixels.reshape(*pixels.shape[:2], -1)


def _read_16_bits(content: bytes, channels: int, path: Path) -> Pixels:
    pixels: Pixels | None = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        raise UserError(f"{path} cannot be read: expected 8 or 16 bits, grey or RGB")
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    # BGR; of grey with alpha OpenCV makes four channels.
    order = {1: [0], 2: [0, 3], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    return np.take(pixels, order, axis=2)
