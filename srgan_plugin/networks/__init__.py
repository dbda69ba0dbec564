"""The networks, in plain torch: generators, discriminators and VGG-19 features."""

from .discriminators import ModifiedVGG, SRGANDiscriminator
from .generators import MSRResNet, SRResNet
from .vgg import VGG19Features, random_vgg19_state_dict

__all__ = [
    "MSRResNet",
    "ModifiedVGG",
    "SRGANDiscriminator",
    "SRResNet",
    "VGG19Features",
    "random_vgg19_state_dict",
]
