"""SRGAN for BasicSR: importing this mends BasicSR and registers our parts by the suffix.

`MSRResNet_srgan_plugin` in a YAML is ours, `MSRResNet` stays BasicSR's.
"""

from . import compat

APPLIED_PATCHES = compat.APPLIED_PATCHES

from . import archs, data, losses, models  # noqa: E402 - BasicSR imports after its mends

__all__ = ["APPLIED_PATCHES", "archs", "compat", "data", "losses", "models"]
