"""Write image files from strips of rows.

PNG and TIFF are encoded here, because neither Pillow nor OpenCV writes 16-bit colour with a colour
profile, or an image of which only a strip is in memory. tifffile writes the former in the same time
and size, but takes strips only if they are encoded already.
"""

import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL.ExifTags import Base

from srgan_plugin.errors import UserError

from .array_types import Pixels, RGBArray
from .atomic import atomic_path
from .metadata import NO_METADATA, XMP_KEYWORD, XMP_MARKER, Metadata, dots_per_metre

_ROWS: Final = 64  # filtered at a time, to limit memory
_LEVEL: Final = 4
_PNG_COLOURS: Final = {1: 0, 2: 4, 3: 2, 4: 6}
_PNG_UP: Final = 2
_JPEG_SEGMENT: Final = 65533  # largest number of bytes
_EXIF_MARKER: Final = b"Exif\0\0"  # start of the JPEG segment
# Bytes of a profile with its colour space (ICC.1:2022, table 17).
_PROFILE_COLOURS: Final = slice(16, 20)


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """Properties of an image file except its pixels.

    Attributes:
        shape: (H, W, C); C is 1 for grey, 2 for grey and alpha, 3 for RGB, 4 for RGB and alpha.
        dtype: uint8 or uint16.
        icc_profile: Colour profile; dropped if its colour space is not that of the channels.
        metadata: Metadata, without entries that the format cannot hold (`unwritten_metadata`).
        quality: Quality of JPEG and WebP, 1 to 100.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    icc_profile: bytes | None = None
    metadata: Metadata = NO_METADATA
    quality: int = 95

    @property
    def bits(self) -> int:
        """Number of bits of a channel."""
        return 8 * self.dtype.itemsize

    def profile_for(self, *, grey: bool) -> bytes | None:
        """Return the profile if its colour space is grey, or RGB if not `grey`."""
        profile = self.icc_profile
        fits = profile and profile[_PROFILE_COLOURS] == (b"GRAY" if grey else b"RGB ")
        return profile if fits else None

    @property
    def exif(self) -> bytes:
        """EXIF as a TIFF stream, or empty bytes."""
        return self.metadata.exif(self.shape[1], self.shape[0])

    @property
    def xmp(self) -> bytes:
        """XMP packet, or empty bytes."""
        return self.metadata.xmp_for(self.shape[1], self.shape[0])

    @property
    def profile(self) -> bytes | None:
        """The profile if its colour space is that of the channels."""
        return self.profile_for(grey=self.shape[2] < 3)


def write_png(file: BinaryIO, strips: Iterable[Pixels], spec: ImageSpec) -> None:
    """Write a PNG file (ISO/IEC 15948); each row is filtered by the one above.

    Args:
        file: Open file to write to.
        strips: Rows of the image, (h, W, C), from top to bottom, in the dtype of `spec`.
        spec: Shape, dtype and metadata of the image.
    """
    height, width, channels = spec.shape
    file.write(b"\x89PNG\r\n\x1a\n")
    colour = _PNG_COLOURS[channels]
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, spec.bits, colour, 0, 0, 0))
    if spec.profile:
        _chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(spec.profile))
    if dpi := spec.metadata.dpi:
        _chunk(file, b"pHYs", struct.pack(">IIB", *dots_per_metre(dpi), 1))
    if exif := spec.exif:
        _chunk(file, b"eXIf", exif)
    for keyword, text in spec.metadata.texts_with_comment().items():
        _text_chunk(file, keyword, text.encode())
    if xmp := spec.xmp:
        _text_chunk(file, XMP_KEYWORD, xmp)
    packer = zlib.compressobj(_LEVEL)
    above: NDArray[np.uint8] = np.zeros((1, width * channels * spec.bits // 8), np.uint8)
    for rows in _blocks(strips):
        big_endian = rows.astype(rows.dtype.newbyteorder(">"), copy=False)
        plain = np.ascontiguousarray(big_endian).view(np.uint8).reshape(len(rows), -1)
        filtered = np.empty((len(rows), plain.shape[1] + 1), np.uint8)
        filtered[:, 0] = _PNG_UP
        np.subtract(plain, np.concatenate([above, plain[:-1]]), out=filtered[:, 1:])
        above = plain[-1:]
        if data := packer.compress(filtered.data):
            _chunk(file, b"IDAT", data)
    _chunk(file, b"IDAT", packer.flush())
    _chunk(file, b"IEND", b"")


def _chunk(file: BinaryIO, kind: bytes, data: bytes) -> None:
    checksum = zlib.crc32(data, zlib.crc32(kind))
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum))


def _text_chunk(file: BinaryIO, keyword: str, text: bytes) -> None:
    """Write a text in UTF-8, uncompressed, without a language.

    A keyword that was read from a PNG is kept, because PNG encodes keywords as Latin-1.
    """
    _chunk(file, b"iTXt", keyword.encode("latin-1", "replace") + bytes(5) + text)


def write_tiff(file: BinaryIO, strips: Iterable[Pixels], spec: ImageSpec) -> None:
    """Write a TIFF 6.0 file: deflate with horizontal differencing, in strips of 64 rows.

    Args:
        file: Open file to write to, which can seek.
        strips: Rows of the image, (h, W, C), from top to bottom, in the dtype of `spec`.
        spec: Shape, dtype and metadata of the image.
    """
    height, width, channels = spec.shape
    file.write(struct.pack("<2sHI", b"II", 42, 0))  # the offset of the directory follows below
    chunks = []
    for rows in _align_blocks(strips):
        differences = rows.copy()
        differences[:, 1:] -= rows[:, :-1]
        little_endian = differences.astype(rows.dtype.newbyteorder("<"), copy=False)
        data = zlib.compress(little_endian.tobytes(), _LEVEL)
        chunks.append((file.tell(), len(data)))
        file.write(data + b"\0" * (len(data) % 2))
    offsets, sizes = zip(*chunks, strict=True)
    tags: dict[int, tuple[str, tuple[int, ...] | bytes]] = {
        256: ("I", (width,)),
        257: ("I", (height,)),
        258: ("H", (spec.bits,) * channels),
        259: ("H", (8,)),  # deflate
        262: ("H", (2 if channels > 2 else 1,)),  # RGB, or grey whose 0 is black
        273: ("I", offsets),
        277: ("H", (channels,)),
        278: ("I", (_ROWS,)),
        279: ("I", sizes),
        317: ("H", (2,)),  # horizontal differencing
    }
    if channels in (2, 4):
        tags[338] = ("H", (2,))  # alpha that is not premultiplied
    tags |= {tag: ("s", text) for tag, text in _texts(spec.metadata).items()}
    if dpi := spec.metadata.dpi:
        dots = [(round(1000 * value), 1000) for value in dpi]
        tags |= {282: ("Q", dots[0]), 283: ("Q", dots[1]), 296: ("H", (2,))}  # inches
    if spec.profile:
        tags[34675] = ("B", spec.profile)
    if xmp := spec.xmp:
        tags[700] = ("b", xmp)
    _write_directory(file, tags)


def _texts(metadata: Metadata) -> dict[int, bytes]:
    """Return the text tags of the main directory, encoded for TIFF.

    The bytes are those of the input, because Pillow decodes the texts of EXIF as Latin-1.
    """
    texts = {tag: value for tag, value in metadata.tags.items() if isinstance(value, str)}
    return {tag: text.encode("latin-1", "replace") + b"\0" for tag, text in texts.items()}


def _write_directory(file: BinaryIO, tags: dict[int, tuple[str, tuple[int, ...] | bytes]]) -> None:
    """Write values longer than an entry, then the entries, then the offset of the entries."""
    # Code -> type in TIFF, and numbers in a value.
    types = {"s": (2, 1), "b": (1, 1), "B": (7, 1), "H": (3, 1), "I": (4, 1), "Q": (5, 2)}
    entries = []
    for tag, (code, values) in sorted(tags.items()):
        kind, each = types[code]
        letter = {"s": "B", "b": "B", "Q": "I"}.get(code, code)
        packed = struct.pack(f"<{len(values)}{letter}", *values)
        if len(packed) > 4:
            offset = file.tell()
            file.write(packed + b"\0" * (len(packed) % 2))
            packed = struct.pack("<I", offset)
        entries.append(struct.pack("<HHI", tag, kind, len(values) // each) + packed.ljust(4, b"\0"))
    offset = file.tell()
    file.write(struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4))
    file.seek(4)
    file.write(struct.pack("<I", offset))


def write_jpeg(file: BinaryIO, strips: Iterable[Pixels], spec: ImageSpec) -> None:
    """Write a JPEG file without chroma subsampling.

    Args:
        file: Open file to write to.
        strips: Rows of the image, (h, W, C), from top to bottom, in the dtype of `spec`. uint16 is
            reduced to uint8.
        spec: Shape, dtype and metadata of the image.
    """
    image, encoded = _join_strips(strips, spec), BytesIO()
    parts = {name: segment for name, segment in _segments(spec).items() if _fits(segment)}
    xmp = parts.get("XMP", b"")
    image.save(
        encoded,
        "JPEG",
        quality=spec.quality,
        subsampling=0,
        icc_profile=spec.profile,
        dpi=spec.metadata.dpi or (0, 0),
        exif=parts.get("EXIF", b""),
        comment=parts.get("comment", b""),
        extra=b"\xff\xe1" + struct.pack(">H", 2 + len(xmp)) + xmp if xmp else b"",
    )
    # Written by Pillow directly, a full disk would raise no error.
    file.write(encoded.getbuffer())


def _segments(spec: ImageSpec) -> dict[str, bytes]:
    """Return the metadata that JPEG holds in one segment each, and with their markers, by name."""
    segments = {
        "EXIF": (_EXIF_MARKER, spec.exif),
        "comment": (b"", spec.metadata.comment_with_text()),
        "XMP": (XMP_MARKER, spec.xmp),
    }
    return {name: marker + content for name, (marker, content) in segments.items() if content}


def _fits(segment: bytes) -> bool:
    return len(segment) <= _JPEG_SEGMENT


def write_webp(file: BinaryIO, strips: Iterable[Pixels], spec: ImageSpec) -> None:
    """Write a WebP file; the format has no grey, so grey becomes RGB.

    Args:
        file: Open file to write to.
        strips: Rows of the image, (h, W, C), from top to bottom, in the dtype of `spec`. uint16 is
            reduced to uint8.
        spec: Shape, dtype and metadata of the image.
    """
    profile = spec.profile_for(grey=False)
    image = _join_strips(strips, spec)
    options = {"icc_profile": profile or b"", "exif": spec.exif, "xmp": spec.xmp}
    image.save(file, "WEBP", quality=spec.quality, **options)


def _join_strips(strips: Iterable[Pixels], spec: ImageSpec) -> PIL.Image.Image:
    height, width, channels = spec.shape
    out, top = np.empty((height, width, channels), np.uint8), 0
    for rows in _blocks(strips):
        out[top : top + len(rows)] = rows if spec.bits == 8 else (rows + np.uint32(128)) // 257
        top += len(rows)
    return PIL.Image.fromarray(out[..., 0] if channels == 1 else out)


def _blocks(strips: Iterable[Pixels]) -> Iterator[Pixels]:
    for strip in strips:
        for top in range(0, len(strip), _ROWS):
            yield strip[top : top + _ROWS]


def _align_blocks(strips: Iterable[Pixels]) -> Iterator[Pixels]:
    """Yield blocks of exactly 64 rows, except the last one."""
    pending: list[Pixels] = []
    count = 0
    for strip in strips:
        pending.append(strip)
        count += len(strip)
        if count >= _ROWS:
            rows = np.concatenate(pending) if len(pending) > 1 else strip
            full = count - count % _ROWS
            yield from _blocks([rows[:full]])
            pending, count = [rows[full:]], count - full
    if count:
        yield np.concatenate(pending)


#: Largest height or width of a WebP file.
WEBP_MAX_SIDE: Final = 16383
# Suffix -> writer, and largest height or width of the format.
_WRITERS: Final = {
    ".png": (write_png, 2**31 - 1),
    ".jpg": (write_jpeg, 65500),
    ".jpeg": (write_jpeg, 65500),
    ".webp": (write_webp, WEBP_MAX_SIDE),
    ".tif": (write_tiff, 2**31 - 1),
    ".tiff": (write_tiff, 2**31 - 1),
}
WRITABLE_SUFFIXES: Final = tuple(_WRITERS)
#: Suffixes of the formats that have a quality.
LOSSY_SUFFIXES: Final = tuple(s for s, (w, _) in _WRITERS.items() if w in (write_jpeg, write_webp))


def same_format(one: str, other: str) -> bool:
    """Return whether two suffixes are of one writable format, such as `.jpg` and `.jpeg`."""
    return _WRITERS.get(one.lower(), one) == _WRITERS.get(other.lower(), other)


def unwritten_metadata(suffix: str, spec: ImageSpec) -> list[str]:
    """Name the parts of metadata that files of a format do not get, such as `text Title`.

    Args:
        suffix: Suffix of the file, one of `WRITABLE_SUFFIXES`.
        spec: Properties of the image.

    Returns:
        Names of the parts; empty if all are written.
    """
    metadata = spec.metadata
    write, _ = _WRITERS[suffix.lower()]
    if write is write_png:
        return []
    parts = [f"text {key}" for key in metadata.texts if write is not write_jpeg or key != "Comment"]
    if write is write_jpeg:
        too_long = (name for name, part in _segments(spec).items() if not _fits(part))
        return parts + [f"{name} too long for JPEG" for name in too_long]
    parts += ["comment"] if metadata.comment else []
    if write is write_tiff:
        unwritten = metadata.tags.keys() - _texts(metadata).keys()
        parts += [f"EXIF {Base(tag).name}" for tag in sorted(unwritten)]
        parts += ["EXIF of camera or place"] if metadata.directories else []
    return parts


def check_target(path: Path, shape: tuple[int, int, int], bits: int = 8) -> None:
    """Check that a file can be written with an image of this shape.

    Args:
        path: File to write.
        shape: Shape of the image, (H, W, C).
        bits: Number of bits of a channel.

    Raises:
        UserError: The format is unknown or does not support the size or alpha, or `path` is a
            folder.
    """
    if path.is_dir():
        raise UserError(
            f"{path}: expected a file to write, got a folder; use for example {path / 'out.png'}"
        )
    if path.suffix.lower() not in _WRITERS:
        raise UserError(f"{path}: expected a name ending in {', '.join(WRITABLE_SUFFIXES)}")
    writer, largest = _WRITERS[path.suffix.lower()]
    height, width, channels = shape
    if max(height, width) > largest:
        raise UserError(
            f"{path}: expected at most {largest} pixels to a side in this format, got "
            f"{height}x{width} (height x width); write a .png"
        )
    # Of the pixels before they are compressed, by an unknown factor.
    if writer is write_tiff and height * width * channels * bits // 8 >= 2**32:
        raise UserError(f"{path}: expected less than the 4 GB of TIFF, got more; write a .png")
    if writer is write_jpeg and channels in (2, 4):
        raise UserError(
            f"{path}: expected a format with transparency, got JPEG; write a .png, .webp or .tif"
        )


def write_strips(path: Path, strips: Iterable[Pixels], spec: ImageSpec) -> None:
    """Write an image from strips of rows; the file appears under its name when it is complete.

    PNG and TIFF are written strip by strip, JPEG (without chroma subsampling) and WebP after the
    last one. The latter two have 8 bits, to which 16 bits are rounded.

    Args:
        path: File to write, with one of `WRITABLE_SUFFIXES`; missing folders are created.
        strips: Strips (rows, W, C) from top to bottom; each is taken after the one before it was
            written.
        spec: Properties of the complete image.

    Raises:
        OSError: The file cannot be written.
        UserError: See `check_target`.
    """
    check_target(path, spec.shape, spec.bits)
    write, _ = _WRITERS[path.suffix.lower()]
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        write(file, strips, spec)


def encode_png(rgb: RGBArray, compress_level: int = 1) -> bytes:
    """Encode an image as PNG.

    Args:
        rgb: RGB, (H, W, 3), uint8.
        compress_level: 0 (none) to 9 (smallest, slow).

    Returns:
        Content of the file.
    """
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3, (rgb.dtype, rgb.shape)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, compress_level])
    assert done
    return encoded.tobytes()


def write_image(path: str | os.PathLike[str], rgb: RGBArray) -> None:
    """Write a PNG file; it appears under its name when it is complete.

    Args:
        path: File to write, ending in `.png`; missing folders are created.
        rgb: RGB, (H, W, 3), uint8.

    Raises:
        OSError: The file cannot be written.
        UserError: `path` does not end in `.png`.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: expected a name ending in .png")
    encoded = encode_png(rgb)
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded)
