"""Hooks that write or show predicted images."""

from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from srgan_plugin.hosts.mmengine.models.data_preprocessor import as_rgb
from srgan_plugin.io.writers import write_image
from srgan_plugin.metrics.psnr_ssim import quantize
from srgan_plugin.registry import HOOKS

from .multi_loops import dataset_name


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
        name = dataset_name(runner.test_loop.dataloader)
        for sample in outputs:
            predicted = as_rgb(sample.output.pred_img, sample.metainfo)
            image = predicted.permute(1, 2, 0).cpu().numpy()
            # MMagic's samples have no key.
            key = sample.metainfo.get("key") or Path(sample.metainfo["gt_path"]).stem
            path = self.out_dir / name / f"{key}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, quantize(image / 255))


@HOOKS.register_module()
class ValidationImagesHook(Hook):
    """Shows the first pictures of each validation set in the visualizer (TensorBoard, W&B).

    Args:
        count: How many of each set.
    """

    def __init__(self, count: int = 1) -> None:
        self.count = count

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Add the prediction."""
        if batch_idx >= self.count:
            return
        name = dataset_name(runner.val_loop.dataloader)
        for sample in outputs[:1]:
            predicted = as_rgb(sample.output.pred_img, sample.metainfo)
            image = predicted.permute(1, 2, 0).round().byte().cpu().numpy()
            key = sample.metainfo.get("key", batch_idx)
            runner.visualizer.add_image(f"{name}/{key}", image, step=runner.iter)
