"""Open generators by name or file, and interpolate the weights of two of them."""

from collections.abc import Mapping
from typing import Any

import torch

from srgan_plugin.checkpoints import open_network
from srgan_plugin.checkpoints.hub import local_checkpoint, network_arguments
from srgan_plugin.checkpoints.recorded_args import NON_INFERABLE_ARGS, same_argument
from srgan_plugin.errors import UserError
from srgan_plugin.networks import Generator


def open_model(
    model: str = "msrresnet",
    *,
    blend: float | None = None,
    blend_with: str = "srgan",
    arch_options: Mapping[str, Any] | None = None,
) -> Generator:
    """Return a generator with bundled weights, weights from a checkpoint, or a blend of two.

    Args:
        model: `"msrresnet"`, `"srgan"`, `"photo"`, the name of a checkpoint that OpenMMLab or KAIR
            published, a path, or a URL. Averaged weights (EMA) are preferred if a file has both.
        blend: Weight of `blend_with`, in [0, 1]: every parameter, and running mean and variance,
            is (1 - blend) * model + blend * blend_with (network interpolation, ESRGAN, Wang et al.
            2018, sec. 3.4). None: no blend.
        blend_with: The second network, in a form as for `model`, of the same architecture and size.
        arch_options: Arguments, for both networks, that neither weights nor file show, such as
            `output_range` of an SRResNet, `activate_after_shuffle` of an MSRResNet; the names are
            those of `checkpoints.recorded_args.NON_INFERABLE_ARGS`.

    Returns:
        The network, in float32, on the CPU, in evaluation mode: RGB in [0, 1], (N, 3, H, W), to
        RGB, not clamped.

    Raises:
        MissingFileError: The file or name does not exist. The message lists similar names.
        UserError: A file is damaged or contains another kind of network; an argument without a
            safe default, such as `output_range`, is neither recorded nor in `arch_options` (for
            `activate_after_shuffle`, a warning is logged); the two networks differ in architecture
            or size; or `blend` is out of range.

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
        raise UserError(f"blend: expected 0 ({model} alone) to 1 ({blend_with} alone), got {blend}")
    if model == blend_with:
        raise UserError(f"blend_with: expected another network than model, got {model} twice")
    second = _open(blend_with, arch_options)
    if _shapes(first) != _shapes(second):
        raise UserError(
            f"blend: expected two networks of the same architecture and size, got {model}, "
            f"{type(first).__name__}, and {blend_with}, {type(second).__name__}, which differ"
        )
    for name in NON_INFERABLE_ARGS:  # they change the output, but not the shapes of the weights
        one, other = (getattr(network, name, None) for network in (first, second))
        if not same_argument(one, other):
            raise UserError(
                f"blend: expected two networks with the same {name}, got {model} with {one} and "
                f"{blend_with} with {other}; give --arch-option {name}=… if a file does not record "
                "it and its network was trained otherwise"
            )
    others = second.state_dict()
    blended = {
        key: torch.lerp(weight, others[key], blend) if weight.is_floating_point() else weight
        for key, weight in first.state_dict().items()
    }
    first.load_state_dict(blended)
    return first


def _open(model: str, arch_options: Mapping[str, Any] | None) -> Generator:
    path = local_checkpoint(model)
    arguments = network_arguments(model, arch_options or {})
    network = open_network(path, arguments=arguments)
    if not isinstance(network, Generator):
        raise UserError(f"{path}: expected a generator, got {type(network).__name__}")
    channels = network.conv_first.in_channels, network.conv_last.out_channels
    if channels != (3, 3):
        raise UserError(
            f"{path}: expected a network from 3 to 3 channels, got {channels[0]} to {channels[1]}"
        )
    return network


def _shapes(network: Generator) -> tuple[str, dict[str, torch.Size]]:
    shapes = {key: weight.shape for key, weight in network.state_dict().items()}
    return type(network).__name__, shapes
