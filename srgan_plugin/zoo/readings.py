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


def prelu(state: State) -> str:
    """Whether activations have one slope or one for each channel."""
    return "shared" if state["act_first.weight"].numel() == 1 else "channel"


def generator(block: str, upsample: str, *, first: str = "conv_first") -> dict[str, Reading]:
    """What generators have in common, by the keys of blocks, upsampling and first convolution."""
    return {
        "in_channels": size(f"{first}.weight", 1),
        "mid_channels": size(f"{first}.weight", 0),
        "num_blocks": count(block),
        "upscale_factor": shuffle_scale(upsample),
    }
