"""Infer the arguments of a network from the keys and shapes of its weights.

`state` is a state dict with the keys of this package. A function returns None if the weights do not
show the argument; its value is then recorded in the file, assumed for the layout, or the default of
the network (`detect.identify`). Weights of absurd shapes, or without a needed key, raise
`KeyError`, `IndexError` or `ZeroDivisionError`; they count as another layout.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

StateDict = Mapping[str, Tensor]
Reading = Callable[[StateDict], Any]


def size(key: str, axis: int) -> Reading:
    """Return a function that returns the size of a weight along an axis."""
    return lambda state: int(state[key].shape[axis])


def count(pattern: str) -> Reading:
    """Return a function that counts the distinct matches of a pattern's group in the keys."""
    return lambda state: len({found[1] for key in state if (found := re.match(pattern, key))})


def _shuffle_factors(state: StateDict) -> tuple[int, ...]:
    """Return the factors of the pixel shuffles, from the channels of the preceding convolutions."""
    pattern = r"upsample\.?(\d)\.(?:upsample_conv\.)?weight"
    found = ((re.fullmatch(pattern, key), weight.shape) for key, weight in state.items())
    shapes = {match[1]: shape for match, shape in found if match}
    if not shapes:
        raise KeyError("upsample")
    return tuple(math.isqrt(shapes[n][0] // shapes[n][1]) for n in sorted(shapes))


def shuffle_scale(state: StateDict) -> int:
    """Return the scale: the product of the factors of the pixel shuffles."""
    return math.prod(_shuffle_factors(state))


def shuffles(state: StateDict) -> tuple[int, ...] | None:
    """Return the factors of the pixel shuffles; None for the defaults, (2, 2, …) and (3,)."""
    factors = _shuffle_factors(state)
    return None if factors == (3,) or set(factors) == {2} else factors


def depthwise(state: StateDict) -> bool | None:
    """Return True if the first convolution of the blocks is depthwise, else None."""
    shape = state["trunk_net.0.conv1.weight"].shape
    return True if shape[1] == 1 < shape[0] else None


def input_size(state: StateDict) -> int:
    """Return the input size of a discriminator, in which each stage halves the size.

    The last convolution of all known discriminators has the width of `conv3_1`.
    """
    stages = {key for key in state if re.fullmatch(r"conv\d_1\.weight", key)}
    pixels = state["linear1.weight"].shape[1] // state["conv3_1.weight"].shape[0]
    return int(math.isqrt(pixels) * 2 ** len(stages))


_SLOPE = re.compile(r"act_(first|trunk)\.weight|(trunk_net\.\d+|upsample\d)\.act\.weight")
_BEFORE_NORM = re.compile(r"(trunk_net\.\d+\.conv[12]|conv_trunk)\.weight")
_CONVOLUTION = re.compile(r"(.*\.)?(upsample_)?conv\w*\.weight")


def _slopes(state: StateDict) -> list[str]:
    return [key for key in state if _SLOPE.fullmatch(key)]


def prelu(state: StateDict) -> str | None:
    """Return "shared" for one slope per activation, "channel" for one per channel, else None."""
    slopes = _slopes(state)
    return ("shared" if state[slopes[0]].numel() == 1 else "channel") if slopes else None


def activation(state: StateDict) -> str | None:
    """Return "prelu" if blocks have slopes, else None.

    The slope of `act_first` alone does not show whether other activations share it.
    """
    return "prelu" if set(_slopes(state)) - {"act_first.weight"} else None


def norm(state: StateDict) -> str | None:
    """Return the kind of normalisation; None for instance normalisation without weights."""
    if "trunk_net.0.bn1.running_mean" in state:
        return "batch"
    return "instance_affine" if "trunk_net.0.bn1.weight" in state else None


def trunk_end(state: StateDict) -> str | None:
    """Return the layer after `conv_trunk`, "norm" or "act"; None if it has no weights."""
    if any(key.startswith("bn_trunk.") for key in state):
        return "norm"
    return "act" if "act_trunk.weight" in state else None


def upsample_norm(state: StateDict) -> bool:
    """Return whether there is a normalisation before the shuffles."""
    return any(".upsample_bn." in key for key in state)


def end_kernels(state: StateDict) -> tuple[int, int]:
    """Return the kernel sizes of the first and of the last convolution."""
    first, last = (int(state[f"conv_{end}.weight"].shape[-1]) for end in ("first", "last"))
    return first, last


def complete_srresnet(state: StateDict, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of an SRResNet with those that a file may omit.

    Biases are set to zero if no convolution has one, or if no convolution before a normalisation,
    which would subtract the bias, has one. Slopes of a PReLU that are saved once are copied to the
    first activation and to those of blocks and upsampling.

    Args:
        state: Weights with the keys of this package.
        arguments: Known arguments of the network, of which `act` is used.

    Returns:
        {key: weight} of the complete network; weights that exist are not copied.
    """
    complete = dict(state)
    weights = [key for key in state if _CONVOLUTION.fullmatch(key)]
    bias_keys = {key: f"{key.removesuffix('weight')}bias" for key in weights}
    for group in (weights, [key for key in weights if _BEFORE_NORM.fullmatch(key)]):
        if not {bias_keys[key] for key in group} & complete.keys():
            zeros = {bias_keys[key]: state[key].new_zeros(state[key].shape[0]) for key in group}
            complete |= zeros
    if arguments.get("act", "prelu") == "prelu" and len(slopes := _slopes(state)) == 1:
        blocks = (re.match(r"trunk_net\.\d+\.|upsample\d\.", key) for key in state)
        keys = ["act_first.weight", *(f"{found[0]}act.weight" for found in blocks if found)]
        complete |= dict.fromkeys(keys, state[slopes[0]])
    return complete


_ACTIVATION_NAMES = {"relu": "ReLU", "leaky_relu": "LeakyReLU", "swish": "Swish"}


def _describe_activation(arguments: Mapping[str, Any]) -> str:
    """Return the name of the activation for descriptions of SRResNet."""
    prelu = arguments.get("prelu")
    act = str(arguments.get("act") or ("prelu" if prelu else "activation open"))
    return f"PReLU {prelu}" if act == "prelu" else _ACTIVATION_NAMES.get(act, act)


@dataclass(frozen=True, kw_only=True)
class Network:
    """Functions to infer the arguments of a network, to complete its weights and to describe it.

    Attributes:
        description: Template of the description, with the names of arguments in braces.
        arguments: {argument: function of the weights that infers it}.
        complete: Function of weights and arguments that adds weights that files may omit.
        summary: Function of the arguments that returns `{summary}` in the description.
    """

    description: str = "{network}"
    arguments: Mapping[str, Reading] = field(default_factory=dict)
    complete: Callable[[StateDict, Mapping[str, Any]], StateDict] = lambda state, _: state
    summary: Callable[[Mapping[str, Any]], str] = lambda _: ""


_GENERATOR = "{network} x{upscale_factor} ({mid_channels} features, {num_blocks} blocks)"
_GENERATOR_ARGUMENTS: dict[str, Reading] = {
    "in_channels": size("conv_first.weight", 1),
    "mid_channels": size("conv_first.weight", 0),
    "num_blocks": count(r"(?:trunk_net|body)\.(\d+)\.\w+\."),
    "upscale_factor": shuffle_scale,
}
_OUT = {"out_channels": size("conv_last.weight", 0)}
_DISCRIMINATOR = "discriminator {network} ({mid_channels} features, input {input_size})"
_DISCRIMINATOR_ARGUMENTS: dict[str, Reading] = {
    "in_channels": size("conv0_0.weight", 1),
    "mid_channels": size("conv0_0.weight", 0),
    "input_size": input_size,
}
_SRRESNET_ARGUMENTS: dict[str, Reading] = {
    "prelu": prelu,
    "act": activation,
    "norm": norm,
    "trunk_end": trunk_end,
    "upsample_norm": upsample_norm,
    "end_kernels": end_kernels,
    "shuffles": shuffles,
    "depthwise": depthwise,
}
_RRDB = count(r"(?:.*\.)?(?:body|RRDB_trunk|sub)\.(\d+)\.(?:rdb|RDB)1\.")
NETWORKS = {
    "SRResNet": Network(
        description=f"{_GENERATOR[:-1]}, {{summary}})",
        arguments=_GENERATOR_ARGUMENTS | _OUT | _SRRESNET_ARGUMENTS,
        complete=complete_srresnet,
        summary=_describe_activation,
    ),
    "MSRResNet": Network(description=_GENERATOR, arguments=_GENERATOR_ARGUMENTS | _OUT),
    "EDSR": Network(description=_GENERATOR, arguments=_GENERATOR_ARGUMENTS),
    "RRDBNet (ESRGAN)": Network(
        description="{network} ({num_blocks} blocks)", arguments={"num_blocks": _RRDB}
    ),
    "ModifiedVGG": Network(
        description=_DISCRIMINATOR,
        arguments=_DISCRIMINATOR_ARGUMENTS | {"num_stages": count(r"conv(\d)_1\.")},
    ),
    "SRGANDiscriminator": Network(description=_DISCRIMINATOR, arguments=_DISCRIMINATOR_ARGUMENTS),
}
