"""Files that appear under their name only when they are whole. Every room may import this."""

import contextlib
import errno
import glob
import os
import platform
import shutil
import signal
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from srgan_plugin.errors import FileError, UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


_RENAMINGS = 100  # of writers that replace the same folder again and again
_NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_WRITING = f"writing-{zlib.crc32(platform.node().encode()):08x}-"


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it is synced and renamed to `target`.

    When the block raises, the temporary file is removed and an older `target` stays as it was. What
    a killed process leaves is removed by `remove_abandoned`.

    Args:
        target: The file to write, or a link to it; its folder is made where it is missing.

    Raises:
        FileError: `target` is a device, a pipe or a folder, which renaming would replace.
    """
    target = Path(target).resolve()
    if target.exists() and not target.is_file():
        raise FileError(f"{target}: expected a file to write, got a folder, device or pipe")
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept: encoders choose the format by it.
    temporary = _temporary(target.parent, target.suffix)
    try:
        with _locked(temporary, Path.touch):
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
    except OSError as error:
        full = error.errno in _NO_ROOM
        if not full and str(error.filename) not in (str(temporary), str(_unlocked(temporary))):
            raise  # the block failed at something else
        reason = f"{error.strerror}; whatever had this name before is untouched"
        raise OSError(error.errno, reason + "; make room" * full, str(target)) from error
    finally:
        with suppress(OSError):  # a read-only disk says so even where there is no such file
            temporary.unlink(missing_ok=True)


def _temporary(folder: Path, suffix: str = "") -> Path:
    return folder / f".{_WRITING}{uuid.uuid4().hex[:8]}.tmp{suffix}"


def _unlocked(temporary: Path) -> Path:
    """Return the name before the lock, by which `remove_abandoned` does not find it."""
    return temporary.with_name(temporary.name.replace("writing", "new", 1))


@contextmanager
def _locked(temporary: Path, make: Callable[[Path], None]) -> Iterator[None]:
    """Make a file or folder that shows to other processes, by a lock, that this one writes it."""
    fresh = _unlocked(temporary)
    make(fresh)
    with ExitStack() as held:
        if fcntl is not None:
            descriptor = os.open(fresh, os.O_RDONLY if fresh.is_dir() else os.O_RDWR)
            held.callback(os.close, descriptor)
            with suppress(OSError):  # some network file systems have no locks
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fresh.rename(temporary)
        yield


def remove_abandoned(folder: str | Path) -> None:
    """Remove temporary files and folders of killed processes: those that no process has locked.

    Locks of other machines may not be seen here: theirs go when they are a day old. Nothing goes
    where files cannot be locked, on Windows for one.
    """
    folder = Path(folder)
    for path in (*folder.glob(".writing-*.tmp*"), *folder.glob(".new-*.tmp*")) if fcntl else ():
        with suppress(OSError):  # locked, or gone meanwhile
            # NFS locks only what is open for writing.
            descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                here = path.name.startswith(f".{_WRITING}")
                if here or time.time() - path.stat().st_mtime > 24 * 3600:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                os.close(descriptor)


def write_bytes(content: bytes, target: str | Path) -> None:
    """Write a file, complete or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def write_text(text: str, target: str | Path) -> None:
    """Write a text file, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def claim_folder(folder: str | Path) -> IO[str]:
    """Claim a folder for this process, as long as the returned file is open.

    The lock is of the process (POSIX), not inherited by its workers, and ends with it however it
    ends. Nothing is claimed on Windows, and where the file system has no locks.

    Raises:
        ValueError: Another process has claimed it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    file = (Path(folder) / ".lock").open("a+", encoding="utf-8")
    try:
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            return file
        file.seek(0)
        owner = file.read(200).strip() or "unknown"
        file.close()
        raise UserError(
            f"{folder}: expected no other run in it, got one that is running ({owner}); give this "
            "one a --work-dir of its own, or stop that one first"
        ) from error
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}\n")
    file.flush()
    return file


# What some file systems answer to the wish to have a folder on the disk.
_SYNCS_NO_FOLDERS: Final = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `path` if the context ends without error.

    After an error the temporary folder is removed and what lay under `path` is untouched.

    Args:
        path: The folder to make; missing parents are made.
        replace: Whether a folder of that name may be there and gives way.

    Raises:
        FileError: If `path` exists and may not be replaced.
    """
    path = Path(path).resolve()  # behind a link, on the disk that it leads to
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    _restore_replaced(path)
    if path.exists() and not replace:
        raise FileError(f"{path} exists already: remove it or choose another name")
    temporary = _temporary(path.parent)
    replaced = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
    try:
        with _sigterm_as_exit(), _locked(temporary, Path.mkdir):
            yield temporary
            _sync_folder(temporary)
            _take_place(temporary, path, replaced if replace else None)
        _sync_folder(path.parent)
    except BaseException:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(replaced, ignore_errors=True)


def _take_place(temporary: Path, path: Path, replaced: Path | None) -> None:
    """Rename a complete folder to its name, and the one that has it to `replaced`, if that may be.

    Another writer may take the name between the two renamings; then it is replaced, too.
    """
    for _ in range(_RENAMINGS):
        if replaced is not None:
            shutil.rmtree(replaced, ignore_errors=True)
            with suppress(FileNotFoundError):
                path.rename(replaced)
        try:
            temporary.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if replaced is None:
                break
        else:
            return
    raise FileError(f"{path}: another process made it meanwhile; it stays")


def _restore_replaced(path: Path) -> None:
    """Restore a folder whose successor's writer was killed between its two renamings."""
    for replaced in path.parent.glob(f".{glob.escape(path.name)}.*.old"):
        if path.exists():
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            with suppress(OSError):  # another process did, or replaced it again
                replaced.rename(path)


@contextlib.contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Raise SIGTERM (`kill`, a cluster's time limit) as an exception, so that cleanup runs."""
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
