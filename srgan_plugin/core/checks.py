"""Checks that several networks and losses share."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn


def check_option(name: str, value: object, options: Iterable[object]) -> None:
    """Refuse `value` unless it is one of `options`.

    Args:
        name: The argument's name, as the user wrote it.
        value: What came.
        options: What is allowed.

    Raises:
        ValueError: `value` is not among `options`; the message lists them.
    """
    allowed = list(options)
    if value not in allowed:
        raise ValueError(
            f"{name} must be one of {', '.join(repr(option) for option in allowed)}, got {value!r}"
        )


def refuse_foreign_weights(
    network: nn.Module, state_dict: Mapping[str, Tensor], prefix: str, *_: Any
) -> None:
    """Refuse weights most of which would not reach a network, even where loading is not strict.

    mmengine loads what fits and logs the rest, and so does BasicSR with `strict_load_g: false`: a
    checkpoint in other keys leaves random weights behind, and the run goes on. Half of the weights
    is what a start from another scale has at least.

    Args:
        network: Whose weights are loaded; a `load_state_dict` pre-hook of torch's.
        state_dict: What is loaded.
        prefix: With which the network's keys begin there.

    Raises:
        ValueError: Fewer than half of the network's weights are in it, in their shape.
    """
    own = dict(network.named_parameters())
    there = [prefix + key for key in own if _shape(state_dict.get(prefix + key)) == own[key].shape]
    if 2 * len(there) >= len(own):
        return
    first = next((key for key in state_dict if key not in there), "nothing at all")
    raise ValueError(
        f"{type(network).__name__}: expected its {len(own)} weights, got {len(there)} of them and "
        f"others (first {first}); read this checkpoint by srgan_plugin.zoo.load_generator_weights, "
        "which knows the keys of other code bases"
    )


def _shape(weight: Any) -> Any:
    return getattr(weight, "shape", None)
