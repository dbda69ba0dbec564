"""LMDB stores of images, in the encoded layout of BasicSR and in an uncompressed one.

A store is a folder with `data.mdb`, which maps keys to images, and `meta_info.txt`, with a line for
each image: `0001.png (480,480,3) 1 crc32=89abcdef` for an encoded image (1 is the compression level
of PNG, as in BasicSR) and `0001.png (480,480,3) raw crc32=89abcdef` for plain RGB bytes, row by
row, from which a crop is copied without decoding and without reading the rest. The checksum is that
of the value; BasicSR stores and those of earlier versions have none.
"""

import mmap
import os
import re
import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from srgan_plugin.errors import MissingFileError, UserError

from .array_types import RGBArray, Shape
from .images import decode_image
from .lazy_image import ArrayMixin, DecodedImage, LazyImage, Window
from .lmdb_pages import DamagedError, Value, find_values
from .text_files import read_text

StoreLayout = Literal["raw", "png"]
DATA: Final = "data.mdb"
META: Final = "meta_info.txt"
_META_LINE: Final = re.compile(
    r"(.+)\.\w+ \((\d{1,9}), ?(\d{1,9}), ?\d+\) (raw|\d)(?: crc32=([0-9a-f]{8}))?\s*"
)


class Entry(NamedTuple):
    """An image of a store: its line in `meta_info.txt` and its bytes in `data.mdb`.

    Args:
        shape: (H, W, 3), also for a grey image, which is read as RGB.
        layout: `raw` or `png`.
        checksum: CRC-32 of the bytes; None in a store without checksums.
        value: Offset and size of the bytes.
    """

    shape: Shape
    layout: StoreLayout
    checksum: int | None
    value: Value


