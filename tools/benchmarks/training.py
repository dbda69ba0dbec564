"""Time training runs of this package and of MMagic, by the runner and config of each."""

import itertools
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torchvision.models import vgg

from srgan_plugin.hosts.mmengine.engine.train_loop import SRTrainLoop
from srgan_plugin.io.atomic import atomic_path
from srgan_plugin.networks.vgg import random_vgg19_state_dict
from srgan_plugin.registry import LOOPS

from .files import BenchmarkFiles
from .loaders import BATCH, mmagic_config, mmagic_loader_config, plugin_config, plugin_loader_config
from .timing import Measurement, run_in_subprocess, wait

Model = Literal["msrresnet", "srgan"]
Config = Any

# Operations of a step with a batch of 16 and GT 128, as counted by torch: convolutions and matrix
# products, forward and backward. With shared logits the discriminator runs once less.
FLOPS = {"msrresnet": 249_254_903_808, "srgan": 1_429_070_701_568}
SHARED_FLOPS = {**FLOPS, "srgan": 1_357_808_424_832}
# Options for speed of the published configs, which `baseline` does not set. On a GPU also bfloat16
# and a captured step.
FAST_OVERRIDES: dict[str, dict[str, Any]] = {
    "msrresnet": {"model.channels_last": "auto"},
    "srgan": {"model.channels_last": "auto", "model.train_cfg.share_fake_logits": True},
}
#: The other side of `train`: MMagic, this package without options for speed, or the same step in a
#: loop without hooks, logs and schedulers.
Other = Literal["mmagic", "baseline", "no-hooks"]

_numbers = itertools.count()


