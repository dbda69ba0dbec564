"""SRGAN for mmengine and MMagic: importing this package fills the registries of `srgan_plugin`."""

from . import compat

compat.load_checkpoints_safely()

from . import datasets, hooks, loops, metrics, models, optim, preprocessor, transforms  # noqa: E402

__all__ = [
    "compat",
    "datasets",
    "hooks",
    "loops",
    "metrics",
    "models",
    "optim",
    "preprocessor",
    "transforms",
]
