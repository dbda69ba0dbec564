"""What SRGAN is, in plain torch: networks, losses and the two objectives."""

from .adversarial import GANLoss, gan_loss
from .discriminators import ModifiedVGG, SRGANDiscriminator
from .generators import MSRResNet, SRResNet
from .objectives import discriminator_objective, generator_objective
from .perceptual import PerceptualLoss, gram_matrix
from .pixel import L1Loss, MSELoss, pixel_loss
from .vgg import VGG19Features
from .vgg_weights import random_vgg19_state_dict

__all__ = [
    "GANLoss",
    "L1Loss",
    "MSELoss",
    "MSRResNet",
    "ModifiedVGG",
    "PerceptualLoss",
    "SRGANDiscriminator",
    "SRResNet",
    "VGG19Features",
    "discriminator_objective",
    "gan_loss",
    "generator_objective",
    "gram_matrix",
    "pixel_loss",
    "random_vgg19_state_dict",
]
