"""What an exported file states of its network beside the weights."""

from collections.abc import Mapping
from typing import Any, Final

from torch import nn

from srgan_plugin import __version__
from srgan_plugin.networks import Generator

#: The keys of `metadata_of`, in the order in which they are shown.
METADATA: Final = (
    *("name", "license", "network", "scale", "input_channels", "output_channels"),
    *("channel_order", "input_range", "output_range", "producer"),
)
_ORDERS = {(1, 1): "gray", (3, 3): "RGB"}


def metadata_of(
    network: nn.Module, *, name: str | None = None, license: str | None = None
) -> dict[str, str]:
    """Return the metadata of an exported network, as text by key.

    The ranges are those of `forward`, whatever the last convolution was trained to produce.

    Args:
        network: One of our networks.
        name: Of the model; left out where it is None.
        license: Of the weights, such as `cc-by-sa-4.0`; left out where it is None.
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
    """Return the metadata that a checkpoint states, as text by key.

    Args:
        checkpoint: What `load_checkpoint_file` returned.
    """
    meta = checkpoint.get("meta")
    if not isinstance(meta, Mapping):
        return {}
    return {key: meta[key] for key in METADATA if isinstance(meta.get(key), str)}
