"""Checkpoints: read safely, detect the network, load strictly, convert and export."""

from .detect import DetectedNetwork, generator_changes, identify, open_network
from .layouts import describe
from .load import adapt_training_state, load_generator_weights
from .read_write import load_checkpoint_file, save_atomically
from .wrappers import unwrap

__all__ = [
    "DetectedNetwork",
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
