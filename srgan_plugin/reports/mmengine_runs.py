"""Runs of mmengine: this package's and MMagic's."""

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from srgan_plugin.errors import UserError

from .runs import Run, flatten, validated_at

_NOT_CURVES: Final = ("step", "iter", "epoch")
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
_STAMP: Final = re.compile(r"^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - ", re.MULTILINE)


def mmengine_logs(folder: Path) -> list[Path]:
    """Return the logs of a run's goes in their order, `TIMESTAMP/vis_data/scalars.json`."""
    return sorted(folder.glob("*/vis_data/scalars.json"))


def mmengine_log_of(file: Path) -> Path | None:
    """Return the log with numbers that a file is or, for `TIMESTAMP/TIMESTAMP.log`, lies beside."""
    log = file if file.suffix == ".json" else file.parent / "vis_data" / "scalars.json"
    return log if log.is_file() else None


def read_mmengine(run: Run, logs: list[Path]) -> None:
    """Fill in what mmengine logged of all goes of a run; a resumed go replaces what it repeats."""
    run.toolbox = "mmengine"
    _read_config(run, logs)
    trained = []
    for log in logs:
        lines = list(_complete_lines(log))
        steps = [line["step"] for line in lines if _is_training(line)]
        if not steps:
            continue  # it only tested: the measures are in the file that `--out` named
        run.drop_from(min(steps))
        for line in _placed(lines, run):
            _add_line(run, line)
        trained.append(log)
    inside = [log for log in trained or logs if log.parent.name == "vis_data"]
    _read_text_logs(run, [log.parents[1] for log in inside])


def _complete_lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield what mmengine appended; a line that a kill cut short is skipped."""
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            yield line


def _placed(lines: list[dict[str, Any]], run: Run) -> Iterator[dict[str, Any]]:
    """Yield lines with validations at their iterations.

    With `log_metric_by_epoch`, the default of mmengine and so MMagic's, the step of a validation is
    the epoch: 0 throughout a training by iterations.
    """
    every, last = (_count(run, f"train_cfg.{name}") for name in ("val_interval", "max_iters"))
    step = 0  # of the training
    for line in lines:
        if _is_training(line):
            step = line["step"]
        elif line["step"] < step:
            line["step"] = validated_at(step, every, last) if last else step
        yield line


def _count(run: Run, name: str) -> int:
    value = run.config.get(name)
    return value if isinstance(value, int) and value > 0 else 0


def _is_training(line: dict[str, Any]) -> bool:
    return any(name.rpartition(".")[2] == "lr" or name.startswith("loss") for name in line)


def _add_line(run: Run, line: dict[str, Any]) -> None:
    training = _is_training(line)
    for name, value in line.items():
        timing = name in ("time", "data_time", "waiting", "data_wait_fraction")
        if name in _NOT_CURVES or not isinstance(value, int | float) or (timing and not training):
            continue
        run.add(name, line["step"], float(value))
    if training:
        _add_speed(run, line)


def _add_speed(run: Run, line: dict[str, Any]) -> None:
    """Turn seconds for an iteration into iterations per second, and waiting into percent."""
    seconds = line.get("time")
    waiting = line.get("data_wait_fraction", line.get("waiting"))
    if seconds:
        run.add("it/s", line["step"], 1 / seconds)
        if waiting is None and "data_time" in line:
            waiting = line["data_time"] / seconds
    if waiting is not None:
        run.add("waiting for data", line["step"], 100 * float(waiting))


def _read_config(run: Run, logs: list[Path]) -> None:
    """Read the config of the last training, which mmengine dumps beside each log."""
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
    """Return the name of the file in the folder that holds the same config, or nothing."""
    for path in sorted(folder.glob("*.py")):
        if path.read_text(encoding="utf-8", errors="replace").strip() == text.strip():
            return path.name
    return ""


def literal_config(text: str, path: Path) -> dict[str, Any]:
    """Read a config as mmengine dumps it: assignments of literals and `dict(…)`. Nothing is run.

    Raises:
        UserError: It holds anything else.
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
        raise UserError(f"{path}: expected a config as mmengine dumps it, got {error}") from None


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
    """Find when and where it ran in the log files for people."""
    goes: list[str] = []
    for folder in folders:
        paths = sorted(folder.glob("*.log"))
        text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in paths)
        goes = [*goes, text] if _RESUMED in text else [text]
    facts, seconds = defaultdict[str, dict[str, None]](dict), 0.0
    for text in goes:
        stamps = [datetime.strptime(s, "%Y/%m/%d %H:%M:%S") for s in _STAMP.findall(text)]
        if stamps:
            seconds += (stamps[-1] - stamps[0]).total_seconds()
            facts["started"][f"{stamps[0]:%Y-%m-%d %H:%M}"] = None
            run.facts["last entry"] = f"{stamps[-1]:%Y-%m-%d %H:%M}"
        run.image_counts |= {name: int(count) for name, count in _VALIDATION_SET.findall(text)}
        for title, pattern in _ENVIRONMENT.items():
            found = re.search(pattern, text, re.MULTILINE)
            if found and (title != _WEIGHTS or text is goes[0]):  # later: what it resumed from
                facts[title][found[1].strip()] = None
    started = list(facts.pop("started", ()))
    run.facts |= {title: ", then ".join(values) for title, values in facts.items()}
    if started:
        run.facts = {"started": started[0], **run.facts, "time in all": duration(seconds)}
    if len(goes) > 1:
        run.facts["resumed"] = ", ".join(started[1:]) or times(len(goes) - 1)


def duration(seconds: float) -> str:
    """Return seconds in words: "3 h 05 min", "2 min 10 s", "10 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def times(count: int) -> str:
    """Return how often in words."""
    return "once" if count == 1 else f"{count} times"
