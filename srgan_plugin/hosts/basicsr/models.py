"""BasicSR's models with atomic checkpoints, and SRGAN trained by the objectives in `losses`."""

import os
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from basicsr.models.sr_model import SRModel as BasicSRModel
from basicsr.models.srgan_model import SRGANModel as BasicSRGANModel
from basicsr.utils.dist_util import get_dist_info
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
            FileError: A file is missing or truncated, which BasicSR only logs.
            OSError: A file cannot be written.
        """
        if get_dist_info()[0]:
            return  # BasicSR saves on the first rank, the only one that creates the folders
        paths = self.opt["path"]
        targets = {kind: Path(paths[kind]) for kind in ("models", "training_states")}
        with ExitStack() as stack:
            stack.callback(paths.update, {kind: str(target) for kind, target in targets.items()})
            for kind, target in targets.items():  # each may be on a disk of its own
                paths[kind] = stack.enter_context(TemporaryDirectory(dir=target, prefix="."))
            super().save(epoch, current_iter)  # type: ignore[misc]
            written = {path: targets[kind] / path.name for kind, path in self._files(current_iter)}
            for path, target in written.items():
                if not _is_complete(path):
                    raise FileError(
                        f"{target}: expected a complete checkpoint, got none or a truncated one; "
                        "make room and resume by --auto_resume"
                    )
            for path, target in written.items():
                with path.open("rb+") as opened:
                    os.fsync(opened.fileno())
                path.replace(target)

    def _files(self, iteration: int) -> Iterator[tuple[str, Path]]:
        """Yield the kind and the path of each file that BasicSR saves, where `path` tells it to."""
        paths, name = self.opt["path"], "latest" if iteration == -1 else str(iteration)
        for label in ("net_g", "net_d"):
            if getattr(self, label, None) is not None:
                yield "models", Path(paths["models"], f"{label}_{name}.pth")
        if iteration != -1:
            yield "training_states", Path(paths["training_states"], f"{name}.state")


def _is_complete(path: Path) -> bool:
    """Return whether a file of `torch.save` is complete: its table of contents is written last."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:  # without the pickle if an object could not be pickled
        return any(name.endswith("/data.pkl") for name in archive.namelist())


@MODEL_REGISTRY.register(suffix=SUFFIX)
class SRModel(_AtomicSaveMixin, BasicSRModel):
    """BasicSR's SRModel with atomic checkpoints: `model_type: SRModel_srgan_plugin`."""


@MODEL_REGISTRY.register(suffix=SUFFIX)
class SRGANModel(_AtomicSaveMixin, BasicSRGANModel):
    """BasicSR's SRGANModel with atomic checkpoints, trained by the objectives in `losses`.

    `model_type: SRGANModel_srgan_plugin`. Options, logs and files are those of BasicSR.
    """

    def optimize_parameters(self, current_iter: int) -> None:
        """Update the generator, then the discriminator, on the batch of `feed_data`."""
        self.output = self.net_g(self.lq)
        losses: dict[str, Tensor] = {}
        if current_iter % self.net_d_iters == 0 and current_iter > self.net_d_init_iters:
            losses |= self._generator_losses()
            self.optimizer_g.zero_grad()
            torch.autograd.backward(torch.stack([loss.sum() for loss in losses.values()]).sum())
            self.optimizer_g.step()
        self.optimizer_d.zero_grad()
        mean_logits: dict[str, Tensor] = {}
        # One backward pass per term, as in BasicSR: DDP copies buffers in place before each forward
        # pass, which in older torch breaks a backward pass through an earlier one.
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
