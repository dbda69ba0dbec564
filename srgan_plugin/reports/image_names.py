"""Match images of several folders by file name."""

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from srgan_plugin.errors import UserError
from srgan_plugin.io.image_files import list_images

Files = dict[str, Path]


def match_names(folders: Mapping[str, Path], *, first: str = "") -> dict[str, Files]:
    """Match the files of folders by name.

    Args:
        folders: {method: folder}.
        first: Method whose file names are used; default, and if missing: the first one.

    Returns:
        {method: {name: file}}.

    Raises:
        UserError: Two images of a folder have the same name, or a folder has no name in common with
            the others.
    """
    found = {method: _by_name(path) for method, path in folders.items()}
    names = set(found.get(first) or next(iter(found.values())))
    ending = _common_ending(list(names))
    try:
        return {m: strip_ending(files, names, folders[m]) for m, files in found.items()}
    except UserError:
        if not ending:
            raise
        names = {name.removesuffix(ending) for name in names}
        return {m: strip_ending(files, names, folders[m]) for m, files in found.items()}


def strip_ending(files: Files, names: Collection[str], folder: Path) -> Files:
    """Remove the common ending of the names of files, if it prevents a match with `names`.

    Args:
        files: {name: file}, with names such as `0001x4`.
        names: Names to match, such as `0001`.
        folder: Folder of the files, for errors.

    Returns:
        {name: file}, without the common ending.

    Raises:
        UserError: No file has one of the names.
    """
    if not files.keys().isdisjoint(names):
        return files
    first = next(iter(files))
    endings = {first.removeprefix(name) for name in names if first.startswith(name)}
    for ending in sorted(endings, key=len):
        short = {name.removesuffix(ending): path for name, path in files.items()}
        if all(name.endswith(ending) for name in files) and not short.keys().isdisjoint(names):
            return short
    raise UserError(
        f"{folder}: expected images with the names of another folder ({min(names)}), got {first}"
    )


def _by_name(folder: Path) -> Files:
    files = list_images(folder)
    names = Counter(key.rpartition("/")[2] for key in files)
    repeated = [name for name, count in names.items() if count > 1]
    if repeated:
        raise UserError(
            f"{folder}: expected one image of each name, got several named {repeated[0]}; give "
            "the folder of one test set"
        )
    return {key.rpartition("/")[2]: path for key, path in files.items()}


def _common_ending(names: Sequence[str]) -> str:
    """Return the common ending of names that begins with a separator or scale: `_SRGAN`, `x4`."""
    reversed_names = [name[::-1] for name in names]
    common = os.path.commonprefix(reversed_names)[::-1] if len(names) > 1 else ""  # noqa: RUF071
    found = re.search(r"[_.\- ].*$|x\d+$", common)
    return found[0] if found else ""
