"""The networks, in plain torch: generators, discriminators and VGG-19 features.

A network is registered once, in `GENERATORS` or `DISCRIMINATORS`, for both toolboxes and for the
checkpoints.

Example:
    >>> sorted(GENERATORS), sorted(DISCRIMINATORS)
    (['MSRResNet', 'SRResNet'], ['ModifiedVGG', 'SRGANDiscriminator'])
"""

from .discriminators import DISCRIMINATORS, ModifiedVGG, SRGANDiscriminator
from .generators import GENERATORS, Generator, MSRResNet, SRResNet
from .vgg import VGG19Features, random_vgg19_state_dict

__all__ = [
    "DISCRIMINATORS",
    "GENERATORS",
    "Generator",
    "MSRResNet",
    "ModifiedVGG",
    "SRGANDiscriminator",
    "SRResNet",
    "VGG19Features",
    "random_vgg19_state_dict",
]
