"""Runs of BasicSR, `experiments/NAME`: its log is text, also for curves."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from .mmengine_runs import duration, times
from .runs import Run, flatten, validated_at

_STEP: Final = re.compile(
    r"\[epoch: *[\d,]+, iter: *([\d,]+), lr:\(([^)]*)\)\] "
    r"\[eta: [^\]]*time \(data\): ([\d.]+) \(([\d.]+)\)\] (.*)$"
)
_VALUE: Final = re.compile(r"(\w+): ([-+]?[\d.]+(?:e[-+]?\d+)?|[-+]?inf|nan)")
_STAMP: Final = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ ", re.MULTILINE)
_VALIDATION: Final = re.compile(r"INFO: Validation (.+)$")
_VALIDATION_SET: Final = re.compile(r"Number of val images/folders in (.+): (\d+)$", re.MULTILINE)
_MEASURE: Final = re.compile(r"^\s+# (\w+): ([\d.naif]+)(?:\s+Best: [\d.naif]+ @ (\d+) iter)?")
# BasicSR's names of losses, as this package and MMagic call them.
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
_FACTS: Final = {
    "BasicSR": r"^\s+BasicSR: (\S+)",
    "torch": r"^\s+PyTorch: (\S+)",
    "seed": r"^\s+manual_seed: (\S+)",
    "GPUs": r"^\s+num_gpu: (\S+)",
}


def basicsr_logs(folder: Path) -> list[Path]:
    """Return the logs of a run's goes in their order, `train_NAME_TIMESTAMP.log`."""
    return sorted(folder.glob("train_*.log"), key=lambda path: path.stem[-15:])


def is_basicsr_log(file: Path) -> bool:
    """Whether a file has BasicSR's lines of progress."""
    text = file.read_text(encoding="utf-8", errors="replace")
    return any(_STEP.search(line) for line in text.splitlines())


def read_basicsr(run: Run, logs: list[Path]) -> None:
    """Fill in what BasicSR logged of all goes; a resumed go replaces what it repeats."""
    run.toolbox, seconds, started = "BasicSR", 0.0, ""
    for log in logs:
        text = log.read_text(encoding="utf-8", errors="replace")
        _read_curves(run, text)
        stamps = [datetime.strptime(s, "%Y-%m-%d %H:%M:%S") for s in _STAMP.findall(text)]
        if stamps:
            seconds += (stamps[-1] - stamps[0]).total_seconds()
            started = started or f"{stamps[0]:%Y-%m-%d %H:%M}"
            run.facts["last entry"] = f"{stamps[-1]:%Y-%m-%d %H:%M}"
        run.image_counts |= {n: int(count) for n, count in _VALIDATION_SET.findall(text)}
        for title, pattern in _FACTS.items():
            if found := re.search(pattern, text, re.MULTILINE):
                run.facts[title] = found[1]
    if started:
        run.facts = {"started": started, **run.facts, "time in all": duration(seconds)}
    if len(logs) > 1:
        run.facts["resumed"] = times(len(logs) - 1)
    _read_options(run)


def _read_curves(run: Run, text: str) -> None:
    every = _option(text, "val_freq")
    step, last_iteration, dataset, first = 0, _option(text, "total_iter"), "", True
    for line in text.splitlines():
        if found := _STEP.search(line):
            step = int(found[1].replace(",", ""))
            if first:
                run.drop_from(step)
                first = False
            _add_step(run, step, found)
        elif found := _VALIDATION.search(line):
            dataset = found[1].strip()
        elif found := _MEASURE.match(line):
            at = validated_at(step, every, last_iteration)
            run.add(f"{dataset}/{found[1].upper()}", at, float(found[2]))


def _add_step(run: Run, step: int, found: re.Match[str]) -> None:
    rates = [float(rate) for rate in found[2].split(",") if rate.strip()]
    seconds, waiting = float(found[3]), float(found[4])
    for name, rate in zip(
        ("lr", *(f"lr {i}" for i in range(2, len(rates) + 1))), rates, strict=True
    ):
        run.add(name, step, rate)
    if seconds:
        run.add("it/s", step, 1 / seconds)
        run.add("waiting for data", step, 100 * min(waiting / seconds, 1))
    for name, value in _VALUE.findall(found[5]):
        run.add(LOSS_NAMES.get(name, name), step, float(value))


def _option(text: str, name: str) -> int:
    """Return a whole number of the options that the log begins with, 0 where it is not there."""
    found = re.search(rf"^\s+{name}: ([\d.e+]+)\s*$", text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def _read_options(run: Run) -> None:
    """Read the YAML file that BasicSR copies into the folder, if PyYAML is installed."""
    for path in sorted(run.folder.glob("*.yml")):
        run.config_name = path.name
        run.config_text = path.read_text(encoding="utf-8", errors="replace")
        run.config = flatten(_yaml(run.config_text))
        return


def _yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError:
        return {}
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError:
        return {}
