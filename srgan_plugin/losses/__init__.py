"""The losses and the two objectives of SRGAN, in plain torch.

A loss is registered once, in `LOSSES`, for both toolboxes.

Example:
    >>> sorted(LOSSES)
    ['GANLoss', 'L1Loss', 'MSELoss', 'PSNRLoss', 'PerceptualLoss']
"""

from torch import nn

from .adversarial import GANLoss, discriminator_objective, gan_loss, generator_objective
from .perceptual import PerceptualLoss, gram_matrix
from .pixel import L1Loss, MSELoss, PSNRLoss, pixel_loss

LOSSES: dict[str, type[nn.Module]] = {
    cls.__name__: cls for cls in (L1Loss, MSELoss, PSNRLoss, PerceptualLoss, GANLoss)
}

__all__ = [
    "LOSSES",
    "GANLoss",
    "L1Loss",
    "MSELoss",
    "PSNRLoss",
    "PerceptualLoss",
    "discriminator_objective",
    "gan_loss",
    "generator_objective",
    "gram_matrix",
    "pixel_loss",
]
