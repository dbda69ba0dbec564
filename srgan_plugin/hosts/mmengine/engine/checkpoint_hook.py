"""Checkpoints of a run: names, atomic writes, which are kept, and the newest complete one."""

import logging
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook

from srgan_plugin.checkpoints.read_write import load_checkpoint_file
from srgan_plugin.errors import UserError, check_at_least
from srgan_plugin.io.atomic import remove_abandoned, write_bytes
from srgan_plugin.registry import HOOKS

from .optim_wrapper import iter_schedulers
from .schedules import follow_config

logger = logging.getLogger(__name__)
ATOMIC_BACKEND = "srgan_plugin_atomic"
LAST_CHECKPOINT = "last_checkpoint"  # mmengine's name: the file that names the newest


class AtomicBackend(LocalBackend):
    """mmengine's local files, each appearing under its name only when it is whole."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write `obj`, whole or not at all."""
        write_bytes(obj, filepath)


register_backend(ATOMIC_BACKEND, AtomicBackend, force=True)


def is_resumed(runner: Any) -> bool:
    """Whether a run goes on with a checkpoint, whose weights alone `load_from` would take."""
    return bool(getattr(runner, "_resume", False) or runner.cfg.get("resume"))


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's hook with atomic writes; old checkpoints are deleted after the new is complete.

    A checkpoint on a local disk appears only when it is whole, and the one that it replaces (the
    oldest, or the best so far) is removed only after that: mmengine removes it before. Checkpoints
    of other runs in the same folder stay, and so does what lies in other folders. What a kill left
    behind (a checkpoint too many, a file that was being written) is removed by the next run. By
    epochs, only the first of it holds.

    Args:
        args: As mmengine's.
        max_keep_ckpts: Keep the newest so many; -1 for all.
        backend_args: As mmengine's.
        kwargs: As mmengine's.
    """

    def __init__(
        self,
        *args: Any,
        max_keep_ckpts: int = -1,
        backend_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        here = "://" not in str(kwargs.get("out_dir") or "")
        if backend_args is None and here:
            backend_args = {"backend": ATOMIC_BACKEND}
        super().__init__(*args, max_keep_ckpts=max_keep_ckpts, backend_args=backend_args, **kwargs)
        check_at_least(-1, **{"checkpoint.interval": self.interval})
        self.local = here and not self.by_epoch
        self.keep = max_keep_ckpts
        if self.local:
            self.max_keep_ckpts = -1  # mmengine's own way removes first
        self.best_ckpt_path: str | None
        self.best_ckpt_path_dict: dict[str, str | None]
        self.last_ckpt: str | None
        self.saved: list[str] = []  # by this run, or by the one that it resumes
        self._replaceable: dict[str, str | None] = {}  # the best so far, while there may be better

    def before_train(self, runner: Any) -> None:
        """Find out what the resumed run saved; warn of another run's checkpoints."""
        super().before_train(runner)
        if not self.local:
            return
        if is_main_process():
            for folder in {self.out_dir, runner.work_dir}:
                remove_abandoned(folder)
        if runner.iter:
            known = [*runner.message_hub.get_info("saved_ckpts", []), runner.cfg.get("load_from")]
            # The same file may be named in several ways; the last one is the newest.
            own = [str(Path(self.out_dir) / Path(p).name) for p in known if p and self._is_own(p)]
            self.saved = [path for path in dict.fromkeys(own) if Path(path).is_file()]
            newest = self.path(runner.iter)
            self.last_ckpt = newest if newest in self.saved else None
            self._remove_old()
        elif others := numbered_checkpoints(self.out_dir):
            runner.logger.warning(
                f"{self.out_dir} holds checkpoints of another run, up to {others[-1][1].name}; "
                "they stay, but are replaced where this run reaches their iterations. Go on with "
                "that run by --resume, or give this one a --work-dir of its own"
            )

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Leave functions out of the schedulers' states (OneCycleLR's): readers refuse code."""
        for state in iter_schedulers(checkpoint.get("param_schedulers")):
            for name in [name for name, value in state.items() if callable(value)]:
                del state[name]

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Bring the schedules of a resumed run in line with its config; else take weights only."""
        if is_resumed(runner):
            follow_config(runner, checkpoint)
        if is_resumed(runner) or not getattr(runner, "_load_from", None):
            return  # the latter by `runner.resume(FILE)`, in Python
        weights = checkpoint.get("state_dict", {})
        for key in [key for key in weights if key.rpartition(".")[2] == "step_counter"]:
            weights[key] = torch.zeros_like(weights[key])  # the steps of a new run

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Save the best; its predecessor goes afterwards."""
        info = runner.message_hub.runtime_info
        runner.message_hub.update_info("last_validated", runner.iter)
        if not (self.local and self.save_best and metrics):
            super().after_val_epoch(runner, metrics)
            return
        if unknown := [key for key in self.key_indicators if key not in {"auto", *metrics}]:
            raise UserError(
                f"checkpoint.save_best: expected auto or one of {', '.join(metrics)}, "
                f"got {unknown[0]!r}"
            )
        self._forget_other_measures(runner, metrics)
        before = {name: value for name, value in info.items() if name.startswith("best_")}
        # mmengine removes what these name before it saves.
        self._replaceable, self._best = self._best, dict.fromkeys(self._best)
        try:
            super().after_val_epoch(runner, metrics)
        except Exception:
            if self._replaceable:  # the best itself was not saved: no score without its file
                self._best, self._replaceable = self._replaceable, {}
                for name in [name for name in info if name.startswith("best_")]:
                    runner.message_hub.pop_info(name)
                info.update(before)
            raise
        self._remove_replaced()

    @property
    def _best(self) -> dict[str, str | None]:
        """The best checkpoints so far, by measure; a single measure has no name."""
        if len(self.key_indicators) == 1:
            return {"": self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    @_best.setter
    def _best(self, paths: dict[str, str | None]) -> None:
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = paths[""]
        else:
            self.best_ckpt_path_dict = paths

    def _remove_replaced(self) -> None:
        best = self._best
        for measure, old in self._replaceable.items():
            if best[measure] is None:
                best[measure] = old
            elif old not in (None, best[measure]) and self._is_own(old) and is_main_process():
                Path(old).unlink(missing_ok=True)
        self._best, self._replaceable = best, {}

    def _forget_other_measures(self, runner: Any, metrics: dict[str, Any]) -> None:
        """Let no best score of another measure, or by another rule, stand in the way of these."""
        hub, alone = runner.message_hub, len(self.key_indicators) == 1
        names = [next(iter(metrics)) if key == "auto" else key for key in self.key_indicators]
        rules = dict(zip(names, self.rules, strict=True))
        known = hub.get_info("best_rules", None)
        for name, rule in rules.items():
            suffix = "" if alone else f"_{name}"
            if f"best_score{suffix}" not in hub.runtime_info:
                continue
            if known is None:  # saved by mmengine's hook
                file = Path(str(hub.get_info(f"best_ckpt{suffix}"))).name
                start = f"best_{name}_".replace("/", "_") + self.filename_tmpl.partition("{")[0]
                same = file.startswith(start)
            else:
                same = known.get(name, None if alone else rule) == rule
            if not same:
                runner.logger.warning(
                    f"the best score so far is not of {name} by the rule {rule!r}: starting anew"
                )
                for kind in ("best_score", "best_ckpt"):
                    hub.pop_info(kind + suffix)
                self._best = self._best | {suffix[1:]: None}
        hub.update_info("best_rules", rules)

    def _is_own(self, path: Any) -> bool:
        """Whether a checkpoint lies in this run's folder; a resumed run's may be another's."""
        return Path(path).resolve().parent == Path(self.out_dir).resolve()

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        """Save by `save`: mmengine saves whatever it saves, but for a best one, by this method."""
        if not self.local:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        # With the state goes the name of its best checkpoint: the one before has to be gone then.
        if self._replaceable:
            self._remove_replaced()
        options = {"save_optimizer": self.save_optimizer}
        options["save_param_scheduler"] = self.save_param_scheduler
        self.save(runner, step, meta, **options, **self.args)

    def path(self, iterations: int) -> str:
        """Return the name of the checkpoint of so many iterations."""
        return str(Path(self.out_dir) / self.filename_tmpl.format(iterations))

    def save(
        self, runner: Any, iterations: int, meta: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Save the state, then its name as the newest; then remove what is too old.

        Args:
            runner: mmengine's.
            iterations: How many made the state.
            meta: As of `Runner.save_checkpoint`.
            options: As of `Runner.save_checkpoint`.
        """
        path, hub = self.path(iterations), runner.message_hub
        before = self.saved, self.last_ckpt, hub.get_info("last_ckpt", None)
        # The file names itself, and all that lie there until it is whole.
        self.saved, self.last_ckpt = [*(p for p in self.saved if p != path), path], path
        hub.update_info("last_ckpt", path)
        hub.update_info("saved_ckpts", self.saved)
        try:
            runner.save_checkpoint(
                self.out_dir,
                Path(path).name,
                meta=meta or {"epoch": runner.epoch, "iter": iterations},
                by_epoch=False,
                backend_args=self.backend_args,
                **options,
            )
        except Exception:
            self.saved, self.last_ckpt, last = before
            hub.update_info("last_ckpt", last)
            hub.update_info("saved_ckpts", self.saved)
            raise
        if is_main_process():
            write_bytes(path.encode(), Path(runner.work_dir) / LAST_CHECKPOINT)
        self._remove_old()

    def _remove_old(self) -> None:
        if self.keep > 0:
            old, self.saved = self.saved[: -self.keep], self.saved[-self.keep :]
            for path in old if is_main_process() else ():
                Path(path).unlink(missing_ok=True)


def find_checkpoint_hook(runner: Any) -> CheckpointHook:
    """Return the run's own hook for local checkpoints, or one that saves into its work dir."""
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.local:
            return hook
    hook = CheckpointHook(by_epoch=False, out_dir=runner.work_dir)
    hook.last_ckpt = None
    return hook


def checkpoint_name(iterations: int | str) -> str:
    """Return the file name of the checkpoint of so many iterations."""
    return f"iter_{iterations}.pth"


def iteration_of(path: Path) -> int | None:
    """Return the iterations in a checkpoint's name, `best_…` too; None if it has another name."""
    found = re.fullmatch(r"(?:best_.*_)?iter_(\d+)\.pth", path.name)
    return int(found[1]) if found else None


def last_checkpoint(work_dir: str | Path) -> str:
    """Return the path that a work dir names as its newest checkpoint, empty if none."""
    pointer = Path(work_dir) / LAST_CHECKPOINT
    # A crash of the machine may leave zeros in a file.
    return pointer.read_text("utf-8", "replace").strip("\0 \n") if pointer.is_file() else ""


def numbered_checkpoints(folder: str | Path) -> list[tuple[int, Path]]:
    """Return the `iter_N.pth` of a folder with their numbers, oldest first."""
    found = ((iteration_of(path), path) for path in Path(folder).glob(checkpoint_name("*")))
    return sorted((number, path) for number, path in found if number is not None)


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
        raise UserError(
            f"--resume: no checkpoint in {work_dir} is good ({'; '.join(faults)}); remove them to "
            "start anew, or name another one by --resume FILE"
        )
    return None


def _newest_first(folder: Path) -> Iterator[Path]:
    """Yield the last run's checkpoints, whether they are good or not."""
    words = last_checkpoint(folder)
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
    except (UserError, OSError) as error:
        return str(error)
    number, meta = path.stem.removeprefix("iter_"), checkpoint.get("meta")
    holds = str(meta.get("iter", number)) if isinstance(meta, dict) else number
    if number.isdecimal() and holds != number:
        return f"{path} holds iteration {holds}, not the one in its name"
    return checkpoint
