"""How a network's arguments are read off the keys and shapes of its weights."""

import math
import re
from collections.abc import Callable, Mapping

from torch import Tensor

State = Mapping[str, Tensor]
Reading = Callable[[State], int | str]


def size(key: str, axis: int) -> Reading:
    """The size of a weight along an axis."""
    return lambda state: int(state[key].shape[axis])


def count(pattern: str) -> Reading:
    """How many different things the group of a pattern finds among the keys."""
    return lambda state: len({found[1] for key in state if (found := re.match(pattern, key))})


def shuffle_scale(pattern: str) -> Reading:
    """The product of the pixel shuffles' factors, from the convolutions before them."""

    def scale(state: State) -> int:
        shapes = [weight.shape for key, weight in state.items() if re.fullmatch(pattern, key)]
        return math.prod(math.isqrt(shape[0] // shape[1]) for shape in shapes)

    return scale


def input_side(state: State) -> int:
    """The pictures a discriminator takes: each stage halves them, then `linear1` sees all of it."""
    stages = {key for key in state if re.fullmatch(r"conv\d_1\.weight", key)}
    pixels = state["linear1.weight"].shape[1] // state["conv3_1.weight"].shape[0]
    return int(math.isqrt(pixels) * 2 ** len(stages))


_SLOPE = re.compile(r"act_first\.weight|(trunk_net\.\d+|upsample\d)\.act\.weight")
_BEFORE_NORM = re.compile(r"(trunk_net\.\d+\.conv[12]|conv_trunk)\.weight")


def _slopes(state: State) -> list[str]:
    return [key for key in state if _SLOPE.fullmatch(key)]


def prelu(state: State) -> str:
    """Whether activations have one slope or one for each channel."""
    return "shared" if state[_slopes(state)[0]].numel() == 1 else "channel"


def complete_srresnet(state: State) -> dict[str, Tensor]:
    """Add what an SRResNet's file may leave out because it says nothing new.

    Biases before batch normalisation, which takes them away again: zeros are exact, where all of
    them are missing. The slopes of a PReLU that all activations share and that is stored once.
    """
    whole = dict(state)
    weights = [key for key in state if _BEFORE_NORM.fullmatch(key)]
    biases = {key.replace("weight", "bias"): state[key] for key in weights}
    if not biases.keys() & state.keys():
        whole |= {key: weight.new_zeros(weight.shape[0]) for key, weight in biases.items()}
    if len(slopes := _slopes(state)) == 1:
        keys = {"act_first.weight"}
        for key in state:
            if found := re.match(r"trunk_net\.\d+\.|upsample\d\.", key):
                keys.add(f"{found[0]}act.weight")
        whole |= dict.fromkeys(keys, state[slopes[0]])
    return whole


def generator(block: str, upsample: str, *, first: str = "conv_first") -> dict[str, Reading]:
    """What generators have in common, by the keys of blocks, upsampling and first convolution."""
    return {
        "in_channels": size(f"{first}.weight", 1),
        "mid_channels": size(f"{first}.weight", 0),
        "num_blocks": count(block),
        "upscale_factor": shuffle_scale(upsample),
    }
