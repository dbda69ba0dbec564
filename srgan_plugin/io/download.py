"""Downloads that go on where they broke off and appear only when whole. Every room may import this.

Standard library only.
"""

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

_MOST_RESTARTS: Final = 3  # from the beginning, after a server sent another part than asked for

Progress = Callable[[int, int], None]


def download(
    url: str,
    target: str | Path,
    *,
    sha256_prefix: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch a file once; what is there under its name already is whole and not fetched again.

    What has arrived lies in `TARGET.part`: a broken connection is taken up again as long as each
    attempt brings something, and a later call goes on from there (HTTP Range). Of several processes
    that ask for the same file one fetches and the others wait.

    Args:
        url: `http://` or `https://`.
        target: The file to make; its folder is made where it is missing.
        sha256_prefix: The first hexadecimal digits of the file's SHA-256, to be verified.
        progress: Called with the bytes there and in all (0 where the server does not say).

    Returns:
        `target`.

    Raises:
        ValueError: Not such a URL, or the file is not the one that `sha256_prefix` tells.
        OSError: The server or the disk failed; what has arrived is kept for the next call.
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
        if fetched := not target.is_file():  # else another process was faster
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
    elif sys.platform == "win32":  # it renames no open file
        part.replace(target)
    return target


def split_url(url: str) -> SplitResult:
    """Split a URL into its parts.

    Raises:
        UserError: It is not a URL of HTTP, its host or port is wrong, or it is not ASCII.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("another scheme, or no host")
        url.encode("ascii"), parts.hostname.encode("idna")
    except ValueError as error:
        raise UserError(f"expected an http:// or https:// URL, got {url!r} ({error})") from None
    return parts


def _fetch(url: str, file: BinaryIO, progress: Progress | None, target: Path) -> None:
    """Append to `file` what is missing of it; tries again as long as that brings something."""
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
                f"could not download {url} ({error or type(error).__name__}); {_size(file)} bytes "
                f"are kept: run it again to go on, or fetch it by hand and put it at {target}"
            ) from error


def _transfer(url: str, file: BinaryIO) -> Iterator[int]:
    """Append one answer of the server to `file`; yields the whole size after each chunk."""
    start = _size(file)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        # Nothing is left to send: all of it had arrived before.
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{start}":
            return
        if error.code == 416:
            file.truncate(0)
        raise
    with answer:
        if answer.status != 206:  # a server that cannot begin in the middle
            file.truncate(start := 0)
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            file.truncate(0)
            raise http.client.HTTPException(
                f"asked for the bytes from {start}, the server sent "
                f"{answer.headers.get('Content-Range')}"
            )
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else 0
        # What has arrived, not a whole chunk: a slow line may break off before that is complete.
        while chunk := answer.read1(_CHUNK):
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
            f"{path} from {url} is not the published file: expected SHA-256 {sha256_prefix}…, got "
            f"{digest[: max(8, len(sha256_prefix))]}…; remove it and try again"
        )
