"""Patch BasicSR and register the classes of this package with the suffix `_srgan_plugin`.

`MSRResNet_srgan_plugin` in a YAML file is the class of this package, `MSRResNet` that of BasicSR.
"""

from .compat import APPLIED_PATCHES

# isort: split
from . import archs, data, losses, models  # BasicSR can be imported after its patches

__all__ = ["APPLIED_PATCHES", "archs", "data", "losses", "models"]
