"""Checkpoints: read safely, recognised by their keys and shapes, loaded strictly or not at all."""

from srgan_plugin.zoo.layouts import adapt_training_state, load_generator_weights
from srgan_plugin.zoo.loading import load_checkpoint_file
from srgan_plugin.zoo.networks import Identified, generator_changes, identify, open_network
from srgan_plugin.zoo.recognition import describe
from srgan_plugin.zoo.saving import save_atomically
from srgan_plugin.zoo.wrappings import unwrap

__all__ = [
    "Identified",
    "adapt_training_state",
    "describe",
    "generator_changes",
    "identify",
    "load_checkpoint_file",
    "load_generator_weights",
    "open_network",
    "save_atomically",
    "unwrap",
]
