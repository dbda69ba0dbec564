"""Names of a run's checkpoints, and the newest valid one of a work dir."""

import logging
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from srgan_plugin.checkpoints.read_write import load_checkpoint_file
from srgan_plugin.errors import UserError

logger = logging.getLogger(__name__)
LAST_CHECKPOINT = "last_checkpoint"  # file with the path of the newest checkpoint, as in mmengine


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
    for path in _newest_first(Path(work_dir)):
        found = _read(path)
        if isinstance(found, str):
            faults.append(found)
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


def _newest_first(folder: Path) -> Iterator[Path]:
    """Yield candidates to resume from, valid or not, in the order of preference.

    Later ones than the file `last_checkpoint` names, the named one, older ones; without that file
    all, from the most iterations to the fewest.
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
    known = _read(named[0])
    info = {} if isinstance(known, str) else known.get("message_hub", {}).get("runtime_info", {})
    before = {Path(path).name for path in info.get("saved_ckpts", [])}
    later = [p for _, p in others if p.stat().st_mtime > when and p.name not in before]
    yield from later
    yield from named
    # Older ones with more iterations are from another run.
    number = int("".join(filter(str.isdecimal, named[0].stem)) or sys.maxsize)
    rest = [path for n, path in others if n < number and path not in later]
    yield from sorted(rest, key=lambda path: path.stat().st_mtime, reverse=True)


def _distinct(paths: Iterable[Path]) -> list[Path]:
    """Remove paths that resolve to the same file, keeping the first."""
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(path.resolve(), path)
    return list(found.values())


def _read(path: Path) -> dict[str, Any] | str:
    """Read a checkpoint completely; return its fault if it is invalid."""
    try:
        checkpoint = load_checkpoint_file(path)
    except (UserError, OSError) as error:
        return str(error)
    number, meta = path.stem.removeprefix("iter_"), checkpoint.get("meta")
    saved = str(meta.get("iter", number)) if isinstance(meta, dict) else number
    if number.isdecimal() and saved != number:
        return f"{path}: expected iteration {number}, got iteration {saved}"
    return checkpoint
