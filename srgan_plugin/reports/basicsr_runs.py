"""Read BasicSR runs, `experiments/NAME`, from their text logs."""

import re
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from srgan_plugin.errors import PluginWarning

from .runs import Run, flatten
from .validations import ValidationCounter

# Patterns of what BasicSR 1.4.2 logs in `train_pipeline`, `MessageLogger`, `SRModel`, `dict2str`
# and `get_env_info`.
_STEP: Final = re.compile(
    r"\[epoch: *[\d,]+, iter: *([\d,]+), lr:\(([^)]*)\)\] "
    r"\[eta: [^\]]*time \(data\): ([\d.]+) \(([\d.]+)\)\] (.*)$"
)
_VALUE: Final = re.compile(r"(\w+): ([-+]?[\d.]+(?:e[-+]?\d+)?|[-+]?inf|nan)")
_TIME: Final = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ ", re.MULTILINE)
_START: Final = re.compile(r"INFO: Start training from epoch: \d+, iter: (\d+)$", re.MULTILINE)
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
    """Add the curves of a session; they replace earlier points from its first iteration on.

    That is the iteration after the start or, if the log does not state it, of the first entry.
    """
    started = _START.search(text)
    begin = int(started[1]) + 1 if started else None
    counter = _count_validations(text)
    counter.continue_from(begin or 1)
    at, dataset, is_first = 0, "", True
    for line in text.splitlines():
        step, validation, metric = (p.search(line) for p in (_STEP, _VALIDATION, _METRIC))
        if step:
            at = int(step[1].replace(",", ""))
            counter.continue_from(at)
        elif validation:
            dataset = validation[1].strip()
            at = counter.find_iteration({dataset})
        if is_first and (step or validation):
            run.drop_from(begin or at)
            is_first = False
        if step:
            _add_step(run, at, step)
        elif metric and dataset:
            run.add(f"{dataset}/{metric[1].upper()}", at, float(metric[2]))


def _count_validations(text: str) -> ValidationCounter:
    interval = _read_option(text, "val_freq")
    return ValidationCounter([(1, interval)] if interval else [], _read_option(text, "total_iter"))


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
        run.config = flatten(_parse_yaml(run.config_text, path))


def _parse_yaml(text: str, path: Path) -> Any:
    """Parse options; without PyYAML, and with a warning if they are damaged, there are none."""
    try:
        import yaml
    except ImportError:
        return {}
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        warnings.warn(
            f"{path}: expected BasicSR's options in YAML, got {' '.join(str(error).split())}; its "
            "settings are not compared",
            PluginWarning,
            stacklevel=2,
        )
        return {}
