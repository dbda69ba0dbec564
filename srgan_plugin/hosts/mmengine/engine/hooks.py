"""Hooks that time steps, monitor the discriminator, and write or show predicted images."""

import time
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.hooks import IterTimerHook as MMEngineIterTimerHook
from torch import Tensor

from srgan_plugin.hosts.mmengine.models.data_preprocessor import as_rgb
from srgan_plugin.io.writers import write_image
from srgan_plugin.metrics.psnr_ssim import quantize
from srgan_plugin.registry import HOOKS

from .multi_loops import dataset_name


@HOOKS.register_module()
class IterTimerHook(MMEngineIterTimerHook):
    """mmengine's timer, for loops that run many steps per call; logs the share spent waiting."""

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Whether the train loop measures its own wait for data."""
        if not hasattr(runner.train_loop, "waited"):
            super().before_train_iter(runner, batch_idx, data_batch)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Log the mean times of the stretch's steps, once for each, and the time to go."""
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
        done = runner.iter - self.start_iter + 1
        hub.update_info("eta", self.time_sec_tot / done * (runner.max_iters - runner.iter - 1))


@HOOKS.register_module()
class DiscriminatorMonitorHook(Hook):
    """Warns while the discriminator wins, and keeps the curves short.

    Args:
        interval: Look every so many iterations, at the discriminator's loss averaged over these.
        loss_threshold: It wins where its loss, the sum of both terms, stays below this on average;
        a coin
            toss has 2 log 2 = 1.39 with the vanilla loss.
        max_history: How many values of each curve are kept in memory and in checkpoints. mmengine
            keeps a million and copies them all at every step.
    """

    def __init__(
        self, interval: int = 1000, loss_threshold: float = 0.02, max_history: int = 10_000
    ) -> None:
        self.interval, self.loss_threshold, self.max_history = interval, loss_threshold, max_history

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Look and warn."""
        if not self.every_n_train_iters(runner, self.interval):
            return
        curves = runner.message_hub.log_scalars
        for curve in curves.values():
            curve.max_length = self.max_history
        terms = [curves.get(f"train/loss_d_{kind}") for kind in ("real", "fake")]
        if all(terms):
            loss = sum(term.mean(self.interval) for term in terms if term)
            if 0 <= loss < self.loss_threshold:  # the losses of a WGAN have no such floor
                runner.logger.warning(
                    f"the discriminator wins: its loss was {loss:.4f} over the last "
                    f"{self.interval} iterations, so the generator learns little from it. Start "
                    "from a better generator, lower the discriminator's learning rate, or raise "
                    "the GAN weight"
                )


@HOOKS.register_module()
class RandomInitWarningHook(Hook):
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
        runner.logger.warning(f"the generator starts from RANDOM weights. {self.advice}")


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
        """Write the images of one batch."""
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
    """Show LR | SR | GT of the first images of each validation set (TensorBoard, W&B).

    Args:
        count: How many of each set.
    """

    def __init__(self, count: int = 1) -> None:
        self.count = count

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Add the image."""
        if batch_idx >= self.count:
            return
        name = dataset_name(runner.val_loop.dataloader)
        for sample in outputs[:1]:
            key = sample.metainfo.get("key", batch_idx)
            image = side_by_side(sample, data_batch).permute(1, 2, 0).cpu().numpy()
            # A slash is a folder to the backend that writes files, which it does not make.
            title = f"{name}_{key}".replace("/", "_")
            runner.visualizer.add_image(title, image, step=runner.iter)


def side_by_side(sample: Any, data_batch: Any) -> Tensor:
    """Return LR, in squares of the SR image's scale, SR and GT beside each other.

    Args:
        sample: The prediction for the first image of a batch, with `output.pred_img`.
        data_batch: The batch that the loader gave, with LR images as `inputs`.

    Returns:
        (3, H, W or 2 W or 3 W), uint8, RGB; without what is missing or of another size.
    """
    sr = as_rgb(sample.output.pred_img, sample.metainfo)
    gt, lr = (
        as_rgb(sample.get(key), sample.metainfo) if key in sample else None
        for key in ("gt_img", "input")
    )
    lr = data_batch["inputs"][0] if lr is None else lr  # as it was read, in RGB
    scale = max(sr.shape[-1] // lr.shape[-1], 1)
    lr = lr.repeat_interleave(scale, -2).repeat_interleave(scale, -1)
    images = [image for image in (lr, sr, gt) if image is not None and image.shape == sr.shape]
    return torch.cat([image.to(sr.device, sr.dtype) for image in images], -1).round().byte()
