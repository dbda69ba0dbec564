"""SRGAN's training step from our objectives, as a model of BasicSR's."""

import os
import tempfile
from collections import OrderedDict
from pathlib import Path

import torch
from basicsr.models.srgan_model import SRGANModel as BasicSRGANModel
from basicsr.utils.registry import MODEL_REGISTRY
from torch import Tensor

from srgan_plugin import core

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


@MODEL_REGISTRY.register(suffix=SUFFIX)
class SRGANModel(BasicSRGANModel):
    """BasicSR's SRGANModel: the same options, logs and files; the objectives are `core`'s.

    Checkpoints appear under their name only when they are whole.
    """

    def optimize_parameters(self, current_iter: int) -> None:
        """Update the generator, then the discriminator, on the batch of `feed_data`."""
        self.output = self.net_g(self.lq)
        losses: dict[str, Tensor] = {}
        if current_iter % self.net_d_iters == 0 and current_iter > self.net_d_init_iters:
            losses |= self._generator_losses()
            self._minimise(losses, self.optimizer_g)
        real, fake = self.net_d(self.gt), self.net_d(self.output.detach())
        ours = core.discriminator_objective(real, fake, self.cri_gan)
        self._minimise(ours, self.optimizer_d)
        logged = OrderedDict((LOG_NAMES[name], loss) for name, loss in (losses | ours).items())
        logged |= {"out_d_real": real.detach().mean(), "out_d_fake": fake.detach().mean()}
        self.log_dict = self.reduce_loss_dict(logged)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    def _generator_losses(self) -> dict[str, Tensor]:
        self.net_d.requires_grad_(False)
        logits = self.net_d(self.output)
        self.net_d.requires_grad_(True)
        return core.generator_objective(
            self.output,
            self.gt,
            pixel=self.cri_pix,
            perceptual=self.cri_perceptual,
            gan=self.cri_gan,
            fake_logits=logits,
        )

    @staticmethod
    def _minimise(losses: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        optimizer.step()

    def save(self, epoch: int, current_iter: int) -> None:
        """Save networks and training state, the state last; each file whole or not at all."""
        paths = self.opt["path"]
        kinds = ("models", "training_states")
        targets = {kind: Path(paths[kind]) for kind in kinds}
        with tempfile.TemporaryDirectory(dir=paths["experiments_root"], prefix=".") as made:
            try:
                for kind in kinds:
                    paths[kind] = str(Path(made, kind))
                    Path(paths[kind]).mkdir()
                super().save(epoch, current_iter)
                for kind in kinds:
                    for file in sorted(Path(paths[kind]).iterdir()):
                        with file.open("rb+") as opened:
                            os.fsync(opened.fileno())
                        file.replace(targets[kind] / file.name)
            finally:
                paths.update({kind: str(target) for kind, target in targets.items()})
