"""SRGAN for mmengine and MMagic: importing this package fills the registries of `srgan_plugin`."""

from . import compat, datasets, engine, evaluation, models

compat.load_checkpoints_safely()

__all__ = ["compat", "datasets", "engine", "evaluation", "models"]
