"""What an interrupted run needs to go on as if nothing had happened."""

import random
import signal
import sys
import zipfile
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.dist import all_reduce, barrier, get_rank, is_distributed, is_main_process
from mmengine.hooks import Hook

from srgan_plugin.files import write_text
from srgan_plugin.registry import HOOKS

from .hooks import ATOMIC_BACKEND, numbered_checkpoints


def newest_checkpoint(work_dir: str | Path) -> Path | None:
    """Return the newest whole checkpoint of the last run in a work dir, None if there is none.

    That is the one that `last_checkpoint` names, which may lie elsewhere, unless a later one of
    more iterations is there: a run may end between the two writes. Without that file it is the one
    of the most iterations. A file that was cut short is passed over. In the copy of a work dir it
    is the copied file.
    """
    pointer = Path(work_dir) / "last_checkpoint"
    named = Path(pointer.read_text().strip()) if pointer.is_file() else None
    if named is not None and zipfile.is_zipfile(Path(work_dir) / named.name):
        named = Path(work_dir) / named.name
    if named is not None and not (named.is_file() and zipfile.is_zipfile(named)):
        named = None
    for number, path in reversed(numbered_checkpoints(work_dir)):
        newer = named is None or (
            f"iter_{number}.pth" != named.name and path.stat().st_mtime > named.stat().st_mtime
        )
        if newer and zipfile.is_zipfile(path):
            return path
    return named


@HOOKS.register_module()
class RandomStateHook(Hook):
    """Keeps the random states of python, numpy and torch in checkpoints.

    Data need none (see `StreamSampler`); whatever else draws random numbers goes on where it was.
    The states are those of rank 0. A run of several ranks derives the others' from the seed.
    """

    def __init__(self) -> None:
        self._resumed: dict[str, Any] | None = None

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Add the states."""
        name, words, *rest = np.random.get_state()
        checkpoint["random_state"] = {
            "python": random.getstate(),
            "numpy": (str(name), np.asarray(words), *rest),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Remember the states of a run that is resumed."""
        if runner.cfg.get("resume"):
            self._resumed = checkpoint.get("random_state")

    def before_train(self, runner: Any) -> None:
        """Restore them, last of all before the first step."""
        if self._resumed is None:
            return
        if rank := get_rank():
            torch.manual_seed(runner.seed + rank * 1_000_003 + runner.iter)
            return
        version, words, gauss = self._resumed["python"]
        random.setstate((version, tuple(words), gauss))
        np.random.set_state(self._resumed["numpy"])
        torch.set_rng_state(self._resumed["torch"])
        if len(self._resumed["cuda"]) == torch.cuda.device_count() > 0:
            torch.cuda.set_rng_state_all(self._resumed["cuda"])


@HOOKS.register_module()
class InterruptHook(Hook):
    """On SIGTERM or SIGINT: finish the step, save a checkpoint, end with status 128 + signal.

    A second signal ends the process at once.

    Args:
        interval: Ranks of a distributed run agree on stopping every so many iterations.
    """

    priority = "LOWEST"  # after the checkpoint of the same iteration, if one is due

    def __init__(self, interval: int = 10) -> None:
        self.interval = interval
        self.received = 0
        self._before: dict[int, Any] = {}

    def before_train(self, runner: Any) -> None:
        """Listen."""
        if not is_distributed():
            self.interval = sys.maxsize  # nobody to agree with: no reason to interrupt a stretch
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._receive)

    def after_train(self, runner: Any) -> None:
        """Stop listening."""
        self._restore()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save and end if any rank was told to."""
        if self._agreed(runner.iter):
            self.save_and_end(runner, runner.iter + 1)

    def save_and_end(self, runner: Any, iterations: int) -> NoReturn:
        """Save what `iterations` made, unless that was done just now, and end the process."""
        path = Path(runner.work_dir) / f"iter_{iterations}.pth"
        saved = str(runner.message_hub.get_info("last_ckpt", ""))
        if Path(saved).name == path.name:
            path = Path(saved)
        elif is_main_process():
            runner.save_checkpoint(
                str(path.parent),
                path.name,
                meta={"epoch": 0, "iter": iterations},
                by_epoch=False,
                backend_args={"backend": ATOMIC_BACKEND},
            )
            write_text(str(path), path.parent / "last_checkpoint")
        barrier()
        self._restore()
        name = signal.Signals(self.received).name
        runner.logger.warning(f"stopped by {name}; saved {path}; go on with --resume")
        raise SystemExit(128 + self.received)

    def _agreed(self, iteration: int) -> bool:
        if not is_distributed():
            return bool(self.received)
        if (iteration + 1) % self.interval:
            return False
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        told = torch.tensor(self.received, device=device)
        all_reduce(told, op="max")
        self.received = int(told)
        return bool(self.received)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)
