"""Write LMDB stores of images, in the layouts described in `lmdb_store`."""

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

import lmdb
import numpy as np

from srgan_plugin.errors import FileError, UserError

from .array_types import RGBArray
from .atomic import atomic_directory, write_text
from .lmdb_store import META, StoreLayout
from .writers import encode_png

_COMPRESS_LEVEL: Final = 1
_LONGEST_KEY: Final = 511  # limit of LMDB, in bytes


class StoreWriter:
    """Context manager that writes a store, which appears under its name when it is complete.

    If the context ends with an exception, nothing remains.

    Args:
        path: Folder to create.
        layout: `raw` for plain bytes, `png` for the layout of BasicSR, which cannot read keys that
            contain a dot.

    Raises:
        FileError: On entering or writing: `path` exists already, or the disk is full.
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

    def put(self, key: str, rgb: RGBArray) -> None:
        """Add an image; see `put_encoded`.

        Args:
            key: Key of the image.
            rgb: RGB, (H, W, 3), uint8.
        """
        self.put_encoded(key, encode(rgb, self.layout), rgb.shape)

    def put_encoded(self, key: str, value: bytes, shape: tuple[int, ...]) -> None:
        """Add an encoded image.

        Args:
            key: Key of the image, unique in the store: its file name without suffix.
            value: Bytes returned by `encode`.
            shape: Shape of the image, (H, W, 3).

        Raises:
            UserError: The key is empty, too long for LMDB, not UTF-8, or has line breaks.
            OSError: The disk is full.
        """
        try:
            name = key.encode()
        except UnicodeEncodeError:  # a surrogate, for a file name that is not UTF-8
            raise UserError(f"{key!r}: expected a name in UTF-8; rename the file") from None
        if not name:
            raise UserError("key: expected a name, got an empty one; rename the file")
        if len(name) > _LONGEST_KEY:
            raise UserError(
                f"{key}: expected a name of at most {_LONGEST_KEY} bytes, the limit of LMDB, got "
                f"{len(name)}; rename the file"
            )
        if "\n" in key or "\r" in key:
            raise UserError(f"{key!r}: expected a name without line breaks; rename the file")
        assert key not in self._lines, key
        height, width, channels = shape
        try:
            self._put(name, value)
        except lmdb.MapFullError:
            size = self._environment.info()["map_size"]
            self._environment.set_mapsize(2 * size + len(value))
            self._put(name, value)
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


def encode(rgb: RGBArray, layout: StoreLayout) -> bytes:
    """Encode an image, RGB, (H, W, 3), uint8, for a store."""
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3, (rgb.dtype, rgb.shape)
    return encode_png(rgb, _COMPRESS_LEVEL) if layout == "png" else rgb.tobytes()


@contextlib.contextmanager
def _failure_named(path: Path) -> Iterator[None]:
    try:
        yield
    except lmdb.MapFullError:
        raise
    except lmdb.Error as error:
        hint = ", make room and try again" if isinstance(error, lmdb.DiskError) else ""
        raise FileError(
            f"{path}: expected to write a store, got {error}; nothing remains{hint}"
        ) from error
