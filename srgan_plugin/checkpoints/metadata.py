"""Metadata of exported networks."""

from collections.abc import Mapping
from typing import Any, Final

from torch import nn

from srgan_plugin import __version__
from srgan_plugin.networks import Generator

#: Keys of the metadata, in the order of display.
METADATA_KEYS: Final = (
    "name",
    "license",
    "network",
    "scale",
    "input_channels",
    "output_channels",
    "channel_order",
    "input_range",
    "output_range",
    "producer",
)
_CHANNEL_ORDERS = {(1, 1): "gray", (3, 3): "RGB"}


def export_metadata(
    network: nn.Module, *, name: str | None = None, license: str | None = None
) -> dict[str, str]:
    """Return the metadata of a network for an exported file.

    `input_range` and `output_range` are those of `forward`, [0, 1] for all generators, and not the
    arguments of a network with these names. The output is not clamped.

    Args:
        network: A network of this package, without a wrapper.
        name: Name of the model; None or '' omits it.
        license: Licence of the weights, such as `cc-by-sa-4.0`; None or '' omits it.

    Returns:
        Values by the keys in `METADATA_KEYS`. Those of the scale, channels and ranges are omitted
        for a discriminator, and `channel_order` if input and output have other channels than grey
        or RGB.
    """
    metadata: dict[str, str | None] = {"name": name, "license": license}
    metadata["network"] = type(network).__name__
    if isinstance(network, Generator):
        channels = network.conv_first.in_channels, network.conv_last.out_channels
        metadata |= {
            "scale": str(network.upscale_factor),
            "input_channels": str(channels[0]),
            "output_channels": str(channels[1]),
            "channel_order": _CHANNEL_ORDERS.get(channels),
            "input_range": "[0, 1]",
            "output_range": "[0, 1]",
        }
    metadata["producer"] = f"srgan_plugin {__version__}"
    return {key: value for key, value in metadata.items() if value}


def read_metadata(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata in the content of a checkpoint, as text, whoever wrote it.

    Returns:
        Values by key, of those in `METADATA_KEYS` that are text; empty if there are none.
    """
    meta = checkpoint.get("meta")
    if not isinstance(meta, Mapping):
        return {}
    return {key: meta[key] for key in METADATA_KEYS if isinstance(meta.get(key), str)}
