"""BasicSR's models with whole checkpoints, and SRGAN's training step from our objectives."""

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

# What BasicSR's logs call the losses.
LOG_NAMES = {
    "loss_pix": "l_g_pix",
    "loss_perceptual": "l_g_percep",
    "loss_style": "l_g_style",
    "loss_gan": "l_g_gan",
    "loss_d_real": "l_d_real",
    "loss_d_fake": "l_d_fake",
}


class _AtomicSaveMixin:
    """Checkpoints that appear under their name only when they are whole."""

    opt: dict[str, Any]

    def save(self, epoch: int, current_iter: int) -> None:
        """Save networks and training state, the state last; each file whole or not at all.

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
                        if not zipfile.is_zipfile(file):  # whose directory is written last
                            raise FileError(
                                f"could not write {targets[kind] / file.name}: make room, and go "
                                "on with --auto_resume"
                            )
                        with file.open("rb+") as opened:
                            os.fsync(opened.fileno())
                        file.replace(targets[kind] / file.name)
            finally:
                paths.update({kind: str(target) for kind, target in targets.items()})


@MODEL_REGISTRY.register(suffix=SUFFIX)
class SRModel(_AtomicSaveMixin, BasicSRModel):
    """BasicSR's SRModel, whose checkpoints are whole."""


@MODEL_REGISTRY.register(suffix=SUFFIX)
class SRGANModel(_AtomicSaveMixin, BasicSRGANModel):
    """BasicSR's SRGANModel: the same options, logs and files; the objectives are ours."""

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
        judged: dict[str, Tensor] = {}
        # One after the other, as in BasicSR: with several processes its wrapper copies buffers
        # before each forward pass, which in older torch the backward pass of another trips over.
        for kind, loss, logits in discriminator_objective(
            self.net_d, self.gt, self.output.detach(), self.cri_gan
        ):
            torch.autograd.backward(loss)
            losses[f"loss_d_{kind}"] = loss
            judged[f"out_d_{kind}"] = logits.detach().mean()
        self.optimizer_d.step()
        logged = OrderedDict((LOG_NAMES[name], loss) for name, loss in losses.items())
        self.log_dict = self.reduce_loss_dict(logged | judged)
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
