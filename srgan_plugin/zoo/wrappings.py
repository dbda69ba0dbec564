"""What lies around a network's weights in a checkpoint, and what it says about them."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

Part = Literal["generator", "discriminator"]

# The keys under which code bases put a network's weights, averaged weights (EMA) first. In
# mmengine's checkpoints with an EMA hook, `state_dict` has the averaged ones.
_WRAPPERS = {
    True: ("params_ema", "params", "state_dict", "model_state_dict", "model"),
    False: ("params", "ema_state_dict", "state_dict", "model_state_dict", "model", "params_ema"),
}
# What the weights' own keys may begin with, likewise.
_PREFIXES = {
    ("generator", True): ("generator_ema.", "generator.", "discriminator."),
    ("generator", False): ("generator.", "generator_ema.", "discriminator."),
    ("discriminator", True): ("discriminator.",),
    ("discriminator", False): ("discriminator.",),
}
_NOT_WEIGHTS = ("data_preprocessor.", "step_counter", "steps", "n_averaged")
_DEEPEST = 4


class NoWeightsError(ValueError):
    """A checkpoint without weights."""


def unwrap(
    checkpoint: Mapping[str, Any], *, ema: bool = True, part: Part = "generator"
) -> dict[str, Tensor]:
    """Takes a network's bare weights out of a checkpoint.

    Wrappers (`state_dict`, `params`, …) and the `module.` of data-parallel training come off. Of a
    whole-training checkpoint the part asked for remains, of any other all weights.

    Args:
        checkpoint: what `load_checkpoint_file` returned.
        ema: whether to take averaged weights where there are both.
        part: which network of a whole-training checkpoint.

    Raises:
        ValueError: there are no weights in it.
    """
    return unwrap_and_list(checkpoint, ema=ema, part=part)[0]


def unwrap_and_list(
    checkpoint: Mapping[str, Any], *, ema: bool = True, part: Part = "generator"
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Does what `unwrap` does, and names what else there was: keys, or how keys begin."""
    left_out: dict[str, None] = {}
    inner = checkpoint
    for level in _levels(checkpoint, _WRAPPERS[ema]):
        left_out |= {str(key): None for key in inner if inner[key] is not level}
        inner = level
    plain = {
        key.removeprefix("module."): value
        for key, value in inner.items()
        if isinstance(key, str) and _is_plain(value)
    }
    prefixes = (*_PREFIXES[part, ema], "")
    prefix = next(p for p in prefixes if not p or any(key.startswith(p) for key in plain))
    weights = {
        key.removeprefix("module."): weight
        for key, weight in below(plain, prefix).items()
        if not key.startswith(_NOT_WEIGHTS)
    }
    if not weights:
        raise NoWeightsError(_nothing_in(inner))
    taken = {key for key in plain if key.startswith(prefix) and not key.startswith(_NOT_WEIGHTS)}
    rest = [key for key in map(str, inner) if key.removeprefix("module.") not in taken]
    return weights, tuple(left_out | {key.partition(".")[0]: None for key in rest})


def below(entries: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries whose keys begin with a prefix, without it."""
    return {
        key.removeprefix(prefix): value for key, value in entries.items() if key.startswith(prefix)
    }


def _levels(
    checkpoint: Mapping[str, Any], wrappers: tuple[str, ...]
) -> Iterator[Mapping[str, Any]]:
    for _ in range(_DEEPEST):  # a dict may hold itself
        candidates = (checkpoint.get(name) for name in wrappers)
        inner = next((value for value in candidates if isinstance(value, Mapping)), None)
        if inner is None:
            return
        checkpoint = inner
        yield checkpoint


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor with all its elements there."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_meta or value.is_quantized)
    )


def _nothing_in(inner: Mapping[str, Any]) -> str:
    if "optimizers" in inner and "schedulers" in inner:
        return (
            f"it is a training state of BasicSR (iteration {inner.get('iter', 'unknown')}), which "
            "has no weights: they are in the net_g_….pth that was saved with it, under models/"
        )
    keys = ", ".join(map(str, list(inner)[:5])) or "none"
    return f"expected weights in the checkpoint, but its keys are {keys}"
