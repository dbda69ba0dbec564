"""Hooks: whole checkpoints only, test pictures to files, and a word when a start is missing."""

from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.hooks import Hook

from srgan_plugin.data.images import write_image
from srgan_plugin.evaluation.metrics import quantize
from srgan_plugin.files import atomic_path
from srgan_plugin.registry import HOOKS

ATOMIC_BACKEND = "srgan_plugin_atomic"


class AtomicBackend(LocalBackend):
    """mmengine's local files, each appearing under its name only when it is whole."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write `obj`, whole or not at all."""
        with atomic_path(filepath) as temporary:
            temporary.write_bytes(obj)


register_backend(ATOMIC_BACKEND, AtomicBackend, force=True)


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """mmengine's hook; a checkpoint on a local disk appears only when it is whole."""

    def __init__(
        self, *args: Any, backend_args: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if backend_args is None and "://" not in str(kwargs.get("out_dir") or ""):
            backend_args = {"backend": ATOMIC_BACKEND}
        super().__init__(*args, backend_args=backend_args, **kwargs)


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
        name = runner.test_loop.dataloader.dataset.metainfo.get("dataset_name", "")
        for sample in outputs:
            picture = sample.output.pred_img.permute(1, 2, 0).numpy()
            path = self.out_dir / name / f"{sample.metainfo['key']}.png"
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
