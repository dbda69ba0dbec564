"""Describe checkpoint files in text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srgan_plugin.errors import UserError
from srgan_plugin.io.download import sha256

from .detect import DetectedNetwork, UnknownNetworkError, identify, option
from .layouts import describe
from .metadata import read_metadata
from .read_write import filename_hash, load_checkpoint_file
from .recorded_args import format_arguments
from .wrappers import NoWeightsError, unwrap_with_rest

#: Prefix of the topic `fits` for a file that does not load, before the reason.
REFUSED = "no: "
_SHUFFLE_ACTIVATION = {
    True: "LeakyReLU after each pixel shuffle, as in BasicSR and KAIR",
    False: "no activation after the pixel shuffles, as in MMagic",
    None: "no activation after the pixel shuffles, unless trained with activate_after_shuffle=True",
}


def inspect_checkpoint(
    path: str | Path, arguments: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Return a description of a checkpoint file: {topic: text}, in the order of display.

    Args:
        path: A checkpoint of any network, in a format that `load_checkpoint_file` reads.
        arguments: Arguments of the network that are known otherwise, such as those of
            `hub.published_arguments`; wrong ones are reported under "fits".

    Returns:
        Texts for "file", "SHA-256", "holds", "fits" and what else is known. "fits" begins with
        `REFUSED` if the file does not load.

    Raises:
        MissingFileError: The file does not exist.
        OSError: The file cannot be read.
        UserError: The file is damaged, not a checkpoint, or would run code.
    """
    path = Path(path)
    checkpoint = load_checkpoint_file(path)
    topics = {
        "file": f"{path}, {path.stat().st_size} bytes",
        "SHA-256": sha256(path) + (", as in its name" if filename_hash(path.name) else ""),
    }
    try:
        weights, rest, source, averaged = unwrap_with_rest(checkpoint)
    except UserError as error:
        others = "weights, but not those of one network in plain form"
        content = "no weights" if isinstance(error, NoWeightsError) else others
        return topics | {"holds": content, "fits": f"{REFUSED}{error}"}
    kind = "averaged (EMA)" if averaged else "not marked as averaged (EMA)"
    beside = {
        "weights": f"{kind}{source and f'; from {source}'}",
        "beside it": ", ".join(rest) or "nothing",
    }
    try:
        found = identify(checkpoint, arguments=arguments)
    except UserError as error:
        known = "; not a network of srgan_plugin" if isinstance(error, UnknownNetworkError) else ""
        holds = {"holds": f"{describe(weights)}{known}"}
        return topics | holds | beside | {"fits": f"{REFUSED}{error}"}
    topics |= {"holds": str(found), "arguments": format_arguments(found.arguments)}
    if found.layout.network == "MSRResNet":
        topics["function"] = _SHUFFLE_ACTIVATION[found.arguments.get("activate_after_shuffle")]
    if found.unrecorded:
        options = " ".join(map(option, found.unrecorded))
        names = ", ".join(found.unrecorded)
        when = "" if found.required else " if it was trained so"
        topics["unrecorded"] = (
            f"{names}, whose value is not in the file; give {options}{when} where it is opened"
        )
    if metadata := read_metadata(checkpoint):
        topics["metadata"] = "; ".join(f"{key}: {value}" for key, value in metadata.items())
    topics["fits"] = _describe_fit(found)
    meta = checkpoint.get("meta")
    step = meta.get("iter") if isinstance(meta, Mapping) else None
    return topics | beside | ({"iteration": str(step)} if type(step) is int else {})


def _describe_fit(found: DetectedNetwork) -> str:
    """Return the class that the weights fit and under which condition, or why they fit none."""
    condition = f", if {', '.join(found.required)} is given" if found.required else ""
    if set(found.required) & set(found.layout.required_args):
        return f"srgan_plugin's {found.layout.network}{condition}; not checked"
    try:
        network = found.build(assume=True)
    except UserError as error:
        return f"{REFUSED}{error}"
    count = sum(parameter.numel() for parameter in network.parameters())
    return f"srgan_plugin's {type(network).__name__}, {count} parameters, strictly{condition}"
