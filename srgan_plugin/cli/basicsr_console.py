"""Console of a run of BasicSR: description, progress, metrics and warnings."""

import logging
import os
from collections.abc import Iterator
from typing import Any

from basicsr import train
from basicsr.utils import MessageLogger

from .console import device_name, log_to_file, needs_attention
from .errors import hide_foreign_warnings
from .progress import Progress
from .terminal import write_lines

_SHOWN = ("Validation", "Resuming")  # first words of lines of BasicSR's log to show


class ConsoleLogger(MessageLogger):
    """BasicSR's logger of training, which also shows the progress on the console."""

    def __init__(self, opt: dict[str, Any], start_iter: int = 1, tb_logger: Any = None) -> None:
        super().__init__(opt, start_iter, tb_logger)
        self._progress = Progress("train", self.max_iters, "it", initial=start_iter)

    def __call__(self, log_vars: dict[str, Any]) -> None:
        """Log the values, and show the rate and the losses."""
        losses = {k: f"{v:.3g}" for k, v in log_vars.items() if k.startswith("l_")}
        done = log_vars["iter"]
        self._progress.show(**losses)
        self._progress(done, self.max_iters)
        super().__call__(log_vars)  # removes the values from `log_vars`
        if done > self.max_iters - self.interval:
            self._progress.close()


def show_console(opt: dict[str, Any], *, test: bool = False) -> None:
    """Describe a run on the console, and write BasicSR's own log to its file only.

    Args:
        opt: Options of BasicSR, as in the YAML file.
        test: Whether the run is a test, which also reads the options of a training.
    """
    hide_foreign_warnings()
    logger = logging.getLogger("basicsr")

    def first_record(record: logging.LogRecord) -> bool:  # the handlers exist by now
        logger.removeFilter(first_record)
        log_to_file(logger, _is_shown)
        return True

    logger.addFilter(first_record)
    if int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0:
        train.MessageLogger = ConsoleLogger
        write_lines(_describe(opt, test=test))


def _is_shown(record: logging.LogRecord) -> bool:
    """Return whether a record is shown on the console."""
    return needs_attention(record) or record.getMessage().startswith(_SHOWN)


def _describe(opt: dict[str, Any], *, test: bool) -> Iterator[str]:
    """Yield a line for each aspect of a run: model, data, device, length, log."""
    names = [opt[part]["type"] for part in ("network_g", "network_d") if part in opt]
    yield f"model: {opt.get('model_type')}, {', '.join(names)}"
    if start := (opt.get("path") or {}).get("pretrain_network_g"):
        yield f"start: {start}"
    for name, dataset in opt["datasets"].items():
        batch = dataset.get("batch_size_per_gpu")
        batches = f", batches of {batch} for each GPU" if batch and not test else ""
        folder = dataset.get("dataroot_gt") or dataset.get("dataroot_lq")
        yield f"{name}: {dataset.get('name', name)}, {folder}{batches}"
    yield f"device: {device_name()}, float32"
    if not test:
        yield f"to iteration {int(opt['train']['total_iter']):,}"
    yield f"log: {'results' if test else 'experiments'}/{opt['name']}"
