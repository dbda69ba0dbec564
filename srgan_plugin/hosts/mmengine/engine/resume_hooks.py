"""What an interrupted run needs to go on as if nothing had happened."""

import logging
import random
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.dist import all_reduce, barrier, get_rank, is_distributed
from mmengine.hooks import EMAHook, Hook

from srgan_plugin.registry import HOOKS
from srgan_plugin.zoo.loading import load_checkpoint_file

from .hooks import checkpoint_hook, is_resumed, numbered_checkpoints

logger = logging.getLogger(__name__)


def newest_checkpoint(work_dir: str | Path) -> Path | None:
    """Return the newest good checkpoint of the last run in a work dir, None if there is none.

    That is the one that `last_checkpoint` names, which may lie elsewhere, unless one that was saved
    later is there: a run may end between the two writes. Without that file it is the one of the
    most iterations. A file that cannot be read from beginning to end, or that holds another
    iteration than its name says, is passed over with a warning. In the copy of a work dir it is the
    copied file.

    Raises:
        ValueError: There are checkpoints, but none of them is good.
    """
    faults: list[str] = []
    for path in _newest_first(Path(work_dir)):
        found = _read(path)
        if isinstance(found, str):
            faults.append(found)
            continue
        for fault in faults:
            logger.warning("PASSED OVER a checkpoint that is not good: %s", fault)
        if faults:
            logger.warning("resuming from an older one, %s", path)
        return path
    if faults:
        raise ValueError(
            f"--resume: no checkpoint in {work_dir} is good ({'; '.join(faults)}); remove them to "
            "start anew, or name another one by --resume FILE"
        )
    return None


def _newest_first(folder: Path) -> Iterator[Path]:
    """Yield the last run's checkpoints, whether they are good or not."""
    pointer = folder / "last_checkpoint"
    # A crash of the machine may leave zeros in a file.
    words = pointer.read_text("utf-8", "replace").strip("\0 \n") if pointer.is_file() else ""
    named = _distinct(p for p in (folder / Path(words).name, Path(words)) if words and p.exists())
    places = _distinct([folder, *(path.parent for path in named)])
    found = sorted((pair for place in places for pair in numbered_checkpoints(place)), reverse=True)
    if not named:
        yield from (path for _, path in found)
        return
    when = named[0].stat().st_mtime
    others = [(n, path) for n, path in found if path.name != named[0].name]
    # Copying may turn the order of times around, but what a checkpoint lists was saved before it.
    known = _read(named[0])
    info = {} if isinstance(known, str) else known.get("message_hub", {}).get("runtime_info", {})
    before = {Path(path).name for path in info.get("saved_ckpts", [])}
    later = [p for _, p in others if p.stat().st_mtime > when and p.name not in before]
    yield from later
    yield from named
    # Of more iterations but older: another run's.
    number = int("".join(filter(str.isdecimal, named[0].stem)) or sys.maxsize)
    rest = [path for n, path in others if n < number and path not in later]
    yield from sorted(rest, key=lambda path: path.stat().st_mtime, reverse=True)


def _distinct(paths: Iterable[Path]) -> list[Path]:
    return list({path.resolve(): path for path in reversed([*paths])}.values())[::-1]


def _read(path: Path) -> dict[str, Any] | str:
    """Read a checkpoint from beginning to end; return what is wrong with it if it is not good."""
    try:
        checkpoint = load_checkpoint_file(path)
    except (OSError, ValueError) as error:
        return str(error)
    number, meta = path.stem.removeprefix("iter_"), checkpoint.get("meta")
    holds = str(meta.get("iter", number)) if isinstance(meta, dict) else number
    if number.isdecimal() and holds != number:
        return f"{path} holds iteration {holds}, not the one in its name"
    return checkpoint


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
        if is_resumed(runner):
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


def swaps_weights(runner: Any) -> bool:
    """Whether a validation runs on averaged weights that lie in the place of the trained ones."""
    return any(isinstance(hook, EMAHook) for hook in runner.hooks)


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
        """Listen, where Python lets this thread."""
        if not is_distributed():
            self.interval = sys.maxsize  # nobody to agree with: no reason to interrupt a stretch
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning("signals save no checkpoint: this is not the main thread")
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.signal(number, self._receive)
            self._before[number] = signal.SIG_DFL if before is None else before

    def after_train(self, runner: Any) -> None:
        """Stop listening."""
        self.stop_listening()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save and end if any rank was told to."""
        if self._agreed(runner.iter):
            self.save_and_end(runner, runner.iter + 1)

    def after_val_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Save and end without waiting for a long validation; a resumed run begins with it."""
        if self.received and not is_distributed() and not swaps_weights(runner):
            self.save_and_end(runner, runner.iter)

    def save_and_end(self, runner: Any, iterations: int) -> NoReturn:
        """Save what `iterations` made, unless that was done just now, and end the process."""
        saves = checkpoint_hook(runner)
        path = saves.path(iterations)
        if saves.last_ckpt != path:
            saves.save(runner, iterations)
        barrier()
        self.stop_listening()
        name = signal.Signals(self.received).name
        runner.logger.warning(f"stopped by {name}; saved {path}; go on with --resume")
        raise SystemExit(128 + self.received)

    def stop_listening(self) -> None:
        """Give signals back to whoever had them before."""
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)

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
        self.stop_listening()
