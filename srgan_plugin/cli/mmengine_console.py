"""The console of a run of mmengine's: what it is, its progress, its measures and warnings."""

import contextlib
import io
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from srgan_plugin.hosts.mmengine.models.model_utils import unwrap_ddp

from .console import (
    code_version,
    device_name,
    log_to_file,
)
from .errors import hide_foreign_warnings
from .progress import Progress
from .terminal import fit_terminal, write_lines

_AVERAGED_STEPS = 100
_SECONDS_BETWEEN_LOOKS = 0.2


def quiet() -> None:
    """Show only what needs attention from now on: for the time before a run has a log file."""
    log_to_file(MMLogger.get_current_instance())
    hide_foreign_warnings()


class ConsoleRunner(Runner):
    """mmengine's runner with a console that one can read."""

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build mmengine's logger; the log goes to the file, warnings to the console as well."""
        logger = super().build_logger(*args, **kwargs)
        log_to_file(logger)
        return logger

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Register the config's hooks, and the one that writes to the console."""
        super().register_hooks(*args, **kwargs)
        if is_main_process():
            self.register_hook(ConsoleHook(), priority="VERY_LOW")

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint; what mmengine prints goes to the log, and in short to the console."""
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            checkpoint = super().load_checkpoint(filename, *args, **kwargs)
        self.logger.info(printed.getvalue())
        for line in printed.getvalue().splitlines():
            what, colon, keys = line.partition(": ")
            if colon and "state_dict" in what:
                self.logger.warning(f"{filename}: {what}: {_by_module(keys.split(', '))}")
        return checkpoint


def _by_module(keys: Sequence[str]) -> str:
    """Return the first parts of keys, with how many there are of each."""
    counts = Counter(key.strip().partition(".")[0] for key in keys)
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in counts.items())


def open_runner(cfg: Any, *, verbose: bool = False) -> Runner:
    """Build the runner of a config.

    Args:
        cfg: mmengine's config.
        verbose: Show the whole log on the console, as mmengine does.
    """
    runner = (Runner if verbose else ConsoleRunner).from_cfg(cfg)
    runner.logger.info(f"Code: {code_version()}")
    runner.logger.info(f"Device: {device_name()}")
    return runner


class ConsoleHook(Hook):
    """Show on the console what is trained or tested, the progress, and the measures."""

    chunk_safe = True  # called once for several steps it shows what it would have shown

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._measured: dict[str, str] = {}
        self._next_look = 0.0

    def before_train(self, runner: Any) -> None:
        """Describe the training, and begin its progress."""
        write_lines(describe_training(runner))
        self._progress = Progress("train", runner.max_iters, "it", initial=runner.iter)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Show the rate, the losses, and the PSNR of the last validation."""
        if self._progress is None:
            return
        if (now := time.monotonic()) > self._next_look:  # averages are not for nothing
            self._next_look = now + _SECONDS_BETWEEN_LOOKS
            self._progress.show(**self._measured, **_losses(runner))
        self._progress(runner.iter + 1, runner.max_iters)

    def after_train(self, runner: Any) -> None:
        """End the progress."""
        self._close()

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Write the measures of a validation."""
        by_set = _by_set(metrics or {})
        first: dict[str, float] = next(iter(by_set.values()), {})
        self._measured = {"PSNR": f"{first['PSNR']:.2f}"} if "PSNR" in first else {}
        text = "; ".join(f"{name} {_numbers(values)}".lstrip() for name, values in by_set.items())
        if text and self._progress is not None:
            self._progress.write(fit_terminal(f"validation at {runner.iter:,}: {text}"))

    def before_test(self, runner: Any) -> None:
        """Begin the progress of a test."""
        self._progress = Progress("test", _image_count(runner.test_loop))

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Show the progress of a test, and the image."""
        if (progress := self._progress) is not None:
            samples = outputs or ()
            progress.show(**_name(samples))
            progress.advance(len(samples) or 1)

    def after_test(self, runner: Any) -> None:
        """End the progress."""
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.close()
        self._progress = None


