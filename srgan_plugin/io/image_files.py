"""Find image files, and read their bytes, where a file is one and as small as images are."""

import functools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from srgan_plugin.errors import MissingFileError, UserError

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_MAX_PIXELS: Final = 2**28
_MAX_BYTES_PER_PIXEL: Final = 8  # 16 bits of RGB and alpha
_MAX_METADATA: Final = 2**26
_KINDS: Final[dict[Callable[[int], bool], str]] = {
    stat.S_ISFIFO: "a pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
    stat.S_ISDIR: "a folder",
}


def list_images(folder: str | os.PathLike[str], *, nested: bool = True) -> dict[str, Path]:
    """Find the images of a folder, sorted by key.

    The key is the path below `folder` without its suffix, with forward slashes: `0001`, and
    `a/0001` in a nested folder. Files and folders whose names begin with a dot are skipped. Links
    are followed, but no folder is searched twice.

    Args:
        folder: The folder.
        nested: Whether the folders below it are searched, too.

    Raises:
        MissingFileError: The folder does not exist.
        UserError: It has no image, two files of one key (`0001.png`, `0001.jpg`), or something
            else that is called like an image: a pipe, a device, a link to nothing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"expected a folder of images, but {folder} does not exist")
    found: dict[str, Path] = {}
    for path in sorted(walk_files(folder, nested=nested)):
        if path.suffix.lower() not in SUFFIXES:
            continue
        key = path.relative_to(folder).with_suffix("").as_posix()
        if key in found:
            raise UserError(
                f"{folder} holds both {found[key].name} and {path.name}: keep one of them"
            )
        found[key] = path
        if not path.is_file():
            raise not_regular(path)
    if not found:
        raise UserError(f"{folder} holds no image: expected files ending in {', '.join(SUFFIXES)}")
    return dict(sorted(found.items()))


def walk_files(
    folder: Path, *, nested: bool = True, onerror: Callable[[OSError], None] | None = None
) -> Iterator[Path]:
    """Find all but the folders in a folder and below it; each real folder is searched once.

    Names that begin with a dot are skipped. Links to folders are followed after the folders
    themselves, except where they lead to one that was searched before, or that holds `folder`.

    Args:
        folder: The folder.
        nested: Whether the folders below it are searched, too.
        onerror: Called with the error of each folder that cannot be read.
    """
    searched = set(map(str, Path(os.path.realpath(folder)).parents))
    waiting = [folder]
    for start in waiting:
        for parent, folders, names in os.walk(start, onerror=onerror):
            real = os.path.realpath(parent)
            if real in searched:
                folders.clear()
                continue
            searched.add(real)
            folders[:] = sorted(name for name in folders if nested and not name.startswith("."))
            waiting += [link for name in folders if (link := Path(parent, name)).is_symlink()]
            yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def read_image_bytes(path: Path) -> bytes:
    """Read a file whole.

    Raises:
        MissingFileError: It does not exist.
        UserError: It is not a regular file, or larger than any image that is read.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise not_regular(path)
        if found.st_size > _MAX_BYTES_PER_PIXEL * max_pixels() + _MAX_METADATA:
            raise UserError(
                f"{path} has {found.st_size} bytes, more than an image of {max_pixels()} pixels "
                "needs: cut it into pieces, or set SRGAN_MAX_PIXELS"
            )
        with path.open("rb", 0) as file:
            return file.read(found.st_size) or b""  # not to the end: /proc's files have none
    except FileNotFoundError:
        raise MissingFileError(
            f"expected an image, but {path} "
            + ("is a link to nothing" if path.is_symlink() else "does not exist")
        ) from None


def not_regular(path: Path) -> UserError:
    """Return the error of a file that is not opened: reading it might never end."""
    try:
        kind = next(
            (kind for test, kind in _KINDS.items() if test(path.stat().st_mode)), "unreadable"
        )
    except FileNotFoundError:
        kind = "a link to nothing"
    except OSError as error:
        kind = f"unreadable ({error.strerror})"
    return UserError(f"{path}: expected an image file, got what is {kind}; remove it")


@functools.cache
def max_pixels() -> int:
    """Return the largest number of pixels that is read: `$SRGAN_MAX_PIXELS`, or 2**28."""
    text = os.environ.get("SRGAN_MAX_PIXELS", str(_MAX_PIXELS))
    if not text.isdecimal() or not int(text):
        raise UserError(f"SRGAN_MAX_PIXELS: expected a number of pixels, got {text!r}")
    return int(text)
