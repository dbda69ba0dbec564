"""Networks by name or file, and blends of two of them."""

from collections.abc import Mapping
from typing import Any, Final

import torch

from srgan_plugin.checkpoints import open_network
from srgan_plugin.checkpoints.hub import local_checkpoint, stated_arguments
from srgan_plugin.checkpoints.recorded_args import NON_INFERABLE_ARGS
from srgan_plugin.errors import UserError
from srgan_plugin.networks import Generator

# Two networks of the same function have these in common, and the shapes of their weights.
_SWITCHES: Final = ("upscale_factor", *NON_INFERABLE_ARGS)


def open_model(
    model: str = "msrresnet",
    *,
    blend: float | None = None,
    blend_with: str = "srgan",
    arch_options: Mapping[str, Any] | None = None,
) -> Generator:
    """Make a generator from bundled weights, from a checkpoint, or from a blend of two.

    Args:
        model: `"msrresnet"`, `"srgan"`, a published checkpoint's name, or a path or URL.
        blend: Mix the weights of two networks, each (1 - blend) * model + blend * blend_with
            (network interpolation, ESRGAN, Wang et al. 2018, sec. 3.4). In [0, 1].
        blend_with: The other network.
        arch_options: What a checkpoint does not state of its network: `output_range` of an
            SRResNet, `activate_after_shuffle` of an MSRResNet; for both networks.

    Returns:
        The network, float32, on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: There is no such file or name; the message lists those like it.
        UserError: A file is damaged, holds another network or leaves open what it computes, the
            two networks do not fit each other, or `blend` is out of range.

    Example:
        >>> from srgan_plugin.inference import open_model
        >>> network = open_model("msrresnet")
        >>> type(network).__name__, network.upscale_factor
        ('MSRResNet', 4)
    """
    first = _open(model, arch_options)
    if blend is None:
        return first
    if not 0 <= blend <= 1:
        raise UserError(f"blend is from 0 ({model} alone) to 1 ({blend_with} alone), got {blend}")
    if model == blend_with:
        raise UserError(
            f"blend mixes two networks, got {model} twice: name another one to blend with"
        )
    second = _open(blend_with, arch_options)
    if _form(first) != _form(second):
        raise UserError(
            f"{model} and {blend_with} cannot be blended: expected two networks of the same form, "
            f"got {_form(first)[0]} and {_form(second)[0]} whose sizes or switches differ"
        )
    others = second.state_dict()
    mixture = {
        key: torch.lerp(weight, others[key], blend) if weight.is_floating_point() else weight
        for key, weight in first.state_dict().items()
    }
    first.load_state_dict(mixture)
    return first


def _open(model: str, arch_options: Mapping[str, Any] | None) -> Generator:
    path = local_checkpoint(model)
    arguments = {**stated_arguments(model), **(arch_options or {})}
    network = open_network(path, arguments=arguments)
    if not isinstance(network, Generator):
        raise UserError(f"{path}: expected a generator, got {type(network).__name__}")
    channels = network.conv_first.in_channels, network.conv_last.out_channels
    if channels != (3, 3):
        raise UserError(
            f"{path}: expected a network from 3 to 3 channels, got {channels[0]} to {channels[1]}"
        )
    return network


def _form(network: Generator) -> tuple[object, ...]:
    switches = [getattr(network, name, None) for name in _SWITCHES]
    shapes = {key: weight.shape for key, weight in network.state_dict().items()}
    return type(network).__name__, switches, shapes
