"""Hooks with which an interrupted run can be resumed exactly."""

import logging
import random
import signal
import sys
import threading
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.dist import all_reduce, barrier, get_rank, is_distributed
from mmengine.hooks import EMAHook, Hook

from srgan_plugin.registry import HOOKS

from .checkpoint_hook import find_checkpoint_hook, is_resumed

logger = logging.getLogger(__name__)


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Save and restore the random states of Python, NumPy and torch.

    The data do not depend on them (see `StreamSampler`), but other random numbers do. The states of
    rank 0 are saved; other ranks are seeded from the seed of the run, the rank and the iteration.
    """

    def __init__(self) -> None:
        self._resumed: dict[str, Any] | None = None

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Add the states to a checkpoint."""
        name, keys, *rest = np.random.get_state()
        checkpoint["random_state"] = {
            "python": random.getstate(),
            "numpy": (str(name), np.asarray(keys), *rest),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Store the states of a resumed run until training begins."""
        if is_resumed(runner):
            self._resumed = checkpoint.get("random_state")

    def before_train(self, runner: Any) -> None:
        """Restore the states directly before the first step."""
        if self._resumed is None:
            return
        if rank := get_rank():
            torch.manual_seed(runner.seed + rank * 1_000_003 + runner.iter)
            return
        version, state, gauss = self._resumed["python"]
        random.setstate((version, tuple(state), gauss))
        np.random.set_state(self._resumed["numpy"])
        torch.set_rng_state(self._resumed["torch"])
        if len(self._resumed["cuda"]) == torch.cuda.device_count() > 0:
            torch.cuda.set_rng_state_all(self._resumed["cuda"])


def swaps_weights(runner: Any) -> bool:
    """Return whether a validation replaces the trained weights by averaged ones."""
    return any(isinstance(hook, EMAHook) for hook in runner.hooks)


@HOOKS.register_module()
class InterruptHook(Hook):
    """On SIGTERM or SIGINT finish the step, save a checkpoint and end with status 128 + signal.

    A second signal ends the process at once.

    Args:
        interval: Iterations after which the ranks of a distributed run agree on stopping.
    """

    priority = "LOWEST"  # after the checkpoint of the same iteration, if one is due

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self.received = 0
        self._before: dict[int, Any] = {}

    def before_train(self, runner: Any) -> None:
        """Install signal handlers, which Python allows in the main thread only."""
        if not is_distributed():
            self.interval = sys.maxsize  # no other ranks, so no reason to end a chunk
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning("signals save no checkpoint: this is not the main thread")
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(number, self._receive)
            self._before[number] = signal.SIG_DFL if before is None else before

    def after_train(self, runner: Any) -> None:
        """Restore the signal handlers."""
        self.stop_listening()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save and exit if any rank has received a signal."""
        if self._should_stop(runner.iter):
            self.save_and_exit(runner, runner.iter + 1)

    def after_val_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Save and exit during a validation; a resumed run repeats it first."""
        if self.received and not is_distributed() and not swaps_weights(runner):
            self.save_and_exit(runner, runner.iter)

    def save_and_exit(self, runner: Any, iterations: int) -> NoReturn:
        """Save the state after `iterations`, unless it is already saved, and exit."""
        saves = find_checkpoint_hook(runner)
        path = saves.path(iterations)
        if saves.last_ckpt != path:
            saves.save(runner, iterations)
        barrier()
        self.stop_listening()
        name = signal.Signals(self.received).name
        runner.logger.warning(f"stopped by {name}; saved {path}; resume by --resume")
        raise SystemExit(128 + self.received)

    def stop_listening(self) -> None:
        """Restore the previous signal handlers."""
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

    def _should_stop(self, iteration: int) -> bool:
        """Return whether a rank received a signal; ranks compare every `interval` iterations."""
        if not is_distributed():
            return bool(self.received)
        if (iteration + 1) % self.interval:
            return False
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        highest = torch.tensor(self.received, device=device)
        all_reduce(highest, op="max")
        self.received = int(highest)
        return bool(self.received)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = number
        self.stop_listening()
