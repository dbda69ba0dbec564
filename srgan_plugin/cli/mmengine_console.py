"""Console of a run of mmengine: description, progress, metrics and warnings."""

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

from .config_errors import check_schedules
from .console import code_version, device_name, log_to_file
from .errors import hide_foreign_warnings
from .progress import Progress
from .terminal import fit_terminal, write_lines

_AVERAGED_STEPS = 100
_UPDATE_SECONDS = 0.2  # between two averages of the losses, which take time


def quiet() -> None:
    """Show warnings and errors only, until the run has its log file."""
    log_to_file(MMLogger.get_current_instance())
    hide_foreign_warnings()


class ConsoleRunner(Runner):
    """mmengine's runner with a short console."""

    resumes = False

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build mmengine's logger, and show only its warnings on the console."""
        logger = super().build_logger(*args, **kwargs)
        log_to_file(logger)
        return logger

    def register_hooks(self, *args: Any, **kwargs: Any) -> None:
        """Register the hooks of the config, and `ConsoleHook`."""
        super().register_hooks(*args, **kwargs)
        if is_main_process():
            self.register_hook(ConsoleHook(), priority="VERY_LOW")

    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint; log the output of mmengine, and warn of keys that do not match."""
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            checkpoint = super().load_checkpoint(filename, *args, **kwargs)
        self.logger.info(printed.getvalue())
        for line in printed.getvalue().splitlines():
            problem, colon, keys = line.partition(": ")
            if problem.startswith("missing") and self._is_start(checkpoint, keys):
                continue
            if colon and "state_dict" in problem:
                self.logger.warning(f"{filename}: {problem}: {_count_by_module(keys.split(', '))}")
        return checkpoint

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume a run, for which every network has to be in the checkpoint."""
        self.resumes = True
        super().resume(filename, *args, **kwargs)

    def _is_start(self, checkpoint: Any, missing: str) -> bool:
        """Return whether a new run starts from weights of a generator alone, as is usual."""
        state, part = checkpoint.get("state_dict", checkpoint), "discriminator."
        return (
            not self.resumes
            and not any(part in str(key) for key in state)
            and all(key.startswith((part, "step_counter")) for key in missing.strip().split(", "))
        )


def _count_by_module(keys: Sequence[str]) -> str:
    """Return the top-level modules of state-dict keys, with the number of keys of each."""
    counts = Counter(key.strip().partition(".")[0] for key in keys)
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in counts.items())


def open_runner(cfg: Any, *, verbose: bool = False) -> Runner:
    """Return the runner of a config, and log the version of the code and the device.

    Args:
        cfg: Config of mmengine.
        verbose: Show the whole log on the console, as mmengine does.

    Raises:
        UserError: A setting of a schedule has the wrong type.
    """
    check_schedules(cfg.get("param_scheduler"))
    runner = (Runner if verbose else ConsoleRunner).from_cfg(cfg)
    runner.logger.info(f"Code: {code_version()}")
    runner.logger.info(f"Device: {device_name()}")
    return runner


