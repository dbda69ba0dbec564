"""Write LMDB stores of images, in the layouts that `lmdb_store` describes."""

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

import lmdb

from srgan_plugin.errors import FileError, UserError

from .atomic import atomic_directory, write_text
from .images import Image
from .lmdb_store import META, StoreLayout
from .writers import encode_png

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
        """Add an image: (H, W, 3), uint8, RGB."""
        self.put_encoded(key, encode(rgb, self.layout), rgb.shape)

    def put_encoded(self, key: str, value: bytes, shape: tuple[int, ...]) -> None:
        """Add the result of `encode` for an image of a shape.

        Raises:
            ValueError: If the key is longer than LMDB allows.
            OSError: If the disk is full.
        """
        try:
            name = key.encode()
        except UnicodeEncodeError:  # as Python reads names of files that are not UTF-8
            raise UserError(f"{key!r}: expected a name in UTF-8; rename the file") from None
        if len(name) > _LONGEST_KEY:
            raise UserError(f"{key}: expected a name of at most {_LONGEST_KEY} bytes, LMDB's limit")
        if "\n" in key or "\r" in key:
            raise UserError(f"{key!r}: expected a name without line breaks; rename the file")
        assert key not in self._lines, key
        try:
            self._put(name, value)
        except lmdb.MapFullError:
            size = self._environment.info()["map_size"]
            self._environment.set_mapsize(2 * size + len(value))
            self._put(name, value)
        height, width, channels = shape
        checksum = f"crc32={zlib.crc32(value):08x}"
        level = "raw" if self.layout == "raw" else _COMPRESS_LEVEL
        self._lines[key] = f"{key}.png ({height},{width},{channels}) {level} {checksum}\n"

    def _put(self, key: bytes, value: bytes) -> None:
        with _failure_named(self.path), self._environment.begin(write=True) as writing:
            writing.put(key, value)

    @contextlib.contextmanager
    def _build(self) -> Iterator["StoreWriter"]:
        with atomic_directory(self.path) as folder:
            with _failure_named(self.path):
                self._environment = lmdb.open(str(folder), map_size=1 << 26, sync=False, lock=False)
            with contextlib.closing(self._environment):
                yield self
                with _failure_named(self.path):
                    self._environment.sync(True)
            text = "".join(line for _, line in sorted(self._lines.items()))
            write_text(text, folder / META)


def encode(rgb: Image, layout: StoreLayout) -> bytes:
    """Encode an image, (H, W, 3), uint8, RGB, for a store of a layout."""
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
