"""Writing stores of pictures: whole, and on the disk, before they appear under their name."""

import contextlib
import errno
import os
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

import lmdb

from srgan_plugin.files import write_text

from .images import Image, encode_png
from .lmdb_store import META, Layout

_COMPRESS_LEVEL: Final = 1
_LONGEST_KEY: Final = 511  # LMDB's own limit, in bytes
# What some file systems answer to the wish to have a folder on the disk.
_SYNCS_NO_FOLDERS: Final = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)


class StoreWriter:
    """Writes a store that appears under its name only when it is whole and on the disk.

    A context manager; whatever leaves it by an exception leaves nothing behind.

    Args:
        path: The folder to make.
        layout: `raw` for plain bytes, `png` for BasicSR's layout.

    Raises:
        FileExistsError: If `path` exists already.
        OSError: If the disk is full.
    """

    def __init__(self, path: str | os.PathLike[str], layout: Layout) -> None:
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
            raise ValueError(f"{key} is too long a name for LMDB: use at most {_LONGEST_KEY} bytes")
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
        with whole_folder(self.path) as folder:
            self._environment = lmdb.open(str(folder), map_size=1 << 26, sync=False, lock=False)
            with contextlib.closing(self._environment):
                yield self
                with _failure_named(self.path):
                    self._environment.sync(True)
            text = "".join(line for _, line in sorted(self._lines.items()))
            write_text(text, folder / META)


def encode(rgb: Image, layout: Layout) -> bytes:
    """Encodes a picture, (H, W, 3), uint8, RGB, as a store of that layout holds it."""
    return encode_png(rgb, _COMPRESS_LEVEL) if layout == "png" else rgb.tobytes()


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Yields a temporary folder that takes the name `path` once the context is left without error.

    After an error the temporary folder is removed and what lay under `path` is untouched.

    Args:
        path: The folder to make; missing parents are made.
        replace: Whether a folder of that name may be there and gives way.

    Raises:
        FileExistsError: If `path` exists and may not be replaced.
    """
    path = Path(path).resolve()  # behind a link, on the disk that it leads to
    if path.exists() and not replace:
        raise FileExistsError(f"{path} exists already: remove it or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    unique = f".{path.name}.{uuid.uuid4().hex[:8]}"
    temporary, replaced = path.with_name(f"{unique}.tmp"), path.with_name(f"{unique}.old")
    temporary.mkdir()
    try:
        with _ending_in_order():
            yield temporary
        _sync_folder(temporary)
        if path.exists():
            if not replace:  # another process was faster
                raise FileExistsError(f"{path} has been made meanwhile: it stays")
            path.rename(replaced)
        temporary.rename(path)
        _sync_folder(path.parent)
    except BaseException:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Makes SIGTERM (`kill`, a cluster's time limit) an exception, so that what follows is done."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":  # opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _SYNCS_NO_FOLDERS:
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _failure_named(path: Path) -> Iterator[None]:
    try:
        yield
    except lmdb.MapFullError:
        raise
    except lmdb.Error as error:
        raise OSError(
            f"could not write {path}: {error}; nothing was left behind, make room and try again"
        ) from error
