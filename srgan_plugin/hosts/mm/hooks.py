"""Hooks: whole checkpoints only, test pictures to files, and a word when a start is missing."""

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.hooks import Hook

from srgan_plugin.data.images import write_image
from srgan_plugin.evaluation.metrics import quantize
from srgan_plugin.files import atomic_path
from srgan_plugin.registry import HOOKS

from .loops import set_name
from .optim import each_scheduler
from .preprocessor import as_rgb

ATOMIC_BACKEND = "srgan_plugin_atomic"

# What moves in the state of mmengine's schedulers; the rest is of the config.
_RUNNING = {"last_step", "verbose", "optimizer"}


class AtomicBackend(LocalBackend):
    """mmengine's local files, each appearing under its name only when it is whole."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write `obj`, whole or not at all."""
        with atomic_path(filepath) as temporary:
            temporary.write_bytes(obj)


register_backend(ATOMIC_BACKEND, AtomicBackend, force=True)


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's hook, by which nothing is lost.

    A checkpoint on a local disk appears only when it is whole, and the one that it replaces (the
    oldest, or the best so far) is removed only after that: mmengine removes it before. Checkpoints
    of other runs in the same folder stay, and so does what lies in other folders. By epochs, only
    the first of it holds.

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
        self.local = here and not self.by_epoch
        self.keep = max_keep_ckpts
        if self.local:
            self.max_keep_ckpts = -1  # mmengine's own way removes first
        self.best_ckpt_path: str | None
        self.saved: list[str] = []  # by this run, or by the one that it resumes

    def before_train(self, runner: Any) -> None:
        """Find out what the resumed run saved; warn of another run's checkpoints."""
        super().before_train(runner)
        if not self.local:
            return
        if runner.iter:
            known = [*runner.message_hub.get_info("saved_ckpts", []), runner.cfg.get("load_from")]
            # The same file may be named in two ways; the last one is the newest.
            own = {Path(p).resolve(): p for p in known if p and self._is_own(p)}
            self.saved = list(own.values())
        elif others := numbered_checkpoints(self.out_dir):
            runner.logger.warning(
                f"{self.out_dir} holds checkpoints of another run, up to {others[-1][1].name}; "
                "they stay, but are replaced where this run reaches their iterations. Go on with "
                "that run by --resume, or give this one a --work-dir of its own"
            )

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Leave functions out of the schedulers' states (OneCycleLR's): readers refuse code."""
        for state in each_scheduler(checkpoint.get("param_schedulers")):
            for name in [name for name, value in state.items() if callable(value)]:
                del state[name]

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Say so where the config's schedule is not the one that a resumed run goes on with."""
        if not runner.cfg.get("resume"):
            return
        own = each_scheduler(runner.param_schedulers)
        states = each_scheduler(checkpoint.get("param_schedulers"))
        for scheduler, state in zip(own, states, strict=False):
            configured = vars(scheduler)
            changed = [
                f"{name}={state[name]} (config: {configured[name]})"
                for name in sorted(set(state) & set(configured) - _RUNNING)
                if not (name.startswith("_") or callable(state[name]))
                and state[name] != configured[name]
            ]
            if changed:
                runner.logger.warning(
                    f"--resume: {type(scheduler).__name__} goes on as the checkpoint has it, with "
                    f"{', '.join(changed)}; for another schedule start from it by load_from"
                )

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Save if it is time, then remove what is too old."""
        super().after_train_iter(runner, *args, **kwargs)
        self._remove_old(runner)

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Save the best; its predecessor goes afterwards."""
        if not self.local or len(getattr(self, "key_indicators", None) or []) != 1:
            super().after_val_epoch(runner, metrics)
            self._remove_old(runner)
            return
        old, self.best_ckpt_path = self.best_ckpt_path, None
        try:
            super().after_val_epoch(runner, metrics)
        except Exception:
            self.best_ckpt_path = old
            raise
        best: Any = self.best_ckpt_path
        if best is None:
            self.best_ckpt_path = old
        elif old not in (None, best) and self._is_own(old) and is_main_process():
            Path(old).unlink(missing_ok=True)
        self._remove_old(runner)  # mmengine saves the state, too, where it saves a best

    def _is_own(self, path: str) -> bool:
        """Whether a checkpoint lies in this run's folder; a resumed run's may be another's."""
        return Path(path).resolve().parent == Path(self.out_dir).resolve()

    def _remove_old(self, runner: Any) -> None:
        last: str | None = self.last_ckpt
        if not self.local or last is None or last in self.saved[-1:]:
            return
        self.saved = [*(other for other in self.saved if other != last), last]
        if self.keep > 0:
            old, self.saved = self.saved[: -self.keep], self.saved[-self.keep :]
            for path in old if is_main_process() else ():
                Path(path).unlink(missing_ok=True)
        runner.message_hub.update_info("saved_ckpts", self.saved)


def numbered_checkpoints(folder: str | Path) -> list[tuple[int, Path]]:
    """Return the `iter_N.pth` of a folder with their numbers, oldest first."""
    found = Path(folder).glob("iter_*.pth")
    return sorted((int(path.stem[5:]), path) for path in found if path.stem[5:].isdigit())


@HOOKS.register_module()
class SaveImagesHook(Hook):
    """Writes test predictions, rounded to 8 bit, as `out_dir/SET/NAME.png`.

    Args:
        out_dir: The folder.
    """

    def __init__(self, out_dir: str) -> None:
        self.out_dir = Path(out_dir)

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Write the pictures of one batch."""
        name = set_name(runner.test_loop.dataloader)
        for sample in outputs:
            predicted = as_rgb(sample.output.pred_img, sample.metainfo)
            picture = predicted.permute(1, 2, 0).cpu().numpy()
            # MMagic's samples have no key.
            key = sample.metainfo.get("key") or Path(sample.metainfo["gt_path"]).stem
            path = self.out_dir / name / f"{key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, quantize(picture / 255))


@HOOKS.register_module()
class PretrainedHook(Hook):
    """Says loudly when a GAN is about to train from random weights.

    Args:
        advice: What to do, for the log.
    """

    def __init__(self, advice: str) -> None:
        self.advice = advice

    def before_train(self, runner: Any) -> None:
        """Warn unless the run loads or resumes a checkpoint."""
        if runner.cfg.get("load_from") or runner.cfg.get("resume") or runner.iter:
            return
        bar = "!" * 72
        runner.logger.warning(
            f"\n{bar}\nThe generator starts from RANDOM weights.\n{self.advice}\n{bar}"
        )
