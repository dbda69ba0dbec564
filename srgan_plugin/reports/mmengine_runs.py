"""Read mmengine runs, which include the runs of this package and of MMagic."""

import json
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from srgan_plugin.errors import PluginWarning, UserError

from .mmengine_configs import literal_config
from .runs import Run, flatten
from .validations import ValidationCounter

_NOT_CURVES: Final = ("step", "iter", "epoch")
# `waiting` is the former name of `data_wait_fraction` in logs of this package.
_TIMINGS: Final = ("time", "data_time", "waiting", "data_wait_fraction")
_WEIGHTS: Final = "weights at the start"
# Patterns of what mmengine 0.10 logs: `Runner._log_env`, `Runner.load_checkpoint`; only trainings
# of this package have the last two lines, of `cli/mmengine_console.py`.
_ENVIRONMENT: Final = {
    "Python": r"^\s+Python: (\S+)",
    "torch": r"^\s+PyTorch: (\S+)",
    "mmengine": r"^\s+MMEngine: (\S+)",
    "GPU": r"^\s+(GPU \d[\d,]*: .+(?:\n\s+GPU \d[\d,]*: .+)*)$",  # a line for each model of GPU
    "CUDA available": r"^\s+CUDA available: (\S+)",
    "processes": r"^\s+GPU number: (\d+)",
    "seed": r"^\s+seed: (\d+)",
    _WEIGHTS: r"Load checkpoint from (.+)$",
    "code": r"INFO - Code: (.+)$",
    "device": r"INFO - Device: (.+)$",
}
_RESUMED: Final = re.compile(r" - INFO - resumed epoch: \d+, iter: (\d+)$", re.MULTILINE)
# Of this package's `MultiValLoop`; MMagic logs no number of images.
_VALIDATION_SET: Final = re.compile(r"INFO - val set (.+): (\d+) images$", re.MULTILINE)
_TIME: Final = re.compile(r"^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - ", re.MULTILINE)
# With `log_with_hierarchy=True`, mmengine's `LogProcessor` keeps the prefix of the mode.
_HIERARCHICAL: Final = re.compile(r"train/(?:(?:.+\.)?lr|loss.*)")
_MODE: Final = re.compile(r"^(?:train|val)/")


class _Entry(NamedTuple):
    """Entry of a scalar log: of a validation unless `is_training`."""

    step: int
    values: dict[str, float]
    is_training: bool


@dataclass(frozen=True)
class _Session:
    """What one process wrote: a training, or a validation or test alone.

    Attributes:
        folder: `WORK_DIR/TIMESTAMP`; None for a scalar log that was copied from there.
        entries: Complete entries of the scalar log.
        config_text: Content of the config; empty if it is missing.
        config: Settings; empty if the config is missing or cannot be read.
        text: Text logs; empty if they are missing.
    """

    folder: Path | None
    entries: Sequence[_Entry]
    config_text: str
    config: dict[str, Any]
    text: str

    @property
    def start(self) -> int | None:
        """Return the iteration from which the session was resumed.

        Returns:
            0 for a session that was not resumed; None if no text log with infos says so.
        """
        if found := _RESUMED.search(self.text):
            return int(found[1])
        return 0 if " - INFO - " in self.text else None

    @property
    def has_trained(self) -> bool:
        """Return whether curves begin or continue in the session.

        Otherwise it is a validation or test alone, or ended before its first entry. A training
        that was resumed at its end has only the entry of the last validation.
        """
        return any(e.is_training for e in self.entries) or bool(self.start and self.entries)


def mmengine_logs(folder: Path) -> list[Path]:
    """Return the scalar log of each session, `TIMESTAMP/vis_data/scalars.json`, oldest first."""
    return sorted(folder.glob("*/vis_data/scalars.json"))


def find_mmengine_log(file: Path) -> Path | None:
    """Return the scalar log for a JSON log or for the text log `TIMESTAMP/TIMESTAMP.log`.

    Returns:
        Its absolute path, because the folders above it name the session and the run.
    """
    log = file if file.suffix == ".json" else file.parent / "vis_data" / "scalars.json"
    return log.absolute() if log.is_file() else None


def read_mmengine(run: Run, logs: list[Path]) -> None:
    """Add the logs of all sessions to a run.

    A session that was resumed replaces what was logged after the iteration from which it was
    resumed. A training that was not resumed restarted the run: earlier sessions are ignored.

    Args:
        run: Run to complete.
        logs: Scalar logs of its sessions, oldest first.
    """
    run.toolbox = "mmengine"
    sessions = [_read_session(log) for log in logs]
    trained: list[_Session] = []
    for session in sessions:
        if session.has_trained:
            trained = [session] if session.start == 0 else [*trained, session]
    for session in trained:
        _add_curves(run, session)
    _add_config(run, trained or sessions)
    _add_info(run, trained or sessions[-1:])