class ConsoleHook(Hook):
    """Show the description, the progress and the metrics of a run on the console."""

    chunk_safe = True  # one call for the several steps of a chunk of `SRTrainLoop` shows the same

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._last_metrics: dict[str, str] = {}
        self._next_update = 0.0

    def before_train(self, runner: Any) -> None:
        """Describe the training, and start its progress."""
        write_lines(describe_training(runner))
        self._progress = Progress("train", runner.max_iters, "it", initial=runner.iter)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Show the rate, the losses, and the PSNR of the last validation."""
        if self._progress is None:
            return
        if (now := time.monotonic()) > self._next_update:
            self._next_update = now + _UPDATE_SECONDS
            self._progress.show(**self._last_metrics, **_average_losses(runner))
        self._progress(runner.iter + 1, runner.max_iters)  # mmengine counts a step after its hooks

    def after_train(self, runner: Any) -> None:
        """End the progress."""
        self._close()

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Write the metrics of a validation."""
        by_set = _group_by_set(metrics or {})
        first: dict[str, float] = next(iter(by_set.values()), {})
        self._last_metrics = {"PSNR": f"{first['PSNR']:.2f}"} if "PSNR" in first else {}
        text = "; ".join(
            f"{name} {_format_metrics(values)}".lstrip() for name, values in by_set.items()
        )
        if text and self._progress is not None:
            self._progress.write(fit_terminal(f"validation at {runner.iter:,}: {text}"))

    def before_test(self, runner: Any) -> None:
        """Start the progress of a test."""
        self._progress = Progress("test", _count_images(runner.test_loop))

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Show the progress of a test, and the name of the image."""
        if (progress := self._progress) is not None:
            samples = outputs or ()
            progress.show(**_first_name(samples))
            progress.advance(len(samples) or 1)

    def after_test(self, runner: Any) -> None:
        """End the progress."""
        self._close()

    def _close(self) -> None:
        if self._progress is not None:
            self._progress.close()
        self._progress = None


def describe_training(runner: Any) -> list[str]:
    """Return a line for each aspect of a training: model, data, device, length, log."""
    model, loader = unwrap_ddp(runner.model), runner.train_dataloader
    networks = (_describe_network(model, name) for name in ("generator", "discriminator"))
    start = runner.cfg.get("load_from")
    begin = f"from iteration {runner.iter:,} " if runner.iter else ""
    dataset = loader.dataset
    source = (getattr(dataset, "metainfo", None) or {}).get("source")
    return [
        ", ".join([f"model: {type(model).__name__}", *filter(None, networks)]),
        *([f"start: {start}"] if start and not runner.iter else []),
        f"data: {len(dataset):,} images{f' of {source}' if source else ''}, batches of "
        f"{loader.batch_size} ({type(dataset).__name__})",
        f"device: {device_name()}, {_describe_precision(runner.optim_wrapper)}",
        f"{begin}to iteration {runner.max_iters:,}{_describe_interval(runner)}",
        f"log: {os.path.relpath(runner.logger.log_file)}",
    ]


def _describe_network(model: Any, name: str) -> str:
    """Return the name, class and size of a network of a model; empty if it does not exist."""
    network = unwrap_ddp(getattr(model, name, None))
    if not isinstance(network, torch.nn.Module):
        return ""
    millions = sum(weight.numel() for weight in network.parameters()) / 1e6
    return f"{name} {type(network).__name__} ({millions:.2f} M weights)"


def _describe_interval(runner: Any) -> str:
    """Return the interval of validation as text; empty if there is none."""
    interval = getattr(runner.train_loop, "val_interval", 0)
    return f", validation every {interval:,}" if runner.val_loop is not None and interval else ""


def _describe_precision(optim_wrapper: Any) -> str:
    """Return the names of the dtypes that the networks compute in.

    The attribute is `dtype` for wrappers of this package; wrappers of mmengine have `cast_dtype` or
    neither.
    """
    wrappers = getattr(optim_wrapper, "optim_wrappers", {"": optim_wrapper}).values()
    default = torch.get_autocast_dtype("cuda" if torch.cuda.is_available() else "cpu")
    dtypes = {
        str(getattr(wrapper, "dtype", None) or getattr(wrapper, "cast_dtype", None) or default)
        for wrapper in wrappers
        if "Amp" in type(wrapper).__name__
    }
    return ", ".join(dtype.removeprefix("torch.") for dtype in sorted(dtypes)) or "float32"


def _average_losses(runner: Any) -> dict[str, str]:
    """Return the averages of the last losses, by short name."""
    scalars = runner.message_hub.log_scalars
    losses = {
        name.removeprefix("train/"): scalar
        for name, scalar in scalars.items()
        if name.startswith("train/loss")
    }
    if len(losses) > 1:
        losses.pop("loss", None)  # the sum of the others
    short = {name.removeprefix("loss_") or name: value for name, value in losses.items()}
    return {name: f"{value.mean(_AVERAGED_STEPS):.3g}" for name, value in short.items()}


def _group_by_set(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Group metrics called SET/METRIC by test set."""
    sets: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        dataset, _, metric = name.rpartition("/")
        sets.setdefault(dataset, {})[metric] = float(value)
    return sets


def _format_metrics(values: Mapping[str, float]) -> str:
    """Return metrics in one line, without luma metrics if there are others."""
    shown = {name: value for name, value in values.items() if not name.endswith("_Y")} or values
    return " ".join(
        f"{name} {value:.{2 if name == 'PSNR' else 4}f}" for name, value in shown.items()
    )


def _count_images(loop: Any) -> int | None:
    """Return the number of images of a test loop; None if it is unknown."""
    loaders = getattr(loop, "dataloaders", None) or [pair[0] for pair in getattr(loop, "sets", ())]
    try:
        return sum(len(loader.dataset) for loader in loaders or [loop.dataloader])
    except TypeError:  # an iterable dataset has no length
        return None


def _first_name(samples: Any) -> dict[str, str]:
    """Return the name of the first of some samples, as a value to show."""
    for sample in list(samples)[:1]:
        metainfo = getattr(sample, "metainfo", {})
        if key := metainfo.get("key") or Path(metainfo.get("gt_path", "")).stem:
            return {"image": str(key)}
    return {}
