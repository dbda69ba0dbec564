"""Writers of picture files, from strips of pixels.

PNG and TIFF are written here: no library at hand writes 16-bit colour together with a colour
profile, or a picture that never is in memory as a whole.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[Any]

_ROWS: Final = 64  # at a time, to keep what filters need small
_LEVEL: Final = 4
_QUALITY: Final = 95
_PNG_COLOURS: Final = {1: 0, 2: 4, 3: 2, 4: 6}
_PNG_UP: Final = 2
# A profile names its colours at this place (ICC.1:2022, table 17).
_PROFILE_COLOURS: Final = slice(16, 20)


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """What is known of a picture before its pixels are.

    Attributes:
        shape: Height, width, channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        bits: 8 or 16.
        icc_profile: What the colours mean.
    """

    shape: tuple[int, int, int]
    bits: int
    icc_profile: bytes | None

    def profile_for(self, *, grey: bool) -> bytes | None:
        """The profile, if it is about pixels that are stored in grey, or in RGB."""
        profile = self.icc_profile
        fits = profile and profile[_PROFILE_COLOURS] == (b"GRAY" if grey else b"RGB ")
        return profile if fits else None

    @property
    def profile(self) -> bytes | None:
        """The profile, if it is about pixels of these channels."""
        return self.profile_for(grey=self.shape[2] < 3)


def write_png(file: BinaryIO, strips: Iterable[Pixels], spec: ImageSpec) -> None:
    """Writes a PNG file (ISO/IEC 15948), each row as its difference from the one above."""
    height, width, channels = spec.shape
    file.write(b"\x89PNG\r\n\x1a\n")
    colour = _PNG_COLOURS[channels]
    _chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, spec.bits, colour, 0, 0, 0))
    if spec.profile:
        _chunk(file, b"iCCP", b"ICC profile\0\0" + zlib.compress(spec.profile))
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


def write_tiff(file: BinaryIO, strips: Iterable[Pixels], spec: ImageSpec) -> None:
    """Writes a TIFF 6.0 file: deflate with horizontal differencing, in strips of 64 rows."""
    height, width, channels = spec.shape
    file.write(struct.pack("<2sHI", b"II", 42, 0))  # the directory's place is not known yet
    places = []
    for rows in _aligned(strips):
        differences = rows.copy()
        differences[:, 1:] -= rows[:, :-1]
        little_endian = differences.astype(rows.dtype.newbyteorder("<"), copy=False)
        data = zlib.compress(little_endian.tobytes(), _LEVEL)
        places.append((file.tell(), len(data)))
        file.write(data + b"\0" * (len(data) % 2))
    offsets, sizes = zip(*places, strict=True)
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
        tags[338] = ("H", (2,))  # alpha with which the colours are not multiplied
    if spec.profile:
        tags[34675] = ("B", spec.profile)
    _write_directory(file, tags)


def _write_directory(file: BinaryIO, tags: dict[int, tuple[str, tuple[int, ...] | bytes]]) -> None:
    """Writes the values that are longer than an entry, the entries, and where they are."""
    types = {"B": 7, "H": 3, "I": 4}
    entries = []
    for tag, (code, values) in tags.items():
        packed = struct.pack(f"<{len(values)}{code}", *values)
        if len(packed) > 4:
            place = file.tell()
            file.write(packed + b"\0" * (len(packed) % 2))
            packed = struct.pack("<I", place)
        entries.append(struct.pack("<HHI", tag, types[code], len(values)) + packed.ljust(4, b"\0"))
    place = file.tell()
    file.write(struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4))
    file.seek(4)
    file.write(struct.pack("<I", place))


def write_jpeg(file: BinaryIO, strips: Iterable[Pixels], spec: ImageSpec) -> None:
    """Writes a JPEG file, without thinning out the colours."""
    image, whole = _whole(strips, spec), BytesIO()
    image.save(whole, "JPEG", quality=_QUALITY, subsampling=0, icc_profile=spec.profile)
    # Into a file on the disk Pillow writes past Python, and says nothing of a full one.
    file.write(whole.getbuffer())


def write_webp(file: BinaryIO, strips: Iterable[Pixels], spec: ImageSpec) -> None:
    """Writes a WebP file; it has no grey, so grey becomes RGB."""
    profile = spec.profile_for(grey=False)
    _whole(strips, spec).save(file, "WEBP", quality=_QUALITY, icc_profile=profile or b"")


def _whole(strips: Iterable[Pixels], spec: ImageSpec) -> Image.Image:
    height, width, channels = spec.shape
    out, top = np.empty((height, width, channels), np.uint8), 0
    for rows in _blocks(strips):
        out[top : top + len(rows)] = rows if spec.bits == 8 else (rows + np.uint32(128)) // 257
        top += len(rows)
    return Image.fromarray(out[..., 0] if channels == 1 else out)


def _blocks(strips: Iterable[Pixels]) -> Iterator[Pixels]:
    for strip in strips:
        for top in range(0, len(strip), _ROWS):
            yield strip[top : top + _ROWS]


def _aligned(strips: Iterable[Pixels]) -> Iterator[Pixels]:
    """Blocks of exactly 64 rows, the last one excepted."""
    waiting: list[Pixels] = []
    count = 0
    for strip in strips:
        waiting.append(strip)
        count += len(strip)
        if count >= _ROWS:
            rows = np.concatenate(waiting) if len(waiting) > 1 else strip
            full = count - count % _ROWS
            yield from _blocks([rows[:full]])
            waiting, count = [rows[full:]], count - full
    if count:
        yield np.concatenate(waiting)
