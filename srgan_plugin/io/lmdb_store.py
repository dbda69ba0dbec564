"""LMDB stores of images, BasicSR's encoded layout and an uncompressed one: read and write.

A store is a folder with `data.mdb`, which maps keys to pictures, and `meta_info.txt`, which has
a line for each: `0001.png (480,480,3) 1` for an encoded picture (1 is PNG's compression level, as
BasicSR writes it) and `0001.png (480,480,3) raw` for plain RGB bytes, row by row, from which a
crop is copied without decoding and without reading the rest.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple
from weakref import WeakValueDictionary

import lmdb
import numpy as np

from srgan_plugin.errors import FileError, MissingFileError, UserError

from .atomic import atomic_directory, write_text
from .images import Image, Shape, decode_image, encode_png
from .lazy_image import ArrayMixin, DecodedImage, LazyImage, Window

StoreLayout = Literal["raw", "png"]
META: Final = "meta_info.txt"
_META_LINE: Final = re.compile(r"(.+)\.\w+ \((\d+), ?(\d+), ?\d+\) (raw|\d)")


class Entry(NamedTuple):
    """What `meta_info.txt` tells of a picture; a grey one is read in colour."""

    shape: Shape
    layout: StoreLayout


class ImageStore:
    """Reads a store of either layout; cheap to send to worker processes and safe to fork.

    Args:
        path: The folder.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it is not a store, or one of an unknown layout.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise MissingFileError(f"expected an LMDB store, but {self.path} does not exist")
        for name in ("data.mdb", META):
            if not (self.path / name).is_file():
                raise UserError(
                    f"{self.path} is not a store of pictures: it has no {name}; "
                    "make one with tools/create_store.py"
                )
        self._entries = _read_meta(self.path / META)
        self._check_length()
        self._opened: _Opened | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys, sorted."""
        return tuple(self._entries)

    def shape(self, key: str) -> Shape:
        """Tells (height, width, 3) without touching the picture."""
        return self._entry(key).shape

    def __getitem__(self, key: str) -> LazyImage:
        """The picture of that key, not yet read."""
        name = f"{key} of {self.path}"
        if self._entry(key).layout == "raw":
            return RawImage(name=name, shape=self.shape(key), store=self, key=key)
        return DecodedImage(name, partial(self._decode, key, name), self.shape(key))

    def read(self, key: str, window: Window) -> Image:
        """Copies a window out of an uncompressed picture.

        Raises:
            ValueError: If the store does not hold the bytes that `meta_info.txt` promises.
        """
        opened = self._open()
        pixels = opened.seen.get(key)
        if pixels is None:
            shape = height, width, channels = self.shape(key)
            value = self._value(key, opened)
            if len(value) != height * width * channels:
                raise UserError(
                    f"{key} of {self.path} should have {height}x{width}x{channels} bytes, but has "
                    f"{len(value)}: the store is damaged, make it again"
                )
            pixels = opened.seen[key] = np.frombuffer(value, np.uint8).reshape(shape)
        crop: Image = pixels[window].copy()
        return crop

    def _check_length(self) -> None:
        """LMDB maps what it was told of; to read past the file's end kills the process."""
        sizes = (e.shape for e in self._entries.values() if e.layout == "raw")
        least = sum(height * width * channels for height, width, channels in sizes)
        if (there := (self.path / "data.mdb").stat().st_size) < least:
            raise UserError(
                f"{self.path} is cut short: its pictures have {least} bytes, data.mdb has {there}; "
                "copy or make it again"
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def _entry(self, key: str) -> Entry:
        try:
            return self._entries[key]
        except KeyError:
            raise UserError(f"{self.path} has no picture {key}: see its {META}") from None

    def _decode(self, key: str, name: str) -> Image:
        image = decode_image(self._value(key, self._open()), name)
        if image.shape != self.shape(key):
            raise UserError(
                f"{name} is {image.shape[0]}x{image.shape[1]}, but {META} says "
                f"{'x'.join(map(str, self.shape(key)[:2]))}: make the store again"
            )
        return image

    def _open(self) -> "_Opened":
        opened = self._opened
        if opened is None or opened.pid != os.getpid():
            with _Lock.one_at_a_time:
                opened = self._opened
                if opened is None or opened.pid != os.getpid():
                    reading = _shared_environment(self.path).begin(buffers=True)
                    opened = self._opened = _Opened(os.getpid(), reading, {})
        return opened

    def _value(self, key: str, opened: "_Opened") -> memoryview:
        """The stored bytes, valid as long as `opened` is."""
        with _Lock.one_at_a_time:
            value = opened.reading.get(key.encode())
        if not isinstance(value, memoryview):
            raise UserError(
                f"{self.path} lists {key} in {META}, but does not hold it: make it again"
            )
        return value


class _Opened(NamedTuple):
    """A store as one process has it open: what LMDB has shown lasts as long as its transaction."""

    pid: int
    reading: lmdb.Transaction
    seen: dict[str, Image]  # where they lie in the file


class _Lock:
    """LMDB wants threads one at a time, where they open a store and where they look into one."""

    one_at_a_time = Lock()

    @classmethod
    def renew(cls) -> None:
        """A thread may have held it when its process forked; in the child nobody would let go."""
        cls.one_at_a_time = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Lock.renew)