def _read_session(log: Path) -> _Session:
    """Read a scalar log and, where mmengine wrote them, the config beside it and the text log."""
    folder = log.parents[1] if log.parent.name == "vis_data" else None
    config = log.with_name("config.py")
    texts = sorted(folder.glob("*.log")) if folder else []
    config_text = _read_text(config) if config.is_file() else ""
    return _Session(
        folder=folder,
        entries=_read_entries(_read_text(log)),
        config_text=config_text,
        config=_parse_config(config_text, config),
        text="".join(map(_read_text, texts)),
    )


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _read_entries(text: str) -> list[_Entry]:
    """Return the entries of a scalar log, except entries truncated when a process was killed.

    Entries of trainings are those with a learning rate, which mmengine's `RuntimeInfoHook` logs, or
    if no entry has one, those with a loss. Validations can have losses, too (mmengine 0.10.5).
    """
    found = []
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            found.append(entry)
    if any(_HIERARCHICAL.fullmatch(name) for entry in found for name in entry):
        found = [{_MODE.sub("", name): v for name, v in entry.items()} for entry in found]
    have_rate = [any(name.rpartition(".")[2] == "lr" for name in entry) for entry in found]
    have_loss = [
        entry["step"] > 0 and any(name.startswith("loss") for name in entry) for entry in found
    ]
    trainings = have_rate if any(have_rate) else have_loss
    return [_entry(entry, training) for entry, training in zip(found, trainings, strict=True)]


def _entry(entry: dict[str, Any], is_training: bool) -> _Entry:
    # The seconds of a validation are no curve; `analyze_logs.py` reads those of a training.
    skipped = _NOT_CURVES if is_training else (*_NOT_CURVES, *_TIMINGS)
    values = {
        name: float(value)
        for name, value in entry.items()
        if name not in skipped and isinstance(value, int | float)
    }
    return _Entry(entry["step"], values, is_training)


def _add_curves(run: Run, session: _Session) -> None:
    """Add the entries of a session at their iterations.

    With `log_metric_by_epoch=True`, the default of mmengine, the step of a validation is the epoch,
    which is always 0 in iteration-based training. Then the iteration is found from the schedule or,
    if that is unknown or by epochs, is that of the training entry before.
    """
    steps = [entry.step for entry in session.entries if entry.is_training]
    if session.start is None:
        run.drop_from(min(steps))
        last = max((at for curve in run.curves.values() for at in curve), default=0)
    else:
        last = session.start
        run.drop_from(last + 1)
    counter = _count_validations(session.config)
    counter.continue_from(last + 1)
    for entry in session.entries:
        at = entry.step
        if entry.is_training:
            last = at
            counter.continue_from(at)
        elif at < max(last, 1):
            at = counter.find_iteration(set(entry.values))
        for name, value in entry.values.items():
            run.add(name, at, value)
        if entry.is_training:
            _add_speed(run, entry)


def _count_validations(config: dict[str, Any]) -> ValidationCounter:
    """Return a counter for the schedule in `train_cfg` of an `IterBasedTrainLoop`."""
    loop = config.get("train_cfg")
    loop = loop if isinstance(loop, dict) else {}
    last, interval = _positive(loop.get("max_iters")), _positive(loop.get("val_interval", 1000))
    if not last or not interval:  # by epochs, or no config
        return ValidationCounter([], 0)
    begin = max(_positive(loop.get("val_begin")), 1)
    # From one iteration before its milestone, as `IterBasedTrainLoop._decide_current_val_interval`.
    later = [
        (max(_positive(at) - 1, begin), _positive(n))
        for at, n in loop.get("dynamic_intervals") or ()
    ]
    return ValidationCounter([(begin, interval), *((at, n) for at, n in later if n)], last)


def _positive(value: object) -> int:
    """Return a positive number from a config, such as 3e5, as an integer; 0 for other values."""
    return int(value) if isinstance(value, int | float) and 0 < value < math.inf else 0


def _add_speed(run: Run, entry: _Entry) -> None:
    """Add iterations per second, and the percentage of time spent waiting for data."""
    seconds = entry.values.get("time")
    fraction = entry.values.get("data_wait_fraction", entry.values.get("waiting"))
    if seconds:
        run.add("it/s", entry.step, 1 / seconds)
        if fraction is None and "data_time" in entry.values:
            fraction = entry.values["data_time"] / seconds
    if fraction is not None:
        run.add("waiting for data", entry.step, 100 * fraction)


def _parse_config(text: str, path: Path) -> dict[str, Any]:
    """Return the settings of a config; warn and return none if they cannot be read."""
    try:
        return literal_config(text, path)
    except UserError as error:
        warnings.warn(f"{error}; its settings are not compared", PluginWarning, stacklevel=2)
        return {}


def _add_config(run: Run, sessions: Sequence[_Session]) -> None:
    """Add the config of the last session that has one."""
    session = next((s for s in reversed(sessions) if s.config_text), None)
    if session:
        run.config_text, run.config = session.config_text, flatten(session.config)
        run.config_name = _config_name(session)


def _config_name(session: _Session) -> str:
    """Return the name of the session's config in the work directory; empty if it is not there."""
    for path in sorted(session.folder.parent.glob("*.py")) if session.folder else ():
        if _read_text(path).strip() == session.config_text.strip():
            return path.name
    return ""


def _add_info(run: Run, sessions: Sequence[_Session]) -> None:
    """Add times, environment and sizes of validation sets from text logs."""
    values = defaultdict[str, dict[str, None]](dict)  # {title: distinct texts in order}
    for session in sessions:
        counts = _VALIDATION_SET.findall(session.text)
        run.image_counts |= {name: int(count) for name, count in counts}
        for title, pattern in _ENVIRONMENT.items():
            found = re.search(pattern, session.text, re.MULTILINE)
            # A resumed session loads the checkpoint from which it resumes.
            if found and not (title == _WEIGHTS and session.start):
                values[title][", ".join(map(str.strip, found[1].splitlines()))] = None
    run.info |= {title: ", then ".join(texts) for title, texts in values.items()}
    times = [_TIME.findall(session.text) for session in sessions]
    run.add_times([[datetime.strptime(t, "%Y/%m/%d %H:%M:%S") for t in found] for found in times])
