"""SRGAN for mmengine and MMagic: importing this package fills the registries of `srgan_plugin`."""

from . import compat

compat.load_checkpoints_safely()

from . import (  # noqa: E402
    datasets,
    distributed,
    heartbeat,
    hooks,
    loops,
    metrics,
    models,
    optim,
    optim_of_each,
    packing,
    parts,
    preprocessor,
    resume,
    srgan,
    train_loop,
    transforms,
    watch,
)

__all__ = [
    "compat",
    "datasets",
    "distributed",
    "heartbeat",
    "hooks",
    "loops",
    "metrics",
    "models",
    "optim",
    "optim_of_each",
    "packing",
    "parts",
    "preprocessor",
    "resume",
    "srgan",
    "train_loop",
    "transforms",
    "watch",
]
