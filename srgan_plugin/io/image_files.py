"""Find image files and read their bytes; refuse files that are not regular or too large."""

import os
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from srgan_plugin.errors import MissingFileError, PluginWarning, UserError

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_MOST_REFUSED: Final = 10  # files named in one message
_MAX_PIXELS: Final = 2**28
_MAX_BYTES_PER_PIXEL: Final = 8  # 16 bits of RGB and alpha
_MAX_METADATA: Final = 2**26  # bytes of headers, profiles and EXIF
_KINDS: Final[dict[Callable[[int], bool], str]] = {
    stat.S_ISFIFO: "a pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
    stat.S_ISDIR: "a folder",
}


def list_images(folder: str | os.PathLike[str], *, nested: bool = True) -> dict[str, Path]:
    """List the images of a folder, sorted by key.

    The key is the path relative to `folder` without suffix, with forward slashes: `0001`, or
    `a/0001` in a nested folder. Names that begin with a dot are skipped. Links are followed, but no
    folder is searched twice. A `PluginWarning` names each subfolder that is skipped for lack of
    permission.

    Args:
        folder: Folder to search.
        nested: Whether to search subfolders.

    Returns:
        {key: path}.

    Raises:
        MissingFileError: The folder does not exist, or is a file.
        OSError: The folder cannot be read, or one below it for another reason than permission.
        UserError: The folder has no image, two files with one key (`0001.png`, `0001.jpg`), or a
            pipe, a device, a broken link or an inaccessible file with the name of an image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        kind = "a file" if folder.is_file() else "no such folder"
        raise MissingFileError(f"{folder}: expected a folder of images, got {kind}")
    found: dict[str, Path] = {}
    refused: list[str] = []

    def skip(error: OSError) -> None:
        if error.filename == str(folder) or not isinstance(error, PermissionError):
            raise error
        warnings.warn(
            f"{error.filename}: expected a folder that can be read, got {error.strerror}; skipped",
            PluginWarning,
            stacklevel=5,
        )

    for path in sorted(walk_files(folder, nested=nested, onerror=skip)):
        if path.suffix.lower() not in SUFFIXES:
            continue
        key = path.relative_to(folder).with_suffix("").as_posix()
        if key in found:
            refused.append(
                f"{folder}: expected one image with the key {key}, got both {found[key].name} and "
                f"{path.name}; keep one of them"
            )
        elif not os.path.isfile(path):  # noqa: PTH113 (Path.is_file raises without permission)
            refused.append(f"{not_regular(path)}, or remove it")
        found.setdefault(key, path)
    if refused:
        more = len(refused) - _MOST_REFUSED
        raise UserError(
            "; ".join(refused[:_MOST_REFUSED]) + (f"; and {more} more" if more > 0 else "")
        )
    if not found:
        raise UserError(f"{folder}: expected images ending in {', '.join(SUFFIXES)}, got none")
    return dict(sorted(found.items()))


def skipped_files(folder: str | os.PathLike[str]) -> dict[str, int]:
    """Count the files below a folder that `list_images` skips, but not hidden ones behind links.

    Returns:
        Numbers by suffix (`.txt`), `no suffix` and `hidden` (names that begin with a dot; hidden
        folders count once), most frequent first.
    """
    folder = Path(folder)
    files = (path for path in walk_files(folder) if path.suffix.lower() not in SUFFIXES)
    kinds = Counter(path.suffix.lower() or "no suffix" for path in files)
    kinds["hidden"] = sum(name.startswith(".") for name in _names(folder))
    return {kind: count for kind, count in kinds.most_common() if count}


def _names(folder: Path) -> Iterator[str]:
    """Yield the names of all files and folders outside hidden folders."""
    for _, folders, names in os.walk(folder):
        yield from (*folders, *names)
        folders[:] = [name for name in folders if not name.startswith(".")]


def walk_files(
    folder: Path, *, nested: bool = True, onerror: Callable[[OSError], None] | None = None
) -> Iterator[Path]:
    """Yield the files in a folder and in the folders below it; search each real folder once.

    Names that begin with a dot are skipped. Links to folders are followed after the folders
    themselves, unless they lead to a folder that was searched already, or that contains `folder`.

    Args:
        folder: Folder to search.
        nested: Whether to search subfolders.
        onerror: Called with the error for each folder that cannot be read; None ignores them.
    """
    searched = set(map(str, Path(os.path.realpath(folder)).parents))
    pending = [folder]
    for start in pending:
        for parent, folders, names in os.walk(start, onerror=onerror):
            real = os.path.realpath(parent)
            if real in searched:
                folders.clear()
                continue
            searched.add(real)
            folders[:] = sorted(name for name in folders if nested and not name.startswith("."))
            pending += [link for name in folders if (link := Path(parent, name)).is_symlink()]
            yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def read_image_bytes(path: Path) -> bytes:
    """Read the bytes of an image file; for errors see `image_file_size`."""
    size = image_file_size(path)
    # Buffered, because an unbuffered read returns at most 2 GB. With a size, because files in /proc
    # have the size 0 and may be endless.
    with path.open("rb") as file:
        return file.read(size)


def image_file_size(path: Path) -> int:
    """Return the size in bytes of a file that may be an image, without opening it.

    Raises:
        MissingFileError: The file does not exist.
        OSError: The file cannot be accessed.
        UserError: The file is not regular, or larger than the largest image allowed, or
            `$SRGAN_MAX_PIXELS` is not a positive integer.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise not_regular(path)
        if found.st_size > _MAX_BYTES_PER_PIXEL * max_pixels() + _MAX_METADATA:
            raise UserError(
                f"{path}: expected at most the size of an image of {max_pixels()} pixels, got "
                f"{found.st_size} bytes; cut it into pieces, or set SRGAN_MAX_PIXELS"
            )
    except FileNotFoundError:
        raise MissingFileError(
            f"{path}: expected an image, got "
            + ("a link to nothing" if path.is_symlink() else "no such file")
        ) from None
    return found.st_size


def not_regular(path: Path) -> UserError:
    """Return the error for a file that is not regular and could be read without end."""
    try:
        kind = next(
            (kind for test, kind in _KINDS.items() if test(path.stat().st_mode)),
            "an unreadable file",
        )
    except FileNotFoundError:
        kind = "a link to nothing"
    except OSError as error:
        kind = f"an unreadable file ({error.strerror})"
    return UserError(f"{path}: expected an image file, got {kind}; give another file")


def max_pixels() -> int:
    """Return the largest number of pixels allowed: `$SRGAN_MAX_PIXELS`, or 2**28.

    Raises:
        UserError: `$SRGAN_MAX_PIXELS` is not a positive integer.
    """
    text = os.environ.get("SRGAN_MAX_PIXELS", str(_MAX_PIXELS))
    if not (text.isdecimal() and len(text) < 20 and int(text)):
        raise UserError(f"SRGAN_MAX_PIXELS: expected a number of pixels, got {text!r}")
    return int(text)
