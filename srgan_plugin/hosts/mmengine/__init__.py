"""SRGAN for mmengine and MMagic: importing this package fills the registries of `srgan_plugin`."""

from . import compat

compat.load_checkpoints_safely()

from . import datasets, engine, evaluation, models  # noqa: E402

__all__ = ["compat", "datasets", "engine", "evaluation", "models"]
