"""SRGAN for BasicSR: importing this mends BasicSR and registers our parts by the suffix.

`MSRResNet_srgan_plugin` in a YAML is ours, `MSRResNet` stays BasicSR's.
"""

from .compat import APPLIED_PATCHES

# isort: split
from . import archs, data, losses, models  # BasicSR imports after its mends

__all__ = ["APPLIED_PATCHES", "archs", "data", "losses", "models"]
