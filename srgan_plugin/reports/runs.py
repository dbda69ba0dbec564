"""Read a training run from its folder: curves, config, environment, checkpoints, test results."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from srgan_plugin.errors import FileError, MissingFileError, UserError
from srgan_plugin.io.download import sha256

Curve = dict[int, float]  # {iteration: value}

_MAX_HASHED: Final = 2**33  # bytes of the largest checkpoint whose SHA-256 is computed
_CHECKPOINTS: Final = (".pth", ".safetensors")


@dataclass
class Run:
    """A training run of one or, if it was resumed, several sessions.

    Attributes:
        name: Name of the run; default: the name of its folder.
        folder: Folder of the run.
        toolbox: "mmengine" (runs of this package and of MMagic) or "BasicSR".
        curves: {name: logged values}; losses have the names of this package also for BasicSR.
        info: {title: text} from the log: times, versions, seed, devices.
        config: {dotted name: setting}; empty if the folder has no config.
        config_text: Content of the config file.
        config_name: File name of the config.
        tests: {file name without suffix: {test set: {metric: value}}}.
        image_counts: {validation set: number of images}, for sets whose number is in the log.
    """

    name: str
    folder: Path
    toolbox: str
    curves: dict[str, Curve] = field(default_factory=dict)
    info: dict[str, str] = field(default_factory=dict)
    config: dict[str, object] = field(default_factory=dict)
    config_text: str = ""
    config_name: str = ""
    tests: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    image_counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, step: int, value: float) -> None:
        """Add a point to a curve, or replace the point at the same iteration.

        Args:
            name: Name of the curve.
            step: Iteration.
            value: Value of the point.
        """
        self.curves.setdefault(name, {})[step] = value

    def drop_from(self, step: int) -> None:
        """Delete the points from iteration `step`, which a resumed session logs again."""
        self.curves = {
            name: {at: value for at, value in curve.items() if at < step}
            for name, curve in self.curves.items()
        }

    def add_times(self, sessions: Sequence[Sequence[datetime]]) -> None:
        """Add the times of start, last entry and resumptions, and the duration, to `info`.

        Args:
            sessions: Times of the log entries in order, per session. The duration excludes the
                time between sessions.
        """
        spans = [(times[0], times[-1]) for times in sessions if times]
        started = list(dict.fromkeys(f"{first:%Y-%m-%d %H:%M}" for first, _ in spans))
        if spans:
            seconds = sum((last - first).total_seconds() for first, last in spans)
            ends = {"started": started[0], "last entry": f"{spans[-1][1]:%Y-%m-%d %H:%M}"}
            self.info = {**ends, **self.info, "time in all": _duration(seconds)}
        if len(sessions) > 1:
            count = "once" if len(sessions) == 2 else f"{len(sessions) - 1} times"
            self.info["resumed"] = ", ".join(started[1:]) or count


def _duration(seconds: float) -> str:
    """Format a duration: "3 h 05 min", "2 min 10 s" or "10 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def read_run(path: Path) -> Run:
    """Read an mmengine (this package, MMagic) or BasicSR run.

    Args:
        path: Folder of the run, or one of its logs: mmengine's `scalars.json`, `TIMESTAMP.json` or
            `TIMESTAMP.log`, or BasicSR's `train_NAME_TIMESTAMP.log`.

    Returns:
        The run.

    Raises:
        MissingFileError: `path` does not exist, or the folder has no log.
        FileError: The file is not a training log.
    """
    from .basicsr_runs import basicsr_logs, read_basicsr
    from .mmengine_runs import mmengine_logs, read_mmengine

    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"{path}: expected the folder of a run or a log, got no such file")
    if path.is_file():
        return _read_log(path)
    run = Run(name=path.resolve().name, folder=path, toolbox="")
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
    from .mmengine_runs import find_mmengine_log, read_mmengine

    run = Run(name=path.stem, folder=path.parent, toolbox="")
    if is_basicsr_log(path):
        read_basicsr(run, [path])
    elif log := find_mmengine_log(path):
        read_mmengine(run, [log])
        if log.parent.name == "vis_data":  # WORK_DIR/TIMESTAMP/vis_data/scalars.json
            run.name = "/".join(log.resolve().parts[-4:-2])
    if not run.curves:
        raise FileError(
            f"{path}: expected a training log of mmengine or MMagic (scalars.json) or BasicSR "
            "(train_NAME_TIMESTAMP.log), got another file"
        )
    return run


def _test_results(folder: Path) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """Yield (name, content) for each file of `tools/test.py --out` in a folder."""
    for path in sorted(folder.glob("*.json")):
        try:
            yield path.stem, read_results(path)
        except (UserError, OSError):
            continue


def read_results(path: Path) -> dict[str, dict[str, float]]:
    """Read results written by `tools/test.py --out`.

    Returns:
        {test set: {metric: value}}.

    Raises:
        MissingFileError: The file does not exist.
        UserError: The file has other content.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: expected results of tools/test.py --out, got no such file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected JSON, got {error}") from None
    if not _is_results(content):
        raise UserError(
            f"{path}: expected metrics by test set, as tools/test.py --out writes them, got "
            "another JSON file"
        )
    results: dict[str, dict[str, float]] = content
    return results


def _is_results(content: object) -> bool:
    return (
        isinstance(content, dict)
        and bool(content)
        and all(
            isinstance(row, dict) and row and all(_is_number(value) for value in row.values())
            for row in content.values()
        )
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def checkpoints(folder: Path) -> list[tuple[str, int, str]]:
    """Return the best and the last checkpoints in the folder of a run.

    Returns:
        (path relative to `folder`, size in bytes, SHA-256) of each, sorted by path.
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
    return sha256(path)


def flatten(config: object, prefix: str = "") -> dict[str, object]:
    """Flatten nested mappings, and lists that contain mappings or lists, to dotted names.

    Args:
        config: Config to flatten.
        prefix: Dotted name of `config` in a larger config.

    Returns:
        {dotted name: value}.
    """
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


def differing_settings(base: Mapping[str, object], other: Mapping[str, object]) -> set[str]:
    """Return the names of the settings that differ between two configs or are in one only."""
    return {
        name
        for name in {*base, *other}
        if name not in base or name not in other or repr(base[name]) != repr(other[name])
    }
