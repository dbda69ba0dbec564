"""Metadata of exported networks."""

from collections.abc import Mapping
from typing import Any, Final

from torch import nn

from srgan_plugin import __version__
from srgan_plugin.networks import Generator

#: Keys of the metadata, in the order in which they are shown.
METADATA: Final = (
    *("name", "license", "network", "scale", "input_channels", "output_channels"),
    *("channel_order", "input_range", "output_range", "producer"),
)
_ORDERS = {(1, 1): "gray", (3, 3): "RGB"}


def metadata_of(
    network: nn.Module, *, name: str | None = None, license: str | None = None
) -> dict[str, str]:
    """Return the metadata of a network for an exported file.

    `input_range` and `output_range` are those of `forward`.

    Args:
        network: A network of this package.
        name: Name of the model, or None.
        license: Licence of the weights, such as `cc-by-sa-4.0`, or None.
    """
    facts: dict[str, str | None] = {"name": name, "license": license}
    facts["network"] = type(network).__name__
    if isinstance(network, Generator):
        channels = network.conv_first.in_channels, network.conv_last.out_channels
        facts |= {
            "scale": str(network.upscale_factor),
            "input_channels": str(channels[0]),
            "output_channels": str(channels[1]),
            "channel_order": _ORDERS.get(channels),
            "input_range": "[0, 1]",
            "output_range": "[0, 1]",
        }
    facts["producer"] = f"srgan_plugin {__version__}"
    return {key: value for key, value in facts.items() if value}


def stated_metadata(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata in a checkpoint, from `load_checkpoint_file`."""
    meta = checkpoint.get("meta")
    if not isinstance(meta, Mapping):
        return {}
    return {key: meta[key] for key in METADATA if isinstance(meta.get(key), str)}