@HOOKS.register_module(name="benchmarks.Stopwatch")
class Stopwatch(Hook):
    """Time the iterations from `start` to `stop`, with everything that happens in them.

    Args:
        start: Iteration after which the time starts; `stop - start` is a multiple of it.
        stop: Iteration after which the time ends.
    """

    priority = "LOWEST"

    def __init__(self, start: int, stop: int) -> None:
        # SRTrainLoop calls the hooks at the intervals of all of them.
        self.interval = start
        self.start, self.stop = start, stop
        self.seconds = 0.0
        self.peak_bytes: int | None = None

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Take the time after synchronising with the device."""
        done = runner.iter + 1
        if done not in (self.start, self.stop):
            return
        device = next(runner.model.parameters()).device
        wait(device)
        if done == self.start:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            self.seconds = -time.perf_counter()
        else:
            self.seconds += time.perf_counter()
            if device.type == "cuda":  # reserved: a captured step does not allocate
                self.peak_bytes = torch.cuda.max_memory_reserved(device)


@LOOPS.register_module()
class NoHooksLoop(SRTrainLoop):
    """The same step of the same batches, without hooks, logs and schedulers."""

    def run(self) -> Any:
        """Train with the stopwatch as the only hook."""
        self._begin()
        self.runner.model.train()
        watch = next(hook for hook in self.runner.hooks if isinstance(hook, Stopwatch))
        for number in range(self._max_iters):
            self._iter = number  # read by `runner.iter`
            self._step(next(self.dataloader_iterator))
            watch.after_train_iter(self.runner, number)


def train_sides(
    files: BenchmarkFiles,
    model: Model,
    *,
    other: Other,
    workers: int,
    warm_up: int,
    steps: int,
    changes: Config | None = None,
) -> dict[str, Callable[[], Measurement]]:
    """Return the sides for `interleave`: each trains `warm_up` steps, then `steps` timed ones.

    Each round has a process of its own.

    Args:
        files: Training images in the layout of each side.
        model: Name of the published config.
        other: The other side.
        workers: Reading processes of each side.
        warm_up: Steps before the time starts.
        steps: Timed steps, a multiple of `warm_up`.
        changes: Settings of both configs to change, such as a smaller network.
    """
    assert steps % warm_up == 0, (steps, warm_up)
    if model == "srgan":
        vgg_file(files)
    names: tuple[Other | Literal["srgan_plugin"], ...] = ("srgan_plugin", other)
    return {
        name: partial(
            run_in_subprocess, _train, name, files, model, workers, warm_up, steps, changes or {}
        )
        for name in names
    }


def _plugin_training(name: str, files: BenchmarkFiles, model: Model, workers: int) -> Config:
    cfg = plugin_config(model)
    cfg.merge_from_dict(
        {"train_cfg.max_steps_per_hook_call": 1} if name == "baseline" else FAST_OVERRIDES[model]
    )
    if model == "srgan":
        cfg.model.perceptual_loss.pretrained = str(vgg_file(files))
        cfg.custom_hooks = []  # a hook would warn of random weights
    if name != "baseline" and torch.cuda.is_available():
        cfg.train_cfg.cuda_graph = True
        wrappers = cfg.optim_wrapper
        for wrapper in [wrappers] if "optimizer" in wrappers else wrappers.values():
            if isinstance(wrapper, dict):
                wrapper["type"] = "AmpOptimWrapper"
    if name == "no-hooks":
        cfg.train_cfg.type = "NoHooksLoop"
    cfg.train_dataloader = plugin_loader_config(files, workers)
    return cfg


def _mmagic_training(files: BenchmarkFiles, model: Model, workers: int) -> Config:
    cfg = mmagic_config(model)
    if model == "srgan":
        _patch_torchvision_vgg(vgg_file(files))
    cfg.train_dataloader = mmagic_loader_config(files, workers)
    return cfg


def _train(
    name: str,
    files: BenchmarkFiles,
    model: Model,
    workers: int,
    warm_up: int,
    steps: int,
    changes: Config,
) -> Measurement:
    if name == "mmagic":
        cfg = _mmagic_training(files, model, workers)
    else:
        cfg = _plugin_training(name, files, model, workers)
    cfg.merge_from_dict(changes)
    for part in ("val", "test"):
        for what in ("dataloader", "cfg", "evaluator"):
            cfg[f"{part}_{what}"] = None
    cfg.train_cfg.max_iters = warm_up + steps
    # Only steps are timed, so no checkpoint is saved in the last one.
    cfg.default_hooks.checkpoint.update(save_last=False, save_best=None)
    watch = Stopwatch(warm_up, warm_up + steps)
    with tempfile.TemporaryDirectory() as folder:
        runner = build_runner(cfg, folder)
        runner.register_hook(watch)
        runner.train()
    return Measurement(
        seconds=watch.seconds,
        images=steps * BATCH,
        steps=steps,
        waited=_data_wait_fraction(runner, steps),
        peak_bytes=watch.peak_bytes,
        flops=(FLOPS if name in ("mmagic", "baseline") else SHARED_FLOPS)[model],
    )


def _data_wait_fraction(runner: Runner, steps: int) -> float | None:
    curves = runner.message_hub.log_scalars
    if "train/time" not in curves:
        return None
    total, data = (curves[f"train/{n}"].data[0][-steps:].sum() for n in ("time", "data_time"))
    return float(data / total)


def build_runner(cfg: Config, folder: str) -> Runner:
    """Build a quiet runner for a config that writes to `folder`."""
    cfg.work_dir = folder
    cfg.experiment_name = f"benchmark_{next(_numbers)}"  # mmengine keeps globals by this name
    cfg.log_level = "WARNING"
    return Runner.from_cfg(cfg)


def vgg_file(files: BenchmarkFiles) -> Path:
    """Return a file of random VGG-19 weights, with which it takes as long as with trained ones."""
    path = files.folder / "vgg19.pth"
    if not path.exists():
        with atomic_path(path) as temporary:
            torch.save(random_vgg19_state_dict(), temporary)
    return path


def _patch_torchvision_vgg(path: Path) -> None:
    """Make MMagic's perceptual loss, which always downloads VGG-19, load these weights."""

    def vgg19(*_: Any, **__: Any) -> SimpleNamespace:
        features = vgg.make_layers(vgg.cfgs["E"])
        state = torch.load(path, weights_only=True)
        features.load_state_dict({k.removeprefix("features."): w for k, w in state.items()})
        return SimpleNamespace(features=features)

    setattr(vgg, "vgg19", vgg19)  # noqa: B010 - an assignment would fail mypy
