"""Read mmengine runs, which include the runs of this package and of MMagic."""

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from srgan_plugin.errors import UserError

from .runs import Run, flatten, iteration_of_validation

_NOT_CURVES: Final = ("step", "iter", "epoch")
_TIMINGS: Final = ("time", "data_time", "waiting", "data_wait_fraction")
_WEIGHTS: Final = "weights at the start"
_ENVIRONMENT: Final = {
    "Python": r"^\s+Python: (\S+)",
    "torch": r"^\s+PyTorch: (\S+)",
    "mmengine": r"^\s+MMEngine: (\S+)",
    "GPU": r"^\s+(GPU \d[\d,]*: .+)$",
    "CUDA available": r"^\s+CUDA available: (\S+)",
    "processes": r"^\s+GPU number: (\d+)",
    "seed": r"^\s+seed: (\d+)",
    _WEIGHTS: r"Load checkpoint from (.+)$",
    "code": r"INFO - Code: (.+)$",
    "device": r"INFO - Device: (.+)$",
}
_RESUMED: Final = "INFO - resumed epoch: "
_VALIDATION_SET: Final = re.compile(r"INFO - val set (.+): (\d+) images$", re.MULTILINE)
_TIME: Final = re.compile(r"^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - ", re.MULTILINE)


def mmengine_logs(folder: Path) -> list[Path]:
    """Return the scalar log of each session, `TIMESTAMP/vis_data/scalars.json`, oldest first."""
    return sorted(folder.glob("*/vis_data/scalars.json"))


def find_mmengine_log(file: Path) -> Path | None:
    """Return the scalar log for a JSON log or for the text log `TIMESTAMP/TIMESTAMP.log`."""
    log = file if file.suffix == ".json" else file.parent / "vis_data" / "scalars.json"
    return log if log.is_file() else None


def read_mmengine(run: Run, logs: list[Path]) -> None:
    """Add the logs of all sessions to a run; a resumed session replaces repeated entries.

    Args:
        run: Run to complete.
        logs: Scalar logs of its sessions, oldest first.
    """
    run.toolbox = "mmengine"
    _read_config(run, logs)
    trained = []
    for log in logs:
        entries = list(_complete_entries(log))
        steps = [entry["step"] for entry in entries if _is_training(entry)]
        if not steps:
            continue  # a test; its results are in the file of `tools/test.py --out`
        run.drop_from(min(steps))
        for entry in _set_iterations(entries, run):
            _add_entry(run, entry)
        trained.append(log)
    inside = [log for log in trained or logs if log.parent.name == "vis_data"]
    _read_text_logs(run, [log.parents[1] for log in inside])


def _complete_entries(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a scalar log, except entries truncated when a process was killed."""
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(text)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            yield entry


def _set_iterations(entries: list[dict[str, Any]], run: Run) -> Iterator[dict[str, Any]]:
    """Yield the entries with the iteration as `step`, including entries of validations.

    With `log_metric_by_epoch=True`, the default of mmengine, the step of a validation is the epoch,
    which is always 0 in iteration-based training.
    """
    interval, last = (
        _read_positive(run, f"train_cfg.{name}") for name in ("val_interval", "max_iters")
    )
    step = 0  # iteration of the last training entry
    for entry in entries:
        if _is_training(entry):
            step = entry["step"]
        elif entry["step"] < step:
            entry["step"] = iteration_of_validation(step, interval, last) if last else step
        yield entry


def _read_positive(run: Run, name: str) -> int:
    """Return a positive integer from the config; 0 if it is missing."""
    value = run.config.get(name)
    return value if isinstance(value, int) and value > 0 else 0


def _is_training(entry: dict[str, Any]) -> bool:
    return any(name.rpartition(".")[2] == "lr" or name.startswith("loss") for name in entry)


def _add_entry(run: Run, entry: dict[str, Any]) -> None:
    training = _is_training(entry)
    skipped = _NOT_CURVES if training else (*_NOT_CURVES, *_TIMINGS)
    for name, value in entry.items():
        if name not in skipped and isinstance(value, int | float):
            run.add(name, entry["step"], float(value))
    if training:
        _add_speed(run, entry)


def _add_speed(run: Run, entry: dict[str, Any]) -> None:
    """Add iterations per second, and the percentage of time spent waiting for data."""
    seconds = entry.get("time")
    waiting = entry.get("data_wait_fraction", entry.get("waiting"))
    if seconds:
        run.add("it/s", entry["step"], 1 / seconds)
        if waiting is None and "data_time" in entry:
            waiting = entry["data_time"] / seconds
    if waiting is not None:
        run.add("waiting for data", entry["step"], 100 * float(waiting))


def _read_config(run: Run, logs: list[Path]) -> None:
    """Read the config of the last training, from the folder of its scalar log."""
    for log in reversed(logs):
        path = log.with_name("config.py")
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            config = literal_config(text, path)
            if config.get("train_cfg") or log is logs[0]:
                run.config_text, run.config = text, flatten(config)
                run.config_name = _config_name(run.folder, text)
                return


def _config_name(folder: Path, text: str) -> str:
    """Return the name of the config file in `folder` with this content, or an empty string."""
    for path in sorted(folder.glob("*.py")):
        if path.read_text(encoding="utf-8", errors="replace").strip() == text.strip():
            return path.name
    return ""


def literal_config(text: str, path: Path) -> dict[str, Any]:
    """Parse a config that mmengine wrote, without executing it.

    Args:
        text: Content of the config: assignments of literals and of `dict(…)`.
        path: File of the config, for errors.

    Returns:
        {name: value} of the assignments.

    Raises:
        UserError: The config contains other code.
    """
    try:
        tree = ast.parse(text)
        return {
            target.id: _literal(statement.value)
            for statement in tree.body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
    except (SyntaxError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: expected a config that mmengine wrote, with literals and dict() only, got "
            f"{error}"
        ) from None


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        named = {word.arg: _literal(word.value) for word in node.keywords if word.arg}
        unpacked = [_literal(word.value) for word in node.keywords if not word.arg]
        return {key: value for mapping in unpacked for key, value in mapping.items()} | named
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_literal(key): _literal(value) for key, value in pairs if key}
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_literal(item) for item in node.elts]
    return ast.literal_eval(node)


def _read_text_logs(run: Run, folders: list[Path]) -> None:
    """Add times and environment from the text logs of sessions, oldest first.

    A session that was not resumed restarted the run, so earlier sessions are ignored.
    """
    sessions: list[str] = []
    for folder in folders:
        paths = sorted(folder.glob("*.log"))
        text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in paths)
        sessions = [*sessions, text] if _RESUMED in text else [text]
    values = defaultdict[str, dict[str, None]](dict)  # {title: distinct values in order}
    for text in sessions:
        run.image_counts |= {name: int(count) for name, count in _VALIDATION_SET.findall(text)}
        for title, pattern in _ENVIRONMENT.items():
            found = re.search(pattern, text, re.MULTILINE)
            # A resumed session loads the checkpoint from which it resumes.
            if found and (title != _WEIGHTS or text is sessions[0]):
                values[title][found[1].strip()] = None
    run.info |= {title: ", then ".join(texts) for title, texts in values.items()}
    run.add_times(
        [[datetime.strptime(t, "%Y/%m/%d %H:%M:%S") for t in _TIME.findall(s)] for s in sessions]
    )
