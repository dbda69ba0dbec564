"""Read a training run from its folder: curves, config, environment, checkpoints, test results."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from srgan_plugin.errors import FileError, MissingFileError, UserError
from srgan_plugin.io.download import sha256
from srgan_plugin.io.text_files import read_json

Curve = dict[int, float]  # {iteration: value}

_MAX_HASHED: Final = 2**33  # bytes of the largest checkpoint whose SHA-256 is computed
_CHECKPOINTS: Final = (".pth", ".safetensors")
# `iter_5000`, `net_g_5000`, but not `msrresnet_x4`.
_ITERATION: Final = re.compile(r"(.*_)(\d+)")


@dataclass
class Run:
    """A training run of one or, if it was resumed, several sessions.

    Attributes:
        name: Name of the run; default: the name of its folder.
        folder: Folder of the run; of a single log, the folder with the log.
        toolbox: "mmengine" (runs of this package and of MMagic) or "BasicSR".
        curves: {name: logged values}; losses have the names of this package also for BasicSR.
        info: {title: text} from the log: times, versions, seed, devices.
        config: {dotted name: setting}; empty if the folder has no config.
        config_text: Content of the config file; empty if there is none.
        config_name: File name of the config; empty if it is unknown.
        tests: {file name without suffix: results}, see `read_results`; empty for a single log.
        image_counts: {validation set: number of images}, for sets whose number was logged.
        is_single_log: Whether a log was read outside of the folder of a run, so that other files
            beside it are not of this run.
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
    is_single_log: bool = False

    def add(self, name: str, step: int, value: float) -> None:
        """Add a point to a curve, or replace the point at the same iteration.

        Args:
            name: Name of the curve.
            step: Iteration.
            value: Value of the point.
        """
        self.curves.setdefault(name, {})[step] = value

    def drop_from(self, step: int) -> None:
        """Delete the points at and after iteration `step`; a resumed session logs these again."""
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
        started = [f"{first:%Y-%m-%d %H:%M}" for first, _ in spans]
        if spans:
            seconds = sum((last - first).total_seconds() for first, last in spans)
            ends = {"started": started[0], "last entry": f"{spans[-1][1]:%Y-%m-%d %H:%M}"}
            self.info = {**ends, **self.info, "total time": _duration(seconds)}
        if len(sessions) > 1:
            count = "once" if len(sessions) == 2 else f"{len(sessions) - 1} times"
            is_known = len(started) == len(sessions)
            self.info["resumed"] = ", ".join(started[1:]) if is_known else count


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
        OSError: A log cannot be read.

    Warns:
        PluginWarning: The config of the run cannot be read.
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

    run = Run(name=path.stem, folder=path.parent, toolbox="", is_single_log=True)
    if is_basicsr_log(path):
        read_basicsr(run, [path])
        run.is_single_log = not (path.parent / "models").is_dir()
    elif log := find_mmengine_log(path):
        read_mmengine(run, [log])
        if log.parent.name == "vis_data":  # WORK_DIR/TIMESTAMP/vis_data/scalars.json
            run.name = "/".join(log.resolve().parts[-4:-2])
            run.folder, run.is_single_log = log.parents[2], False
    if not run.curves:
        raise FileError(
            f"{path}: expected a training log of mmengine or MMagic (scalars.json) or BasicSR "
            "(train_NAME_TIMESTAMP.log), got one without entries of a training, or another file"
        )
    if not run.is_single_log:
        run.tests = dict(_test_results(run.folder))
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
        {test set: {metric: value}}; a row may also have `images`, the number of images.

    Raises:
        MissingFileError: The file does not exist.
        OSError: The file cannot be read.
        UserError: The file has other content.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: expected results of tools/test.py --out, got no such file")
    content = read_json(path, "results of tools/test.py --out")
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
        (path relative to `folder`, size in bytes, SHA-256 or why it was not computed) of each,
        sorted by path.
    """
    files = [p for p in folder.rglob("*") if p.suffix in _CHECKPOINTS and p.is_file()]
    # BasicSR's states of optimisers.
    files = [p for p in files if "training_states" not in p.relative_to(folder).parts[:-1]]
    last: dict[tuple[Path, str], Path] = {}
    others = []  # best_*: mmengine; *_latest: BasicSR; names without an iteration
    for path in files:
        found = _ITERATION.fullmatch(path.stem)
        if found is None or path.name.startswith("best_"):
            others.append(path)
            continue
        series = path.parent, found[1]
        if series not in last or int(found[2]) > _iteration(last[series]):
            last[series] = path
    chosen = sorted({*others, *last.values()})
    return [(p.relative_to(folder).as_posix(), p.stat().st_size, _sha256(p)) for p in chosen]


def _iteration(path: Path) -> int:
    found = _ITERATION.fullmatch(path.stem)
    return int(found[2]) if found else -1


def _sha256(path: Path) -> str:
    if path.stat().st_size > _MAX_HASHED:
        return "not computed: larger than 8 GiB"
    return sha256(path)


def flatten(config: object, prefix: str = "") -> dict[str, object]:
    """Flatten nested mappings, and lists that contain mappings or lists, to dotted names.

    Args:
        config: Config to flatten; another value has the name `prefix`.
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
        # By text as well, in which NaN equals itself; 1 and 1.0 are equal, 1 and True are not.
        if name not in base
        or name not in other
        or (repr(base[name]) != repr(other[name]) and not _is_same_number(base[name], other[name]))
    }


def _is_same_number(one: object, other: object) -> bool:
    return _is_number(one) and _is_number(other) and one == other
