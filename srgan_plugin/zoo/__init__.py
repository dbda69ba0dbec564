"""Checkpoints: read safely, recognised by their keys and shapes, loaded strictly or not at all."""

from srgan_plugin.zoo.layouts import adapt_training_state, describe, load_generator_weights, unwrap
from srgan_plugin.zoo.loading import load_checkpoint_file, save_atomically

__all__ = [
    "adapt_training_state",
    "describe",
    "load_checkpoint_file",
    "load_generator_weights",
    "save_atomically",
    "unwrap",
]