@dataclass(eq=False)  # made for every crop: frozen ones take twice as long
class RawImage(ArrayMixin):
    """A picture of an uncompressed store: a window touches only its own rows."""

    name: str
    shape: Shape
    store: ImageStore
    key: str

    def __getitem__(self, window: Window, /) -> Image:
        """See `LazyImage`."""
        return self.store.read(self.key, window)


def _read_meta(path: Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = _META_LINE.fullmatch(line.strip())
        if match is None:
            raise UserError(
                f"{path} says {line.strip()!r}, of no known layout: "
                "expected lines like '0001.png (480,480,3) 1' or '… raw'"
            )
        key, height, width, layout = match.groups()
        entries[key] = Entry((int(height), int(width), 3), "raw" if layout == "raw" else "png")
    if not entries:
        raise UserError(f"{path} is empty: the store holds no picture")
    return dict(sorted(entries.items()))


# LMDB lets a process open a store only once, so that those who read the same one share it.
_environments: "WeakValueDictionary[tuple[int, int, int], lmdb.Environment]" = WeakValueDictionary()


def _shared_environment(path: Path) -> lmdb.Environment:
    """Opens a store for reading, or finds it open in this very process."""
    pid = os.getpid()
    for key, inherited in list(_environments.items()):
        if key[0] != pid:  # opened before a fork: LMDB wants the child to open its own
            inherited.close()
            del _environments[key]
    try:
        file = (path / "data.mdb").stat()
        key = pid, file.st_dev, file.st_ino
        environment = _environments.get(key)
        if environment is None:
            # Crops are scattered: reading ahead would fetch what nobody asked for.
            environment = lmdb.open(str(path), readonly=True, lock=False, readahead=False)
            _environments[key] = environment
    except (OSError, lmdb.Error) as error:
        raise UserError(f"cannot open the store {path}: {error}") from None
    return environment


_COMPRESS_LEVEL: Final = 1
_LONGEST_KEY: Final = 511  # LMDB's own limit, in bytes


class StoreWriter:
    """Writes a store that appears under its name only when it is whole and on the disk.

    A context manager; whatever leaves it by an exception leaves nothing behind.

    Args:
        path: The folder to make.
        layout: `raw` for plain bytes, `png` for BasicSR's layout.

    Raises:
        FileError: If `path` exists already.
        OSError: If the disk is full.
    """

    def __init__(self, path: str | os.PathLike[str], layout: StoreLayout) -> None:
        self.path = Path(path)
        self.layout = layout
        self._lines: dict[str, str] = {}
        self._building = self._build()

    def __enter__(self) -> "StoreWriter":
        return self._building.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._building.__exit__(kind, error, trace)

    def put(self, key: str, rgb: Image) -> None:
        """Adds a picture: (H, W, 3), uint8, RGB."""
        self.put_encoded(key, encode(rgb, self.layout), rgb.shape)

    def put_encoded(self, key: str, value: bytes, shape: tuple[int, ...]) -> None:
        """Adds the result of `encode` of a picture of that shape.

        Raises:
            ValueError: If the key is longer than LMDB allows.
            OSError: If the disk is full.
        """
        if len(key.encode()) > _LONGEST_KEY:
            raise UserError(f"{key} is too long a name for LMDB: use at most {_LONGEST_KEY} bytes")
        assert key not in self._lines, key
        try:
            self._put(key.encode(), value)
        except lmdb.MapFullError:
            size = self._environment.info()["map_size"]
            self._environment.set_mapsize(2 * size + len(value))
            self._put(key.encode(), value)
        height, width, channels = shape
        level = "raw" if self.layout == "raw" else _COMPRESS_LEVEL
        self._lines[key] = f"{key}.png ({height},{width},{channels}) {level}\n"

    def _put(self, key: bytes, value: bytes) -> None:
        with _failure_named(self.path), self._environment.begin(write=True) as writing:
            writing.put(key, value)

    @contextlib.contextmanager
    def _build(self) -> Iterator["StoreWriter"]:
        with atomic_directory(self.path) as folder:
            self._environment = lmdb.open(str(folder), map_size=1 << 26, sync=False, lock=False)
            with contextlib.closing(self._environment):
                yield self
                with _failure_named(self.path):
                    self._environment.sync(True)
            text = "".join(line for _, line in sorted(self._lines.items()))
            write_text(text, folder / META)


def encode(rgb: Image, layout: StoreLayout) -> bytes:
    """Encodes a picture, (H, W, 3), uint8, RGB, as a store of that layout holds it."""
    return encode_png(rgb, _COMPRESS_LEVEL) if layout == "png" else rgb.tobytes()


@contextlib.contextmanager
def _failure_named(path: Path) -> Iterator[None]:
    try:
        yield
    except lmdb.MapFullError:
        raise
    except lmdb.Error as error:
        raise FileError(
            f"could not write {path}: {error}; nothing was left behind, make room and try again"
        ) from error
