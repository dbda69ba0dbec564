"""Names of a run's checkpoints, and the newest valid one of a work dir."""

import functools
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from srgan_plugin.checkpoints.read_write import load_checkpoint_file
from srgan_plugin.errors import UserError

logger = logging.getLogger(__name__)
LAST_CHECKPOINT = "last_checkpoint"  # file with the path of the newest checkpoint, as in mmengine
#: Function of a checkpoint's path that returns names of checkpoints in it, or its fault.
_Reader = Callable[[Path], frozenset[str] | str]


def checkpoint_name(iterations: int | str) -> str:
    """Return the file name of the checkpoint after a number of iterations."""
    return f"iter_{iterations}.pth"


def parse_iteration(path: Path) -> int | None:
    """Return the iteration in a name `iter_N.pth` or `best_…_iter_N.pth`; None for other names."""
    found = re.fullmatch(r"(?:best_.*_)?iter_(\d+)\.pth", path.name)
    return int(found[1]) if found else None


def last_checkpoint(work_dir: str | Path) -> str:
    """Return the path in the file `last_checkpoint` of a work dir, empty without that file."""
    pointer = Path(work_dir) / LAST_CHECKPOINT
    # A crash of the machine may leave zeros in a file.
    return pointer.read_text("utf-8", "replace").strip("\0 \n") if pointer.is_file() else ""


def numbered_checkpoints(folder: str | Path) -> list[tuple[int, Path]]:
    """Return the `iter_N.pth` of a folder with their numbers, oldest first."""
    found = ((parse_iteration(path), path) for path in Path(folder).glob(checkpoint_name("*")))
    return sorted((number, path) for number, path in found if number is not None)


def newest_checkpoint(work_dir: str | Path) -> Path | None:
    """Return the newest valid checkpoint of the last run in a work dir, None if there is none.

    This is the one in the file `last_checkpoint`, which may be in another folder, unless a later
    one exists, because a run may be killed after it saved a checkpoint and before it updated that
    file. Without that file it is the one with the most iterations. A checkpoint that cannot be read
    completely, or that contains another iteration than its name, is skipped with a warning. In a
    copy of a work dir the copied file is returned, and the original is not searched.

    Raises:
        UserError: None of the checkpoints is valid.
    """
    faults: list[str] = []
    read = functools.cache(_read_saved_names)
    for path in _newest_first(Path(work_dir), read):
        fault = read(path)
        if isinstance(fault, str):
            faults.append(fault)
            continue
        for fault in faults:
            logger.warning("SKIPPED an invalid checkpoint: %s", fault)
        if faults:
            logger.warning("resuming from an older checkpoint, %s", path)
        return path
    if faults:
        raise UserError(
            f"--resume: expected a valid checkpoint in {work_dir}, got {'; '.join(faults)}; remove "
            "them to start again, or use another one by --resume FILE"
        )
    return None


def _newest_first(folder: Path, read: _Reader) -> Iterator[Path]:
    """Yield candidates to resume from, valid or not, in the order of preference.

    Later ones than the file `last_checkpoint` names, the named one, older ones; without that file
    all, from the most iterations to the fewest.

    Args:
        folder: The work dir.
        read: `_read_saved_names`, which may cache its results.
    """
    last = last_checkpoint(folder)
    paths = [folder / Path(last).name, Path(last)] if last else []
    named = [path for path in paths if path.exists()][:1]
    folders = _distinct([folder, *(path.parent for path in named)])
    found = sorted((pair for each in folders for pair in numbered_checkpoints(each)), reverse=True)
    if not named:
        yield from (path for _, path in found)
        return
    when = named[0].stat().st_mtime
    others = [(n, path) for n, path in found if path.name != named[0].name]
    # Copying may change the order of times, but those listed in a checkpoint were saved before it.
    listed = read(named[0])
    before = frozenset() if isinstance(listed, str) else listed
    later = [p for _, p in others if p.stat().st_mtime > when and p.name not in before]
    yield from later
    yield from named
    # Older ones with more iterations are from another run.
    number = parse_iteration(named[0])
    limit = math.inf if number is None else number
    rest = [path for n, path in others if n < limit and path not in later]
    yield from sorted(rest, key=lambda path: path.stat().st_mtime, reverse=True)


def _distinct(paths: Iterable[Path]) -> list[Path]:
    """Remove paths that resolve to the same file, keeping the first."""
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(path.resolve(), path)
    return list(found.values())


def _read_saved_names(path: Path) -> frozenset[str] | str:
    """Read a checkpoint completely.

    Args:
        path: The checkpoint.

    Returns:
        Names of the checkpoints that its run had saved until then, empty if it lists none; the
        fault of an invalid checkpoint.
    """
    try:
        checkpoint = load_checkpoint_file(path)
    except (UserError, OSError) as error:
        return str(error)
    number, meta = parse_iteration(path), checkpoint.get("meta")
    saved = meta.get("iter", number) if isinstance(meta, dict) else number
    if number is not None and str(saved) != str(number):
        return f"{path}: expected iteration {number}, got iteration {saved}"
    info = checkpoint.get("message_hub", {}).get("runtime_info", {})
    return frozenset(Path(name).name for name in info.get("saved_ckpts", []))