class ImageStore:
    """A store of either layout; cheap to send to worker processes and safe to fork.

    `data.mdb` is mapped and read without LMDB, which crashes on a damaged file. The checksum of a
    value is checked when the process reads it for the first time.

    Args:
        path: Folder of the store.

    Raises:
        MissingFileError: The folder does not exist.
        UserError: The folder is not a store, or it is truncated, damaged or of an unknown layout.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._data = (self.path / DATA).absolute()  # workers may have another current folder
        if not self.path.is_dir():
            found = "a file; give its folder" if self.path.is_file() else "no such folder"
            raise MissingFileError(f"{self.path}: expected an LMDB store, got {found}")
        for name in (DATA, META):
            if not (self.path / name).is_file():
                raise UserError(
                    f"{self.path}: expected a store of images, got a folder without {name}; "
                    "make a store by tools/create_store.py FOLDER --out STORE"
                )
        self._file: mmap.mmap | None
        self._file, self._identity = mapped, _ = self._map()
        self._entries = self._read_entries(_find_values(self.path / DATA, mapped))
        self._verified: dict[str, NDArray[np.uint8]] = {}
        # Creating one takes 1.3 us; for all crops, 5 % of the time of a batch.
        self._raw_images: dict[str, RawImage] = {}
        _opened_here.add(self)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys, sorted."""
        return tuple(self._entries)

    @property
    def has_checksums(self) -> bool:
        """Whether every image has a checksum."""
        return all(entry.checksum is not None for entry in self._entries.values())

    def shape(self, key: str) -> Shape:
        """Return (height, width, 3) without reading the image.

        Raises:
            UserError: The key is unknown.
        """
        return self._entry(key).shape

    def __getitem__(self, key: str) -> LazyImage:
        """Return the image of a key as a lazy image.

        Raises:
            UserError: The key is unknown.
        """
        if (known := self._raw_images.get(key)) is not None:
            return known
        name, entry = f"{key} of {self.path}", self._entry(key)
        if entry.layout != "raw":
            return DecodedImage(name, partial(self._decode, key, name), entry.shape)
        image = RawImage(name=name, shape=entry.shape, store=self, key=key)
        return self._raw_images.setdefault(key, image)

    def map_image(self, key: str) -> RGBArray:
        """Return an uncompressed image as it is in the file, read-only.

        Raises:
            UserError: The key is unknown, or the image is damaged.
        """
        return self._bytes(key)

    def verify(self, key: str) -> None:
        """Check an image: by its checksum or, if it is encoded, else by decoding.

        Raises:
            UserError: The key is unknown, or the image is damaged.
        """
        entry = self._entry(key)
        if entry.layout == "raw" or entry.checksum is not None:
            self._bytes(key)
        else:
            self._decode(key, f"{key} of {self.path}")

    def check_length(self) -> None:
        """Raise `UserError` if `data.mdb` became shorter since the store was opened.

        A process that reads beyond the end is killed, so the parent of a loader's workers calls
        this. A file that was replaced is not shorter: the old one stays mapped.

        Raises:
            UserError: The file is shorter or does not exist any more.
        """
        *same, size = self._identity
        status = self._data.stat() if self._data.exists() else None
        now = status.st_size if status else 0
        replaced = status is not None and [status.st_dev, status.st_ino] != same
        if now < size and not replaced:
            raise UserError(
                f"{self.path / DATA}: expected {size} bytes, as when the store was opened, got "
                f"{now}; copy or make the store again"
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_verified": {}, "_raw_images": {}}

    def _map(self) -> tuple[mmap.mmap, tuple[int, int, int]]:
        """Map `data.mdb`; return the map and the identity of the file: device, inode, size."""
        path = self._data
        if not path.is_file():
            raise MissingFileError(f"{path}: expected the store that was opened, got no such file")
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not status.st_size:
                raise UserError(
                    f"{path}: expected an LMDB file, got an empty one; copy or make the store again"
                )
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return mapped, (status.st_dev, status.st_ino, status.st_size)

    def _get_map(self) -> mmap.mmap:
        if self._file is None:  # in a process that got the store by pickle
            mapped, identity = self._map()
            if identity != self._identity:
                raise UserError(
                    f"{self.path}: expected the store that was opened, got one that replaced it; "
                    "start again"
                )
            self._file = mapped
        return self._file

    def _read_entries(self, values: dict[bytes, Value]) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        for line in _lines(self.path / META):
            match = _META_LINE.fullmatch(line)
            if match is None:
                raise UserError(
                    f"{self.path / META}: expected lines like '0001.png (480,480,3) 1' or "
                    f"'0001.png (480,480,3) raw', got {line!r}"
                )
            key, height, width, level, checksum = match.groups()
            if key in entries:
                raise UserError(
                    f"{self.path / META}: expected one line for each key, got two for {key}"
                )
            value = values.pop(key.encode(), None)
            if value is None:
                raise UserError(
                    f"{self.path}: expected {key} of {META} in {DATA}, got no such key; {_AGAIN}"
                )
            shape, raw = (int(height), int(width), 3), level == "raw"
            if raw and value.size != np.prod(shape):
                raise UserError(
                    f"{key} of {self.path}: expected {height}x{width}x3 bytes, "
                    f"got {value.size}; {_AGAIN}"
                )
            crc = int(checksum, 16) if checksum else None
            entries[key] = Entry(
                shape=shape, layout="raw" if raw else "png", checksum=crc, value=value
            )
        if values:
            some = next(iter(values)).decode(errors="replace")
            raise UserError(
                f"{self.path}: expected every image of {DATA} in {META}, got {len(values)} without "
                f"a line, {some} first; {_AGAIN}"
            )
        if not entries:
            raise UserError(f"{self.path}: expected images, got none")
        return dict(sorted(entries.items()))

    def _entry(self, key: str) -> Entry:
        try:
            return self._entries[key]
        except KeyError:
            raise UserError(f"{self.path}: expected a key of its {META}, got {key}") from None

    def _decode(self, key: str, name: str) -> RGBArray:
        image = decode_image(self._bytes(key).data, name)
        if image.shape != self.shape(key):
            raise UserError(
                f"{name}: expected {'x'.join(map(str, self.shape(key)[:2]))} as in {META}, got "
                f"{image.shape[0]}x{image.shape[1]} (height x width); {_AGAIN}"
            )
        return image

    def _bytes(self, key: str) -> NDArray[np.uint8]:
        """Return the bytes of an image from the mapped file, an uncompressed one in its shape.

        Two threads may check the same image, which is harmless.
        """
        value = self._verified.get(key)
        if value is None:
            entry, file = self._entry(key), self._get_map()
            value = np.frombuffer(file, np.uint8, entry.value.size, entry.value.offset)
            if entry.checksum is not None and zlib.crc32(value.data) != entry.checksum:
                raise UserError(
                    f"{key} of {self.path}: expected bytes with the checksum in {META} (CRC-32), "
                    f"got others; {_AGAIN}"
                )
            if entry.layout == "raw":
                value = value.reshape(entry.shape)
            self._verified[key] = value
        return value


_opened_here: WeakSet[ImageStore] = WeakSet()


def check_lengths() -> None:
    """Check that no open store of this process has a shortened file, which kills loader workers.

    Raises:
        UserError: A store has a shortened file; the message has its path.
    """
    for store in list(_opened_here):
        store.check_length()


_AGAIN: Final = "the store is damaged, copy or make it again"


@dataclass(frozen=True, eq=False)
class RawImage(ArrayMixin):
    """Image of an uncompressed store; a window reads only its own rows."""

    name: str
    shape: Shape
    store: ImageStore
    key: str

    def __getitem__(self, window: Window, /) -> RGBArray:
        crop: RGBArray = self.store.map_image(self.key)[window].copy()
        return crop


def map_pixels(image: LazyImage) -> LazyImage | RGBArray:
    """Map an uncompressed image into memory; return other images unchanged.

    Raises:
        UserError: The image is damaged.
    """
    return image.store.map_image(image.key) if isinstance(image, RawImage) else image


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file, split at line feeds only, because keys may have others."""
    text = read_text(path, "a list of images").replace("\r\n", "\n")
    return [line for line in text.split("\n") if line.strip()]


def _find_values(path: Path, file: mmap.mmap) -> dict[bytes, Value]:
    try:
        return find_values(file)
    except DamagedError as error:
        raise UserError(f"{path}: {error}; copy or make the store again") from None
