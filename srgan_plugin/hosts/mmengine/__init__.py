"""Classes for mmengine and MMagic; importing this package fills the registries."""

from . import compat, datasets, engine, evaluation, models  # noqa: F401 - fills the registries

compat.load_checkpoints_safely()
