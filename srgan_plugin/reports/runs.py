"""A training run as its folder tells it: curves, config, machine, checkpoints, test results."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from srgan_plugin.errors import FileError, MissingFileError, UserError

Curve = dict[int, float]  # by iteration

_MAX_HASHED: Final = 2**33  # bytes of one checkpoint
_CHECKPOINTS: Final = (".pth", ".safetensors")


@dataclass
class Run:
    """What the folder of a run holds.

    Attributes:
        name: The folder's.
        folder: The folder.
        toolbox: "mmengine" (this package's and MMagic's runs) or "BasicSR".
        curves: By name; names as this package logs them, also of BasicSR's logs.
        facts: When, where and with which versions it ran, as texts by their titles.
        config: Settings by their dotted names; empty where the folder holds no config.
        config_text: The config file as it is.
        config_name: Its file name.
        tests: Results by file: for each test set the measures.
        image_counts: How many images the validation sets have, where the log has it.
    """

    name: str
    folder: Path
    toolbox: str
    curves: dict[str, Curve] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    config: dict[str, object] = field(default_factory=dict)
    config_text: str = ""
    config_name: str = ""
    tests: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    image_counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, step: int, value: float) -> None:
        """Add a point to a curve; a later one of the same iteration replaces it."""
        self.curves.setdefault(name, {})[step] = value

    def drop_from(self, step: int) -> None:
        """Forget what was logged from `step` on: the run was resumed there."""
        self.curves = {
            name: {at: value for at, value in curve.items() if at < step}
            for name, curve in self.curves.items()
        }


def validated_at(step: int, every: int, last: int) -> int:
    """Return at which iteration a validation was of which a log does not say it.

    Args:
        step: The iteration that was logged last before it.
        every: A validation is at each multiple of this; 0 where that is not known.
        last: The last iteration of the training, which has one, too; 0 where that is not known.
    """
    at = -(-step // every) * every if every else step
    return min(at, last) if last else at


def read_run(path: Path) -> Run:
    """Read a run of mmengine (this package, MMagic) or BasicSR.

    Args:
        path: The folder of the run, or one of its logs: mmengine's `scalars.json`,
            `TIMESTAMP.json` or `TIMESTAMP.log`, BasicSR's `train_NAME_TIMESTAMP.log`.

    Raises:
        MissingFileError: There is no such folder or file, or no log in it.
        FileError: The file is not such a log.
    """
    from .basicsr_runs import basicsr_logs, read_basicsr
    from .mmengine_runs import mmengine_logs, read_mmengine

    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"{path}: expected the folder of a run or a log, got no such file")
    if path.is_file():
        return _read_log(path)
    run = Run(path.resolve().name, path, "")
    if logs := mmengine_logs(path):
        read_mmengine(run, logs)
    elif logs := basicsr_logs(path):
        read_basicsr(run, logs)
    else:
        raise MissingFileError(
            f"{path}: expected the folder of a run, with TIMESTAMP/vis_data/scalars.json "
            "(mmengine, MMagic) or train_NAME_TIMESTAMP.log (BasicSR), got neither"
        )
    run.tests = dict(_test_results(path))
    return run


def _read_log(path: Path) -> Run:
    from .basicsr_runs import is_basicsr_log, read_basicsr
    from .mmengine_runs import mmengine_log_of, read_mmengine

    run = Run(path.stem, path.parent, "")
    if is_basicsr_log(path):
        read_basicsr(run, [path])
    elif log := mmengine_log_of(path):
        read_mmengine(run, [log])
        if log.parent.name == "vis_data":  # WORK_DIR/TIMESTAMP/vis_data/scalars.json
            run.name = "/".join(log.resolve().parts[-4:-2])
    if not run.curves:
        raise FileError(
            f"{path}: expected a log of a training by mmengine or MMagic (scalars.json) or BasicSR "
            "(train_NAME_TIMESTAMP.log), got another file"
        )
    return run


def _test_results(folder: Path) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """Yield what `tools/test.py --out` wrote into the folder."""
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if is_results(content):
            yield path.stem, content


def is_results(content: object) -> bool:
    """Whether JSON is what `tools/test.py --out` writes: measures by test set."""
    return (
        isinstance(content, dict)
        and bool(content)
        and all(
            isinstance(row, dict) and row and all(_is_number(value) for value in row.values())
            for row in content.values()
        )
    )


def read_results(path: Path) -> dict[str, dict[str, float]]:
    """Read a file that `tools/test.py --out` wrote.

    Raises:
        MissingFileError: There is no such file.
        UserError: It holds something else.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: expected results of tools/test.py --out, got no such file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: expected JSON, got {error}") from None
    if not is_results(content):
        raise UserError(f"{path}: expected measures by test set, as tools/test.py --out writes")
    results: dict[str, dict[str, float]] = content
    return results


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def checkpoints(folder: Path) -> list[tuple[str, int, str]]:
    """Return name, bytes and SHA-256 of the checkpoints that a run leaves to its user.

    Those are the best ones and the last one; of the numbered ones before, none.
    """
    files = [p for p in folder.rglob("*") if p.suffix in _CHECKPOINTS and p.is_file()]
    files = [p for p in files if "training_state" not in p.parent.name]
    best = [p for p in files if p.name.startswith("best_") or "_latest" in p.name]
    numbered = [p for p in files if p not in best]
    last: dict[tuple[Path, str], Path] = {}
    for path in sorted(numbered, key=lambda p: _numbers(p.stem)):
        last[path.parent, re.sub(r"\d+", "#", path.stem)] = path
    chosen = sorted({*best, *last.values()})
    return [(p.relative_to(folder).as_posix(), p.stat().st_size, _sha256(p)) for p in chosen]


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _sha256(path: Path) -> str:
    if path.stat().st_size > _MAX_HASHED:
        return "not computed: larger than 8 GiB"
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def flatten(config: object, prefix: str = "") -> dict[str, object]:
    """Return the settings of nested mappings and lists by dotted names."""
    children: Any
    if isinstance(config, Mapping):
        children = config.items()
    elif isinstance(config, list) and any(isinstance(item, Mapping | list) for item in config):
        children = enumerate(config)
    else:
        return {prefix: config}
    if not children and prefix:
        return {prefix: config}
    found: dict[str, object] = {}
    for key, value in children:
        found |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def difference(
    base: Mapping[str, object], other: Mapping[str, object]
) -> dict[str, tuple[str | None, str | None]]:
    """Return the settings that differ, as texts; None where one side lacks a setting."""
    names = sorted({*base, *other})
    texts = {
        name: tuple(repr(side[name]) if name in side else None for side in (base, other))
        for name in names
    }
    return {name: (a, b) for name, (a, b) in texts.items() if a != b}
