"""Checks that the networks share."""

import warnings
from collections.abc import Mapping
from itertools import chain
from typing import Any

from torch import Tensor, nn

from srgan_plugin.errors import UserError


def refuse_foreign_weights(
    network: nn.Module, state_dict: Mapping[str, Tensor], prefix: str, *_: Any
) -> None:
    """Refuse weights most of which are another network's, even where loading is not strict.

    mmengine loads what fits and logs the rest, and so does BasicSR with `strict_load_g: false`: a
    checkpoint in other keys leaves random weights behind, and the run goes on. Few weights that
    fit, or none, are a choice (LoRA, a checkpoint of the discriminator alone): a warning.

    Args:
        network: Whose weights are loaded; a `load_state_dict` pre-hook of torch's.
        state_dict: What is loaded.
        prefix: With which the network's keys begin there.

    Raises:
        ValueError: Fewer than half of the network's weights are in it, in their shape, and they
            are fewer than half of what it has under `prefix`.
    """
    named = chain(network.named_parameters(), network.named_buffers())
    own = {prefix + key: weight.shape for key, weight in named}
    given = [key for key in state_dict if key.startswith(prefix)]
    fits = {key for key in given if key in own and _shape(state_dict[key]) == own[key]}
    if 2 * len(fits) >= len(own):
        return
    message = f"{type(network).__name__}: expected its {len(own)} weights, got {len(fits)} of them"
    if 2 * len(fits) >= len(given):
        warnings.warn(f"{message}; the others stay as they are", stacklevel=2)
        return
    first = next(key for key in given if key not in fits)
    raise UserError(
        f"{message} and others (first {first}); read this checkpoint by "
        "srgan_plugin.checkpoints.load_generator_weights, which knows the keys of other code bases"
    )


def _shape(weight: Any) -> Any:
    return getattr(weight, "shape", None)
