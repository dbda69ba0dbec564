"""Whole training runs of ours and of MMagic's, by each one's own runner and config."""

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
from .loaders import BATCH, mmagic_config, mmagic_loader_config, our_config, our_loader_config
from .timing import Measurement, run_in_subprocess, wait

Model = Literal["msrresnet", "srgan"]
Config = Any

# Operations of a step of a batch of 16 with GT 128, as torch counts them: of convolutions and
# matrices, forward and back. With shared logits the discriminator runs once less.
FLOPS = {"msrresnet": 249_254_903_808, "srgan": 1_429_070_701_568}
SHARED_FLOPS = {**FLOPS, "srgan": 1_357_808_424_832}
# What the plain path leaves out: the published configs with every switch for speed. On a GPU also
# bfloat16 and a recorded step.
FAST_OVERRIDES: dict[str, dict[str, Any]] = {
    "msrresnet": {"model.channels_last": "auto"},
    "srgan": {"model.channels_last": "auto", "model.train_cfg.share_fake_logits": True},
}
#: Who may stand on the other side of a training: MMagic, our own plain path, or our fast step in a
#: loop without hooks, logs and schedulers.
Other = Literal["mmagic", "baseline", "no-hooks"]

_numbers = itertools.count()


@HOOKS.register_module(name="benchmarks.Stopwatch")
class Stopwatch(Hook):
    """Times the iterations from `start` to `stop`, whatever else happens in them.

    Args:
        start: After this iteration the clock starts; `stop - start` is a multiple of it.
        stop: After this one it stops.
    """

    priority = "LOWEST"

    def __init__(self, start: int, stop: int) -> None:
        # Ours runs many steps per call of the hooks, up to the next interval of any.
        self.interval = start
        self.start, self.stop = start, stop
        self.seconds = 0.0
        self.peak_bytes: int | None = None

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Look at the clock, the device's work done."""
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
            if device.type == "cuda":  # reserved: a recorded step allocates nothing
                self.peak_bytes = torch.cuda.max_memory_reserved(device)


@LOOPS.register_module()
class NoHooksLoop(SRTrainLoop):
    """The same step of the same batches, without hooks, logs and schedulers."""

    def run(self) -> Any:
        """Train, and let the stopwatch alone look on."""
        self._begin()
        self.runner.model.train()
        watch = next(hook for hook in self.runner.hooks if isinstance(hook, Stopwatch))
        for number in range(self._max_iters):
            self._iter = number  # what `runner.iter` says
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
        files: What is trained on.
        model: Which of the published configs.
        other: The other side.
        workers: Processes that read, on both sides.
        warm_up: Steps before the clock starts.
        steps: Steps that are timed, a multiple of `warm_up`.
        changes: Settings of ours and of MMagic's config to change, such as a smaller network.
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


def _our_training(name: str, files: BenchmarkFiles, model: Model, workers: int) -> Config:
    cfg = our_config(model)
    cfg.merge_from_dict(
        {"train_cfg.max_steps_per_hook_call": 1} if name == "baseline" else FAST_OVERRIDES[model]
    )
    if model == "srgan":
        cfg.model.perceptual_loss.pretrained = str(vgg_file(files))
        cfg.custom_hooks = []  # it would advise to start from a trained MSRResNet
    if name != "baseline" and torch.cuda.is_available():
        cfg.train_cfg.cuda_graph = True
        wrappers = cfg.optim_wrapper
        for wrapper in [wrappers] if "optimizer" in wrappers else wrappers.values():
            if isinstance(wrapper, dict):
                wrapper["type"] = "AmpOptimWrapper"
    if name == "no-hooks":
        cfg.train_cfg.type = "NoHooksLoop"
    cfg.train_dataloader = our_loader_config(files, workers)
    return cfg


def _mmagics_training(files: BenchmarkFiles, model: Model, workers: int) -> Config:
    cfg = mmagic_config(model)
    if model == "srgan":
        _give_vgg_to_mmagic(vgg_file(files))
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
        cfg = _mmagics_training(files, model, workers)
    else:
        cfg = _our_training(name, files, model, workers)
    cfg.merge_from_dict(changes)
    for part in ("val", "test"):
        for what in ("dataloader", "cfg", "evaluator"):
            cfg[f"{part}_{what}"] = None
    cfg.train_cfg.max_iters = warm_up + steps
    # The clock is about steps: a checkpoint would be written in the last one.
    cfg.default_hooks.checkpoint.update(save_last=False, save_best=None)
    watch = Stopwatch(warm_up, warm_up + steps)
    with tempfile.TemporaryDirectory() as folder:
        runner = runner_of(cfg, folder)
        runner.register_hook(watch)
        runner.train()
    return Measurement(
        seconds=watch.seconds,
        images=steps * BATCH,
        steps=steps,
        waited=_waited(runner, steps),
        peak_bytes=watch.peak_bytes,
        flops=(FLOPS if name in ("mmagic", "baseline") else SHARED_FLOPS)[model],
    )


def _waited(runner: Runner, steps: int) -> float | None:
    curves = runner.message_hub.log_scalars
    if "train/time" not in curves:
        return None
    total, data = (curves[f"train/{n}"].data[0][-steps:].sum() for n in ("time", "data_time"))
    return float(data / total)


def runner_of(cfg: Config, folder: str) -> Runner:
    """Build a quiet runner for a config that writes to `folder`."""
    cfg.work_dir = folder
    cfg.experiment_name = f"benchmark_{next(_numbers)}"  # mmengine keeps globals by this name
    cfg.log_level = "WARNING"
    return Runner.from_cfg(cfg)


def vgg_file(files: BenchmarkFiles) -> Path:
    """Random weights of VGG-19: what it computes takes as long with any."""
    path = files.folder / "vgg19.pth"
    if not path.exists():
        with atomic_path(path) as temporary:
            torch.save(random_vgg19_state_dict(), temporary)
    return path


def _give_vgg_to_mmagic(path: Path) -> None:
    """MMagic's perceptual loss downloads VGG-19 whatever it is told; here it gets ours."""

    def vgg19(*_: Any, **__: Any) -> SimpleNamespace:
        features = vgg.make_layers(vgg.cfgs["E"])
        state = torch.load(path, weights_only=True)
        features.load_state_dict({k.removeprefix("features."): w for k, w in state.items()})
        return SimpleNamespace(features=features)

    setattr(vgg, "vgg19", vgg19)  # noqa: B010 - what torchvision is typed to offer stays
