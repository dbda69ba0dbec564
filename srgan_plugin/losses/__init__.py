"""The losses and the two objectives of SRGAN, in plain torch."""

from .adversarial import GANLoss, gan_loss
from .objectives import discriminator_objective, generator_objective
from .perceptual import PerceptualLoss, gram_matrix
from .pixel import L1Loss, MSELoss, pixel_loss

__all__ = [
    "GANLoss",
    "L1Loss",
    "MSELoss",
    "PerceptualLoss",
    "discriminator_objective",
    "gan_loss",
    "generator_objective",
    "gram_matrix",
    "pixel_loss",
]
