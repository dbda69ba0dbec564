"""Files that appear under their name only when they are whole. Every room may import this."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NO_ROOM = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it is synced and renamed to `target`.

    When the block raises, the temporary file is removed and an older `target` stays as it was.

    Args:
        target: The file to write; its folder is made where it is missing.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept: encoders choose the format by it.
    temporary = target.with_name(f".{uuid.uuid4().hex[:8]}.tmp{target.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        full = error.errno in _NO_ROOM
        if not full and str(error.filename) != str(temporary):
            raise  # the block failed at something else
        reason = f"{error.strerror}; whatever had this name before is untouched"
        raise OSError(error.errno, reason + "; make room" * full, str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(text: str, target: str | Path) -> None:
    """Write a text file, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
