"""BasicSR's models with atomic checkpoints, and SRGAN trained by the objectives in `losses`."""

import os
import tempfile
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from basicsr.models.sr_model import SRModel as BasicSRModel
from basicsr.models.srgan_model import SRGANModel as BasicSRGANModel
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor

from srgan_plugin.errors import FileError
from srgan_plugin.losses import discriminator_objective, generator_objective

from .archs import SUFFIX

# Names of the losses in BasicSR's logs.
LOG_NAMES = {
    "loss_pix": "l_g_pix",
    "loss_perceptual": "l_g_percep",
    "loss_style": "l_g_style",
    "loss_gan": "l_g_gan",
    "loss_d_real": "l_d_real",
    "loss_d_fake": "l_d_fake",
}


class _AtomicSaveMixin:
    """Mixin that saves checkpoints atomically."""

    opt: dict[str, Any]

    def save(self, epoch: int, current_iter: int) -> None:
        """Save the networks, then the training state; each file appears when it is complete.

        Args:
            epoch: Number of the epoch.
            current_iter: Number of the iteration.

        Raises:
            OSError: A file could not be written, which BasicSR only logs.
        """
        paths = self.opt["path"]
        kinds = ("models", "training_states")
        targets = {kind: Path(paths[kind]) for kind in kinds}
        with tempfile.TemporaryDirectory(dir=paths["experiments_root"], prefix=".") as made:
            try:
                for kind in kinds:
                    paths[kind] = str(Path(made, kind))
                    Path(paths[kind]).mkdir()
                super().save(epoch, current_iter)  # type: ignore[misc]
                for kind in kinds:
                    for file in sorted(Path(paths[kind]).iterdir()):
                        if not zipfile.is_zipfile(file):  # its directory is written last
                            raise FileError(
                                f"{targets[kind] / file.name}: expected a complete checkpoint, got "
                                "a truncated one; make room and resume by --auto_resume"
                            )
                        with file.open("rb+") as opened:
                            os.fsync(opened.fileno())
                        file.replace(targets[kind] / file.name)
            finally:
                paths.update({kind: str(target) for kind, target in targets.items()})


@MODEL_REGISTRY.register(suffix=SUFFIX)
class SRModel(_AtomicSaveMixin, BasicSRModel):
    """BasicSR's SRModel with atomic checkpoints."""


@MODEL_REGISTRY.register(suffix=SUFFIX)
class SRGANModel(_AtomicSaveMixin, BasicSRGANModel):
    """BasicSR's SRGANModel with atomic checkpoints, trained by the objectives in `losses`.

    Options, logs and files are those of BasicSR.
    """

    def optimize_parameters(self, current_iter: int) -> None:
        """Update the generator, then the discriminator, on the batch of `feed_data`."""
        self.output = self.net_g(self.lq)
        losses: dict[str, Tensor] = {}
        if current_iter % self.net_d_iters == 0 and current_iter > self.net_d_init_iters:
            losses |= self._generator_losses()
            self.optimizer_g.zero_grad()
            torch.autograd.backward(torch.stack(list(losses.values())).sum())
            self.optimizer_g.step()
        self.optimizer_d.zero_grad()
        mean_logits: dict[str, Tensor] = {}
        # One after the other, as in BasicSR: with several processes DDP copies buffers before each
        # forward pass, and in older torch the backward pass of another one fails on that.
        for kind, loss, logits in discriminator_objective(
            self.net_d, self.gt, self.output.detach(), self.cri_gan
        ):
            torch.autograd.backward(loss)
            losses[f"loss_d_{kind}"] = loss
            mean_logits[f"out_d_{kind}"] = logits.detach().mean()
        self.optimizer_d.step()
        logged = OrderedDict((LOG_NAMES[name], loss) for name, loss in losses.items())
        self.log_dict = self.reduce_loss_dict(logged | mean_logits)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def _generator_losses(self) -> dict[str, Tensor]:
        self.net_d.requires_grad_(False)
        logits = self.net_d(self.output)
        self.net_d.requires_grad_(True)
        return generator_objective(
            self.output,
            self.gt,
            pixel=self.cri_pix,
            perceptual=self.cri_perceptual,
            gan=self.cri_gan,
            fake_logits=logits,
        )