def describe_training(runner: Any) -> list[str]:
    """Describe what a runner is about to train, in a line for each aspect."""
    model, loader = getattr(runner.model, "module", runner.model), runner.train_dataloader
    parts = {name: getattr(model, name, None) for name in ("generator", "discriminator")}
    networks = ", ".join(
        f"{name} {type(part).__name__} ({sum(p.numel() for p in part.parameters()) / 1e6:.2f} M "
        "weights)"
        for name, part in ((name, unwrap_ddp(part)) for name, part in parts.items())
        if isinstance(part, torch.nn.Module)
    )
    start = runner.cfg.get("load_from")
    begin = f"from iteration {runner.iter:,} " if runner.iter else ""
    dataset = loader.dataset
    source = (getattr(dataset, "metainfo", None) or {}).get("source")
    return [
        f"model: {type(model).__name__}, {networks}",
        *([f"start: {start}"] if start and not runner.iter else []),
        f"data: {len(dataset):,} images{f' of {source}' if source else ''}, batches of "
        f"{loader.batch_size} ({type(dataset).__name__})",
        f"device: {device_name()}, {_precision(runner.optim_wrapper)}",
        f"{begin}to iteration {runner.max_iters:,}{_intervals(runner)}",
        f"log: {os.path.relpath(runner.logger.log_file)}",
    ]


def _intervals(runner: Any) -> str:
    interval = getattr(runner.train_loop, "val_interval", 0)
    return f", validation every {interval:,}" if runner.val_loop is not None and interval else ""


def _precision(optim_wrapper: Any) -> str:
    """Name what the networks compute in; ours holds `dtype`, mmengine's `cast_dtype` or none."""
    wrappers = getattr(optim_wrapper, "optim_wrappers", {"": optim_wrapper}).values()
    default = torch.get_autocast_dtype("cuda" if torch.cuda.is_available() else "cpu")
    dtypes = {
        str(getattr(each, "dtype", None) or getattr(each, "cast_dtype", None) or default)
        for each in wrappers
        if "Amp" in type(each).__name__
    }
    return ", ".join(dtype.removeprefix("torch.") for dtype in sorted(dtypes)) or "float32"


def _losses(runner: Any) -> dict[str, str]:
    scalars = runner.message_hub.log_scalars
    losses = {
        name.removeprefix("train/"): scalar
        for name, scalar in scalars.items()
        if name.startswith("train/loss")
    }
    if len(losses) > 1:  # their sum says nothing that they do not
        losses.pop("loss", None)
    short = {name.removeprefix("loss_") or name: value for name, value in losses.items()}
    return {name: f"{value.mean(_AVERAGED_STEPS):.3g}" for name, value in short.items()}


def _by_set(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    sets: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        dataset, _, measure = name.rpartition("/")
        sets.setdefault(dataset, {})[measure] = float(value)
    return sets


def _numbers(values: Mapping[str, float]) -> str:
    shown = {name: value for name, value in values.items() if not name.endswith("_Y")} or values
    return " ".join(
        f"{name} {value:.{2 if name == 'PSNR' else 4}f}" for name, value in shown.items()
    )


def _image_count(loop: Any) -> int | None:
    loaders = getattr(loop, "dataloaders", None) or [each for each, _ in getattr(loop, "sets", ())]
    try:
        return sum(len(loader.dataset) for loader in loaders or [loop.dataloader])
    except TypeError:  # an iterable dataset has no length
        return None


def _name(samples: Any) -> dict[str, str]:
    for sample in list(samples)[:1]:
        metainfo = getattr(sample, "metainfo", {})
        if key := metainfo.get("key") or Path(metainfo.get("gt_path", "")).stem:
            return {"image": str(key)}
    return {}
