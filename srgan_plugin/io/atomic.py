"""Write files and folders that appear under their name when they are complete."""

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


_RENAMINGS = 100  # attempts while other writers replace the same folder
_NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_WRITING = f"writing-{zlib.crc32(platform.node().encode()):08x}-"


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it is synced and renamed to `target`.

    If the block raises, the temporary file is removed and an existing `target` does not change.
    Temporary files of killed processes are removed by `remove_abandoned`.

    Args:
        target: File to write, or a link to it; its folder is created if it does not exist.

    Raises:
        FileError: `target` is a device, a pipe or a folder, which renaming would replace.
        OSError: The file cannot be written; the error has the path `target`.
    """
    target = Path(target).resolve()
    if target.exists() and not target.is_file():
        raise FileError(f"{target}: expected a file to write, got a folder, device or pipe")
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept: encoders choose the format by it.
    temporary = _temporary(target.parent, target.suffix)
    try:
        with _create_locked(temporary, Path.touch):
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
    except OSError as error:
        full = error.errno in _NO_ROOM
        if not full and str(error.filename) not in (str(temporary), str(_unlocked_name(temporary))):
            raise  # raised for another file by the block
        reason = f"{error.strerror}; an existing file of this name is unchanged"
        raise OSError(error.errno, reason + "; make room" * full, str(target)) from error
    finally:
        with suppress(OSError):  # raised by a read-only disk also if the file does not exist
            temporary.unlink(missing_ok=True)


def _temporary(folder: Path, suffix: str = "") -> Path:
    return folder / f".{_WRITING}{uuid.uuid4().hex[:8]}.tmp{suffix}"


def _unlocked_name(temporary: Path) -> Path:
    """Return the name until the file is locked, which `remove_abandoned` keeps for a day."""
    return temporary.with_name(temporary.name.replace("writing", "new", 1))


@contextmanager
def _create_locked(temporary: Path, make: Callable[[Path], None]) -> Iterator[None]:
    """Create a file or folder, locked to show other processes that this one is writing it."""
    fresh = _unlocked_name(temporary)
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
    """Remove temporary files and folders of killed processes, which no process has locked.

    Locks of other machines may be invisible, so their files are removed after a day. Nothing is
    removed where files cannot be locked, such as on Windows.
    """
    folder = Path(folder)
    for path in (*folder.glob(".writing-*.tmp*"), *folder.glob(".new-*.tmp*")) if fcntl else ():
        with suppress(OSError):  # locked, or gone meanwhile
            # NFS locks only files that are open for writing.
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
    """Write a text file, complete or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def claim_folder(folder: str | Path) -> IO[str]:
    """Lock a folder for this process as long as the returned file is open.

    The lock belongs to the process (POSIX), is not inherited by its workers, and is released when
    the process ends. There is no lock on Windows, nor where the file system has no locks.

    Raises:
        UserError: Another process has locked the folder.
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
            f"{folder}: expected no other run in this folder, got one that is running ({owner}); "
            "use another --work-dir, or stop that run first"
        ) from error
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}\n")
    file.flush()
    return file


# Errors of file systems that cannot sync a folder.
_SYNCS_NO_FOLDERS: Final = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `path` if the context ends without an error.

    After an error the temporary folder is removed and an existing `path` does not change.

    Args:
        path: Folder to create; missing parents are created.
        replace: Whether to replace an existing folder.

    Raises:
        FileError: `path` exists and `replace` is false.
    """
    path = Path(path).resolve()  # a link's target, so that both are on one disk
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent)
    _restore_replaced(path)
    if path.exists() and not replace:
        raise FileError(
            f"{path}: expected no such folder, got one that exists already; remove it or choose "
            "another name"
        )
    temporary = _temporary(path.parent)
    replaced = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
    try:
        with _sigterm_as_exit(), _create_locked(temporary, Path.mkdir):
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
    """Rename a complete folder to `path`, after an existing one to `replaced` unless that is None.

    If another writer takes the name between the two renamings, its folder is replaced as well.
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
    raise FileError(
        f"{path}: expected no such folder, got one that another process created meanwhile; choose "
        "another name"
    )


def _restore_replaced(path: Path) -> None:
    """Restore a folder that a writer, killed between its two renamings, was about to replace."""
    for replaced in path.parent.glob(f".{glob.escape(path.name)}.*.old"):
        if path.exists():
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            with suppress(OSError):  # another process restored or replaced it
                replaced.rename(path)


@contextlib.contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """Raise SIGTERM (`kill`, time limit of a cluster) as an exception, so that cleanup runs."""
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
    if sys.platform == "win32":  # cannot open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _SYNCS_NO_FOLDERS:
            raise
    finally:
        os.close(descriptor)
