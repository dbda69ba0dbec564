"""Hooks that keep an eye on training: waiting for data, who wins, and how the pictures look."""

from typing import Any

from mmengine.hooks import Hook

from srgan_plugin.registry import HOOKS


@HOOKS.register_module()
class WatchHook(Hook):
    """Logs the share of time spent waiting for data, and warns while the discriminator wins.

    Args:
        window: Iterations over which the discriminator's loss is averaged.
        winning: It wins where its loss, the sum of both terms, stays below this on average; a coin
            toss has 2 log 2 = 1.39 with the vanilla loss.
        max_history: How many values of each curve are kept in memory and in checkpoints. mmengine
            keeps a million and copies them all at every step.
    """

    priority = "BELOW_NORMAL"  # after the timer's hook

    def __init__(
        self, window: int = 1000, winning: float = 0.02, max_history: int = 10_000
    ) -> None:
        self.window, self.winning, self.max_history = window, winning, max_history

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Log and warn."""
        curves = runner.message_hub.log_scalars
        if "train/data_time" in curves and (time := curves["train/time"].current()) > 0:
            share = curves["train/data_time"].current() / time
            runner.message_hub.update_scalar("train/waiting", share)
        if not self.every_n_train_iters(runner, self.window):
            return
        for curve in curves.values():
            curve.max_length = self.max_history
        terms = [curves.get(f"train/loss_d_{kind}") for kind in ("real", "fake")]
        if all(terms):
            loss = sum(term.mean(self.window) for term in terms if term)
            if loss < self.winning:
                runner.logger.warning(
                    f"the discriminator wins: its loss was {loss:.4f} over the last {self.window} "
                    "iterations, so the generator learns little from it. Start from a better "
                    "generator, lower the discriminator's learning rate, or raise the GAN weight"
                )


@HOOKS.register_module()
class ValidationPicturesHook(Hook):
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
        name = runner.val_loop.dataloader.dataset.metainfo.get("dataset_name", "val")
        for sample in outputs[:1]:
            picture = sample.output.pred_img.permute(1, 2, 0).round().byte().numpy()
            key = sample.metainfo.get("key", batch_idx)
            runner.visualizer.add_image(f"{name}/{key}", picture, step=runner.iter)
