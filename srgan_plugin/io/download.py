"""Download files, resuming interrupted downloads; a file appears when it is complete."""

import contextlib
import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import SplitResult, urlsplit

from srgan_plugin.errors import FileError, UserError

if sys.platform != "win32":
    import fcntl

_CHUNK: Final = 1 << 20
_TIMEOUT: Final = 60.0  # seconds without a byte

_MOST_RESTARTS: Final = 3  # restarts after the server sent another range than requested

Progress = Callable[[int, int], None]


def download(
    url: str,
    target: str | Path,
    *,
    sha256_prefix: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Download a file unless it exists.

    Data are received in `TARGET.part`. After a broken connection the download is resumed (HTTP
    Range) as long as each attempt receives data, and by the next call after that. Of several
    processes with the same target one downloads and the others wait.

    Args:
        url: URL with `http://` or `https://`.
        target: File to create; its folder is created if it does not exist.
        sha256_prefix: First hexadecimal digits of the SHA-256 of the file, to verify it.
        progress: Called with the number of bytes received and the total (0 if it is unknown).

    Returns:
        `target`.

    Raises:
        UserError: The URL is invalid, or the SHA-256 of the file is not the expected one.
        OSError: The server or the disk failed; the data received are kept for the next call.
    """
    target = Path(target)
    split_url(url)
    if target.is_file():
        _verify(target, sha256_prefix, url)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with part.open("ab") as file:
        _lock(file)
        if fetched := not target.is_file():  # else another process has downloaded it
            _fetch(url, file, progress, target)
            os.fsync(file.fileno())
            try:
                _verify(part, sha256_prefix, url)
            except UserError:
                file.truncate(0)
                raise
            if sys.platform != "win32":
                part.replace(target)
    if not fetched:
        part.unlink(missing_ok=True)
        _verify(target, sha256_prefix, url)
    elif sys.platform == "win32":  # cannot rename an open file
        part.replace(target)
    return target


def split_url(url: str) -> SplitResult:
    """Split a URL into its parts.

    Raises:
        UserError: The scheme is not HTTP, the host or port is invalid, or the URL is not ASCII.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("another scheme, or no host")
        url.encode("ascii"), parts.hostname.encode("idna")
    except ValueError as error:
        raise UserError(
            f"URL: expected an http:// or https:// URL, got {url!r} ({error})"
        ) from None
    return parts


def _fetch(url: str, file: BinaryIO, progress: Progress | None, target: Path) -> None:
    """Append the missing bytes to `file`, trying again as long as attempts receive data."""
    restarts = 0
    while True:
        before = _size(file)
        try:
            for total in _transfer(url, file):
                if progress is not None:
                    progress(_size(file), total)
            return
        except (OSError, http.client.HTTPException) as error:
            restarts += _size(file) < before
            if _size(file) != before and restarts <= _MOST_RESTARTS:
                continue
            raise FileError(
                f"{url}: expected a complete download, got {error or type(error).__name__} after "
                f"{_size(file)} bytes, which are kept; run it again to resume, or download it by "
                f"other means to {target}"
            ) from error


def _transfer(url: str, file: BinaryIO) -> Iterator[int]:
    """Append one response of the server to `file`; yield the total size after each chunk."""
    start = _size(file)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        # No byte is missing.
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{start}":
            return
        if error.code == 416:
            file.truncate(0)
        raise
    with response:
        if response.status != 206:  # the server does not support ranges
            file.truncate(start := 0)
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            file.truncate(0)
            raise http.client.HTTPException(
                f"requested bytes from {start}, received {response.headers.get('Content-Range')}"
            )
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else 0
        # read1 returns early on a slow connection, so that less is lost when it breaks.
        while chunk := response.read1(_CHUNK):
            file.write(chunk)
            file.flush()
            yield total
    if total and _size(file) != total:
        raise http.client.IncompleteRead(b"", total - _size(file))


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _lock(file: BinaryIO) -> None:
    if sys.platform != "win32":
        with contextlib.suppress(OSError):  # some cluster file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _verify(path: Path, sha256_prefix: str | None, url: str) -> None:
    if not sha256_prefix:
        return
    digest = sha256(path)
    if not digest.startswith(sha256_prefix.lower()):
        raise UserError(
            f"{path} from {url}: expected SHA-256 {sha256_prefix}…, got "
            f"{digest[: max(8, len(sha256_prefix))]}…; remove the file and try again"
        )
