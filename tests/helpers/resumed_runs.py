"""Runs that are stopped by a signal and resumed, beside the same run undisturbed."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from same_state import MAY_DIFFER

from srgan_plugin.hosts.mmengine.engine.checkpoint_files import newest_checkpoint

#: A checkpoint saved at a stop is one more than the undisturbed run has.
SAVED_AT_STOPS = (*MAY_DIFFER, ("message_hub", "runtime_info", "saved_ckpts"))

#: Makes the config of a run in a folder.
ConfigFactory = Callable[[Path], Config]


@pytest.fixture
def quick_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare runs what takes longer than they do: looking at the environment, formatting configs."""
    monkeypatch.setattr("mmengine.runner.runner.collect_env", dict)
    monkeypatch.setattr(
        "mmengine.config.config.FormatCode",
        lambda text, **_: (text, True),
        raising=False,  # onedl-mmengine formats by another name
    )


class StopAt(Hook):
    """Tell the run to stop, as a cluster does, after so many iterations."""

    def __init__(self, iterations: int) -> None:
        self.interval = iterations  # the training loop makes a call at multiples of this

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        if runner.iter + 1 == self.interval:
            signal.raise_signal(signal.SIGTERM)


def train(cfg: Config, stop_at: int | None = None) -> Path:
    """Train, in full or until stopped; return the last checkpoint."""
    runner = Runner.from_cfg(cfg)
    if stop_at is None:
        runner.train()
    else:
        runner.register_hook(StopAt(stop_at))
        with pytest.raises(SystemExit):
            runner.train()
    saved = newest_checkpoint(cfg.work_dir)
    assert saved is not None
    assert saved.name == f"iter_{stop_at or cfg.train_cfg.max_iters}.pth"
    return saved


def train_with_stops(recipe: ConfigFactory, work_dir: Path, stops: Sequence[int]) -> Path:
    """Train in a folder, stopping at some iterations and resuming; return the last checkpoint."""
    for stop in (*stops, None):
        cfg = recipe(work_dir)
        if (saved := newest_checkpoint(work_dir)) is not None:
            cfg.merge_from_dict({"resume": True, "load_from": str(saved)})
        last = train(cfg, stop)
    return last
