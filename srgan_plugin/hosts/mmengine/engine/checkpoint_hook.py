"""Save checkpoints atomically, and delete old ones only after the new one is complete."""

import inspect
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import Runner

from srgan_plugin.errors import UserError, check_at_least, check_option
from srgan_plugin.io.atomic import remove_abandoned, write_bytes
from srgan_plugin.registry import HOOKS

from .checkpoint_files import LAST_CHECKPOINT, numbered_checkpoints
from .optim_wrapper import list_schedulers
from .schedule_settings import anneal_strategy
from .schedules import reconcile_schedules

ATOMIC_BACKEND = "srgan_plugin_atomic"


class AtomicBackend(LocalBackend):
    """mmengine's LocalBackend with atomic writes."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write `obj` to a file, complete or not at all."""
        write_bytes(obj, filepath)


register_backend(ATOMIC_BACKEND, AtomicBackend, force=True)


def is_resumed(runner: Any) -> bool:
    """Return whether a run resumes a checkpoint; `load_from` would load only its weights."""
    return bool(getattr(runner, "_resume", False) or runner.cfg.get("resume"))


def _hook_options() -> set[str]:
    """Return the options of the hook; those it does not have itself are passed on to the runner."""
    functions = (MMEngineCheckpointHook.__init__, Runner.save_checkpoint)
    names = {name for function in functions for name in inspect.signature(function).parameters}
    return names - {"self", "kwargs"}


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's CheckpointHook with atomic writes on a local disk.

    A checkpoint that is replaced (the oldest, or the best so far) is deleted after the new one is
    complete; mmengine deletes it before. Checkpoints of other runs in the same folder, and files in
    other folders, are kept. Files of a killed run (a surplus checkpoint, a temporary file) are
    deleted by the next run. With `by_epoch=True`, only the writes are atomic; elsewhere than on a
    local disk (`out_dir` with `://`, or `file_client_args`), this is mmengine's hook.

    Args:
        args: See mmengine's hook.
        max_keep_ckpts: Number of checkpoints to keep, the newest ones; -1 for all.
        backend_args: See mmengine's hook.
        kwargs: See mmengine's hook.

    Raises:
        UserError: An option is unknown, or `interval` is below -1.
    """

    def __init__(
        self,
        *args: Any,
        max_keep_ckpts: int = -1,
        backend_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        for name in kwargs:
            check_option("default_hooks.checkpoint", name, _hook_options())
        remote = "://" in str(kwargs.get("out_dir") or "") or kwargs.get("file_client_args")
        if backend_args is None and not remote:
            backend_args = {"backend": ATOMIC_BACKEND}
        super().__init__(*args, max_keep_ckpts=max_keep_ckpts, backend_args=backend_args, **kwargs)
        check_at_least(-1, **{"checkpoint.interval": self.interval})
        # Whether this class deletes checkpoints, not mmengine.
        self.local = not (remote or self.by_epoch)
        self.keep = max_keep_ckpts
        if self.local:
            self.max_keep_ckpts = -1  # mmengine would delete before it saves
        self.best_ckpt_path: str | None
        self.best_ckpt_path_dict: dict[str, str | None]
        self.last_ckpt: str | None
        self.saved: list[str] = []  # checkpoints of this run or of the run that it resumes
        self._replaceable: dict[str, str | None] = {}  # the best so far, during a validation

    def before_train(self, runner: Any) -> None:
        """Find the checkpoints of the resumed run; warn about those of another run."""
        super().before_train(runner)
        if not self.local:
            return
        if is_main_process():
            for folder in {self.out_dir, runner.work_dir}:
                remove_abandoned(folder)
        if runner.iter:
            # From oldest to newest. The resumed file itself is not in the list of one that
            # mmengine saved; under a name of the user's own it is never deleted.
            newest = self.path(runner.iter)
            resumed = str(runner.cfg.get("load_from"))
            is_newest = Path(resumed).name == Path(newest).name
            known = [*runner.message_hub.get_info("saved_ckpts", []), *[resumed] * is_newest]
            # One file may be listed under several paths.
            own = [str(Path(self.out_dir) / Path(p).name) for p in known if self._is_own(p)]
            self.saved = [path for path in dict.fromkeys(own) if Path(path).is_file()]
            self.last_ckpt = newest if newest in self.saved else None
            self._remove_old()
        elif others := numbered_checkpoints(self.out_dir):
            runner.logger.warning(
                f"{self.out_dir}: expected no checkpoints, got those of another run, up to "
                f"{others[-1][1].name}; they are kept, but replaced if this run reaches their "
                "iterations. Resume that run by --resume, or use another --work-dir"
            )

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Drop functions from states of schedulers, because safe loading refuses them."""
        for state in list_schedulers(checkpoint.get("param_schedulers")):
            if "anneal_func" in state:  # of OneCycleLR; `reconcile_schedules` restores it
                state["anneal_strategy"] = anneal_strategy(state["anneal_func"])
            for name in [name for name, value in state.items() if callable(value)]:
                del state[name]

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Apply the config to the schedules of a resumed run; reset counters of a loaded one."""
        if is_resumed(runner):
            reconcile_schedules(runner, checkpoint)
        # `_load_from` is None after `runner.resume(FILE)` in Python.
        if is_resumed(runner) or not getattr(runner, "_load_from", None):
            return
        weights = checkpoint.get("state_dict", {})
        for key in [key for key in weights if key.rpartition(".")[2] == "step_counter"]:
            weights[key] = torch.zeros_like(weights[key])  # the steps of a new run

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Save the best checkpoint, then delete its predecessor.

        Raises:
            UserError: `save_best` is not one of the metrics.
        """
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
        self._forget_other_metrics(runner, metrics)
        before = {name: value for name, value in info.items() if name.startswith("best_")}
        # mmengine would delete these before it saves.
        self._replaceable, self._best = self._best, dict.fromkeys(self._best)
        try:
            super().after_val_epoch(runner, metrics)
        except Exception:
            if self._replaceable:  # the best was not saved, so its score does not count
                self._best, self._replaceable = self._replaceable, {}
                for name in [name for name in info if name.startswith("best_")]:
                    runner.message_hub.pop_info(name)
                info.update(before)
            raise
        self._remove_replaced()

    @property
    def _best(self) -> dict[str, str | None]:
        """The best checkpoints so far, by metric; a single metric has the name ''."""
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
        for metric, old in self._replaceable.items():
            if best[metric] is None:
                best[metric] = old
            elif old not in (None, best[metric]) and self._is_own(old) and is_main_process():
                Path(old).unlink(missing_ok=True)
        self._best, self._replaceable = best, {}

    def _forget_other_metrics(self, runner: Any, metrics: dict[str, Any]) -> None:
        """Forget best scores of other metrics, or of another rule.

        A rule is None until mmengine infers it from the name of the metric, always the same one.
        """
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
                # The score of a single metric has no name, so it may be that of another metric.
                recorded = known.get(name)
                is_same_rule = None in (recorded, rule) or recorded == rule
                same = (name in known or not alone) and is_same_rule
            if not same:
                runner.logger.warning(
                    f"checkpoint.save_best: expected a best score of {name} by the rule {rule!r}, "
                    "got another one; starting without a best score"
                )
                for kind in ("best_score", "best_ckpt"):
                    hub.pop_info(kind + suffix)
                self._best = self._best | {suffix[1:]: None}
        hub.update_info("best_rules", rules)

    def _is_own(self, path: Any) -> bool:
        """Return whether a checkpoint is in the folder of this run."""
        return Path(path).resolve().parent == Path(self.out_dir).resolve()

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        """Save by `save`; mmengine calls this method for all checkpoints except the best."""
        if not self.local:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        # The best checkpoint is complete. Its predecessor is deleted now, because the state that is
        # saved next no longer lists it.
        if self._replaceable:
            self._remove_replaced()
        options = {"save_optimizer": self.save_optimizer}
        options["save_param_scheduler"] = self.save_param_scheduler
        self.save(runner, step, meta, **options, **self.args)

    def path(self, iterations: int) -> str:
        """Return the path of the checkpoint after a number of iterations."""
        return str(Path(self.out_dir) / self.filename_tmpl.format(iterations))

    def save(
        self, runner: Any, iterations: int, meta: dict[str, Any] | None = None, **options: Any
    ) -> None:
        """Save the state, write its path to `last_checkpoint`, then delete old checkpoints.

        Args:
            runner: mmengine runner.
            iterations: Number of iterations until this state.
            meta: See `mmengine.runner.Runner.save_checkpoint`.
            options: See `mmengine.runner.Runner.save_checkpoint`.
        """
        path, hub = self.path(iterations), runner.message_hub
        before = self.saved, self.last_ckpt, hub.get_info("last_ckpt", None)
        # The state lists its own path, and those of old checkpoints, which are deleted once it is
        # complete: after a crash, the next run deletes them.
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
    """Return the run's hook for local checkpoints, or a new one that saves to its work dir."""
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.local:
            return hook
    return CheckpointHook(by_epoch=False, out_dir=runner.work_dir)
