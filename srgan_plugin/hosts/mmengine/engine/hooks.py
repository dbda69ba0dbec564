"""Hooks that time steps, monitor the discriminator, and save or log predicted images."""

import time
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.hooks import IterTimerHook as MMEngineIterTimerHook
from torch import Tensor

from srgan_plugin.errors import UserError, check_count
from srgan_plugin.hosts.mmengine.models.data_preprocessor import as_rgb
from srgan_plugin.io.writers import write_image
from srgan_plugin.metrics.psnr_ssim import quantize
from srgan_plugin.registry import HOOKS

from .multi_loops import dataset_name


@HOOKS.register_module()
class IterTimerHook(MMEngineIterTimerHook):
    """mmengine's IterTimerHook for chunked hook calls; it also logs the share of time for data.

    A chunk is the steps that `SRTrainLoop` runs between two calls of this hook. Times are those
    measured by that loop (`waited` and `steps`); with another loop this is mmengine's hook.
    """

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Time the data, unless the train loop does."""
        if not hasattr(runner.train_loop, "waited"):
            super().before_train_iter(runner, batch_idx, data_batch)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Log the mean times of the steps of a chunk, once for each step, and the time left."""
        loop, hub = runner.train_loop, runner.message_hub
        if not hasattr(loop, "waited"):
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
            return
        now = time.time()
        elapsed = now - float(self.t)
        self.t: float = now
        for _ in range(loop.steps):
            hub.update_scalar("train/data_time", loop.waited / loop.steps)
            hub.update_scalar("train/time", elapsed / loop.steps)
            hub.update_scalar("train/data_wait_fraction", loop.waited / max(elapsed, 1e-9))
        self.time_sec_tot += elapsed
        done = runner.iter + 1  # mmengine counts a step after this hook
        per_step = self.time_sec_tot / (done - self.start_iter)
        hub.update_info("eta", per_step * (runner.max_iters - done))


@HOOKS.register_module()
class DiscriminatorMonitorHook(Hook):
    """Warn while the loss of the discriminator is near 0, and limit the log history.

    Args:
        interval: Iterations between checks, and over which the loss is averaged.
        loss_threshold: Warn if the mean loss of the discriminator, the sum of both terms, is below
            this. With the vanilla loss, a guess gives 2 log 2 = 1.39.
        max_history: Values of each curve in memory and in checkpoints, at least `interval`.
            mmengine keeps a million and copies all of them in every step.

    Raises:
        UserError: `interval` or `max_history` is not an integer of at least 1.
    """

    def __init__(
        self, interval: int = 1000, loss_threshold: float = 0.02, max_history: int = 10_000
    ) -> None:
        check_count(1, interval=interval, max_history=max_history)
        self.interval, self.loss_threshold = interval, loss_threshold
        self.max_history = max(max_history, interval)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Check the loss and limit the history."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        curves = runner.message_hub.log_scalars
        for curve in curves.values():
            curve.max_length = self.max_history
        terms = [curves.get(f"train/loss_d_{kind}") for kind in ("real", "fake")]
        if all(terms):
            loss = sum(term.mean(self.interval) for term in terms if term)
            if 0 <= loss < self.loss_threshold:  # losses of a WGAN may be negative
                runner.logger.warning(
                    f"discriminator loss: expected at least {self.loss_threshold}, got {loss:.4f} "
                    f"over the last {self.interval} iterations, so the generator learns little "
                    "from it; start from a better generator, lower the discriminator's learning "
                    "rate, or raise the GAN weight"
                )


@HOOKS.register_module()
class RandomInitWarningHook(Hook):
    """Warn before a GAN is trained from random weights.

    Args:
        advice: Hint for the log on how to start from trained weights.
    """

    def __init__(self, advice: str) -> None:
        self.advice = advice

    def before_train(self, runner: Any) -> None:
        """Warn unless the run has loaded or resumed a checkpoint."""
        configured = runner.cfg.get("load_from") or runner.cfg.get("resume")
        # mmengine's own record, which also knows a runner without a config, and `resume=True` in an
        # empty work dir.
        if runner.iter or getattr(runner, "_has_loaded", configured):
            return
        runner.logger.warning(f"the generator starts from RANDOM weights. {self.advice}")


@HOOKS.register_module()
class SaveImagesHook(Hook):
    """Save test predictions, rounded to 8 bits, as `out_dir/SET/NAME.png`.

    Args:
        out_dir: Folder to write to.
    """

    def __init__(self, out_dir: str) -> None:
        self.out_dir = Path(out_dir)
        self._saved: set[Path] = set()

    def before_test(self, runner: Any) -> None:
        """Forget the images of an earlier test."""
        self._saved.clear()

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Save the images of a batch.

        Raises:
            UserError: Two images have the same name.
        """
        name = dataset_name(runner.test_loop.dataloader)
        for sample in outputs:
            predicted = as_rgb(sample.output.pred_img, sample.metainfo, "pred_img")
            image = predicted.permute(1, 2, 0).cpu().numpy()
            # MMagic samples have no key.
            source = sample.metainfo.get("gt_path") or sample.metainfo.get("img_path", "image")
            key = sample.metainfo.get("key") or Path(str(source)).stem
            path = self.out_dir / name / f"{key}.png"
            if path in self._saved:
                raise UserError(
                    f"{path}: expected one image of this name, got two ({source}); test without "
                    "--save-images, or rename the images"
                )
            self._saved.add(path)
            write_image(path, quantize(image / 255))


@HOOKS.register_module()
class ValidationImagesHook(Hook):
    """Log LR | SR | GT of the first images of each validation set (TensorBoard, W&B).

    Args:
        count: Number of images of each set.
    """

    def __init__(self, count: int = 1) -> None:
        self.count, self._logged = count, 0

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Log the first images of a set."""
        if not batch_idx:
            self._logged = 0
        name = dataset_name(runner.val_loop.dataloader)
        for index, sample in enumerate(outputs[: max(self.count - self._logged, 0)]):
            key = sample.metainfo.get("key", self._logged)
            self._logged += 1
            image = side_by_side(sample, data_batch, index).permute(1, 2, 0).cpu().numpy()
            # The backend that writes files would not create the folder of a name with a slash.
            title = f"{name}_{key}".replace("/", "_")
            runner.visualizer.add_image(title, image, step=runner.iter)


def side_by_side(sample: Any, data_batch: Any, index: int = 0) -> Tensor:
    """Concatenate LR (by nearest neighbour), SR and GT horizontally.

    Args:
        sample: Sample of an image of a batch, with `output.pred_img`.
        data_batch: Batch of the loader, with LR images as `inputs`.
        index: Number of the image in the batch.

    Returns:
        RGB, (3, H, W to 3 W), uint8; a missing image, or one of another size, is skipped.
    """
    sr = as_rgb(sample.output.pred_img, sample.metainfo, "pred_img")
    gt, lr = (
        as_rgb(sample.get(key), sample.metainfo, key) if key in sample else None
        for key in ("gt_img", "input")
    )
    if lr is None:  # from the loader, in the order of MMagic's if it is from there
        lr = data_batch["inputs"][index]
        is_rgb = str(sample.metainfo.get("img_channel_order", "RGB")).upper() == "RGB"
        lr = lr if is_rgb else lr.flip(0)
    scale = max(sr.shape[-1] // lr.shape[-1], 1)
    lr = lr.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    images = [image for image in (lr, sr, gt) if image is not None and image.shape == sr.shape]
    return torch.cat([image.to(sr.device, sr.dtype) for image in images], -1).round().byte()
