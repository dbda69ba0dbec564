"""Read BasicSR runs, `experiments/NAME`, from their text logs."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from .runs import Run, flatten, iteration_of_validation

_STEP: Final = re.compile(
    r"\[epoch: *[\d,]+, iter: *([\d,]+), lr:\(([^)]*)\)\] "
    r"\[eta: [^\]]*time \(data\): ([\d.]+) \(([\d.]+)\)\] (.*)$"
)
_VALUE: Final = re.compile(r"(\w+): ([-+]?[\d.]+(?:e[-+]?\d+)?|[-+]?inf|nan)")
_TIME: Final = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ ", re.MULTILINE)
_VALIDATION: Final = re.compile(r"INFO: Validation (.+)$")
_VALIDATION_SET: Final = re.compile(r"Number of val images/folders in (.+): (\d+)$", re.MULTILINE)
_METRIC: Final = re.compile(r"^\s+# (\w+): ([\d.naif]+)")
#: {loss in BasicSR: loss in this package and MMagic}
LOSS_NAMES: Final = {
    "l_g_pix": "loss_pix",
    "l_pix": "loss_pix",
    "l_g_percep": "loss_perceptual",
    "l_percep": "loss_perceptual",
    "l_g_style": "loss_style",
    "l_g_gan": "loss_gan",
    "l_d_real": "loss_d_real",
    "l_d_fake": "loss_d_fake",
}
_INFO: Final = {
    "BasicSR": r"^\s+BasicSR: (\S+)",
    "torch": r"^\s+PyTorch: (\S+)",
    "seed": r"^\s+manual_seed: (\S+)",
    "GPUs": r"^\s+num_gpu: (\S+)",
}


def basicsr_logs(folder: Path) -> list[Path]:
    """Return the log of each session, `train_NAME_TIMESTAMP.log`, oldest first."""
    return sorted(folder.glob("train_*.log"), key=lambda path: path.stem[-15:])


def is_basicsr_log(file: Path) -> bool:
    """Return whether a file has BasicSR progress lines."""
    text = file.read_text(encoding="utf-8", errors="replace")
    return any(_STEP.search(line) for line in text.splitlines())


def read_basicsr(run: Run, logs: list[Path]) -> None:
    """Add the logs of all sessions to a run; a resumed session replaces repeated entries.

    Args:
        run: Run to complete.
        logs: Logs of its sessions, oldest first.
    """
    run.toolbox = "BasicSR"
    sessions = [log.read_text(encoding="utf-8", errors="replace") for log in logs]
    for text in sessions:
        _read_curves(run, text)
        run.image_counts |= {name: int(count) for name, count in _VALIDATION_SET.findall(text)}
        for title, pattern in _INFO.items():
            if found := re.search(pattern, text, re.MULTILINE):
                run.info[title] = found[1]
    run.add_times(
        [[datetime.strptime(t, "%Y-%m-%d %H:%M:%S") for t in _TIME.findall(s)] for s in sessions]
    )
    _read_options(run)


def _read_curves(run: Run, text: str) -> None:
    interval, last = _read_option(text, "val_freq"), _read_option(text, "total_iter")
    step, dataset, first = 0, "", True
    for line in text.splitlines():
        if found := _STEP.search(line):
            step = int(found[1].replace(",", ""))
            if first:
                run.drop_from(step)
                first = False
            _add_step(run, step, found)
        elif found := _VALIDATION.search(line):
            dataset = found[1].strip()
        elif found := _METRIC.match(line):
            at = iteration_of_validation(step, interval, last)
            run.add(f"{dataset}/{found[1].upper()}", at, float(found[2]))


def _add_step(run: Run, step: int, found: re.Match[str]) -> None:
    rates = [rate for rate in found[2].split(",") if rate.strip()]
    for number, rate in enumerate(rates, 1):
        run.add("lr" if number == 1 else f"lr {number}", step, float(rate))
    seconds, waiting = float(found[3]), float(found[4])
    if seconds:
        run.add("it/s", step, 1 / seconds)
        run.add("waiting for data", step, 100 * min(waiting / seconds, 1))
    for name, value in _VALUE.findall(found[5]):
        run.add(LOSS_NAMES.get(name, name), step, float(value))


def _read_option(text: str, name: str) -> int:
    """Return an integer from the options at the start of a log; 0 if it is missing."""
    found = re.search(rf"^\s+{name}: ([\d.e+]+)\s*$", text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def _read_options(run: Run) -> None:
    """Read the YAML file that BasicSR copies into the folder; requires PyYAML."""
    path = min(run.folder.glob("*.yml"), default=None)
    if path:
        run.config_name = path.name
        run.config_text = path.read_text(encoding="utf-8", errors="replace")
        run.config = flatten(_parse_yaml(run.config_text))


def _parse_yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        return {}
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError:
        return {}
