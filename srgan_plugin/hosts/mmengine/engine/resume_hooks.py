"""Hooks to save an interrupted run and resume it, exactly on one process."""

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
from mmengine.runner import set_random_seed

from srgan_plugin.errors import check_count
from srgan_plugin.registry import HOOKS

from .checkpoint_hook import find_checkpoint_hook, is_resumed

logger = logging.getLogger(__name__)


def _get_random_states() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (str(name), np.asarray(keys), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_states(states: dict[str, Any]) -> None:
    version, state, gauss = states["python"]
    random.setstate((version, tuple(state), gauss))
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all(states["cuda"])


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Save and restore the random states of Python, NumPy and torch.

    The data do not depend on them (see `StreamSampler`), but random numbers drawn in a step do,
    such as those of dropout. A validation does not change them, so it may be repeated. The states
    of rank 0 are saved; when a run is resumed, other ranks are seeded from the seed of the run, the
    rank and the iteration, so they draw other numbers than in an undisturbed run.
    """

    def __init__(self) -> None:
        self._resumed: dict[str, Any] | None = None
        self._in_training: dict[str, Any] | None = None  # states to return to after a validation

    def before_val(self, runner: Any) -> None:
        """Keep the states during a validation, whose loaders draw a seed for their workers."""
        self._in_training = _get_random_states()

    def after_val(self, runner: Any) -> None:
        """Restore the states of before the validation."""
        if self._in_training is not None:
            _set_random_states(self._in_training)
            self._in_training = None

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Add the states of the training to a checkpoint."""
        checkpoint["random_state"] = self._in_training or _get_random_states()

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Store the states of a resumed run until training begins."""
        if is_resumed(runner):
            self._resumed = checkpoint.get("random_state")

    def before_train(self, runner: Any) -> None:
        """Restore the states directly before the first step."""
        if self._resumed is None:
            return
        if rank := get_rank():
            set_random_seed((runner.seed + rank * 1_000_003 + runner.iter) % 2**32)
        else:
            _set_random_states(self._resumed)


def swaps_weights(runner: Any) -> bool:
    """Return whether a validation replaces the trained weights by averaged ones."""
    return any(isinstance(hook, EMAHook) for hook in runner.hooks)


@HOOKS.register_module()
class InterruptHook(Hook):
    """Save a checkpoint after SIGTERM or SIGINT, and exit with status 128 + signal.

    The steps that the train loop runs between two calls of hooks (a chunk of `SRTrainLoop`, about a
    second; one step in other loops) are finished first; in a distributed run those up to `interval`
    and a validation that has begun. A second signal does what it did before the run: it usually
    ends the process at once.

    Args:
        interval: Iterations after which the ranks of a distributed run agree on stopping.

    Raises:
        UserError: `interval` is not an integer of at least 1.
    """

    priority = "LOWEST"  # after the checkpoint of the same iteration, if one is due

    def __init__(self, interval: int = 10) -> None:
        check_count(1, **{"interrupt.interval": interval})
        self.interval = interval  # `SRTrainLoop` ends a chunk at multiples of it
        self.received = 0
        self._before: dict[int, Any] = {}

    def before_train(self, runner: Any) -> None:
        """Install signal handlers, which Python allows in the main thread only."""
        if not is_distributed():
            self.interval = sys.maxsize  # no other ranks, so chunks need not end for this hook
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning(
                "InterruptHook: expected the main thread, got "
                f"{threading.current_thread().name}; signals will not save a checkpoint"
            )
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
        done = runner.iter + 1  # mmengine counts a step after this hook
        if self._should_stop(done):
            self.save_and_exit(runner, done)

    def after_val_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Save and exit during a validation.

        A resumed `SRTrainLoop` repeats it first; mmengine's `IterBasedTrainLoop`, which MMagic
        configs have, continues with the next step, so that validation is missing in the log.
        """
        if self.received and not is_distributed() and not swaps_weights(runner):
            self.save_and_exit(runner, runner.iter)

    def save_and_exit(self, runner: Any, iterations: int) -> NoReturn:
        """Save the state after `iterations`, unless it is already saved, and raise `SystemExit`."""
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

    def _should_stop(self, iterations: int) -> bool:
        """Return whether a rank received a signal; ranks compare every `interval` iterations."""
        if not is_distributed():
            return bool(self.received)
        if iterations % self.interval:
            return False
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        highest = torch.tensor(self.received, device=device)
        all_reduce(highest, op="max")
        self.received = int(highest)
        return bool(self.received)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = number
        self.stop_listening()
