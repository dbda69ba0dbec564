"""Weights into networks: taken out of what is wrapped around them, strictly or not at all."""

import os
from collections.abc import Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

from srgan_plugin.zoo.architectures import Found, describe, recognise
from srgan_plugin.zoo.loading import load_checkpoint_file

__all__ = ["adapt_training_state", "describe", "load_generator_weights", "unwrap"]

# The keys under which code bases put a network's weights, and what its own keys then begin with:
# averaged weights (EMA) first.
_WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model")
_PREFIXES = ("generator_ema.", "generator.")
_NOT_WEIGHTS = ("data_preprocessor.", "step_counter")
_DEEPEST = 4


def unwrap(checkpoint: Mapping[str, Any], *, ema: bool = True) -> dict[str, Tensor]:
    """Takes a network's bare weights out of a checkpoint.

    Wrappers (`state_dict`, `params`, …) and the `module.` of data-parallel training come off. Of a
    whole-training checkpoint the generator remains, of any other all weights.

    Args:
        checkpoint: what `load_checkpoint_file` returned.
        ema: whether to take averaged weights where there are both.

    Raises:
        ValueError: there are no weights in it.
    """
    inner = _inner(checkpoint, _WRAPPERS if ema else (*_WRAPPERS[1:], _WRAPPERS[0]))
    weights = {
        key.removeprefix("module."): value
        for key, value in inner.items()
        if isinstance(key, str) and _is_plain(value)
    }
    for prefix in _PREFIXES if ema else reversed(_PREFIXES):
        if chosen := _below(weights, prefix):
            return chosen
    weights = {key: w for key, w in weights.items() if not key.startswith(_NOT_WEIGHTS)}
    if not weights:
        keys = ", ".join(map(str, list(inner)[:5])) or "none"
        raise ValueError(f"expected weights in the checkpoint, but its keys are {keys}")
    return weights


def load_generator_weights(generator: nn.Module, path: str | os.PathLike[str]) -> str:
    """Loads a checkpoint of any known layout into a generator: all of it, or none.

    Args:
        generator: the network; its weights are replaced.
        path: the file.

    Returns:
        What the file held, in words.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or holds another network; one line says what was expected,
            what came and what to do.
    """
    checkpoint = load_checkpoint_file(path)
    try:
        weights = unwrap(checkpoint)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    generator.load_state_dict(_fitted(weights, generator, source=str(path)))
    return describe(weights)


def adapt_training_state(
    state: MutableMapping[str, Any], model: nn.Module, *, prefix: str = ""
) -> None:
    """Brings what is about to be loaded into a training model into that model's layout, in place.

    Afterwards the generator's weights are complete, in our keys, under `generator.`, whatever
    layout they came in, and keys that no part of the model has are gone.

    Args:
        state: a state dict of the whole model, or any checkpoint of a generator.
        model: has the generator as `model.generator`.
        prefix: with which the model's keys begin in `state`.

    Raises:
        ValueError: the generator's weights are missing or belong to another network.
    """
    inside = _below(state, prefix)
    # A run goes on with the weights that it trained, not with their average.
    weights = unwrap(inside, ema=not _below(inside, "generator."))
    generator = model.get_submodule("generator")
    fitted = _fitted(weights, generator, source="the checkpoint")
    known = model.state_dict()
    kept = {
        key: v for key, v in inside.items() if key in known and not key.startswith("generator.")
    }
    for key in inside:
        del state[prefix + key]
    state.update({f"{prefix}{key}": value for key, value in kept.items()})
    state.update({f"{prefix}generator.{key}": weight for key, weight in fitted.items()})


def _inner(checkpoint: Mapping[str, Any], wrappers: tuple[str, ...]) -> Mapping[str, Any]:
    for _ in range(_DEEPEST):  # a dict may hold itself
        inside = (checkpoint[name] for name in wrappers if name in checkpoint)
        checkpoint = next((value for value in inside if isinstance(value, Mapping)), checkpoint)
    return checkpoint


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor with all its elements there."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_meta or value.is_quantized)
    )


def _below(entries: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries whose keys begin with a prefix, without it."""
    return {
        key.removeprefix(prefix): value for key, value in entries.items() if key.startswith(prefix)
    }


def _fitted(weights: dict[str, Tensor], network: nn.Module, *, source: str) -> dict[str, Tensor]:
    """Returns the weights in the network's keys, every one of the right shape."""
    own: dict[str, Tensor] = network.state_dict()
    misfit = _misfit(weights, own)
    if not misfit:
        return weights
    found, wanted = recognise(weights), recognise(own)
    advice = f"give a checkpoint of that network ({misfit})"
    if found and wanted and found.layout.network == wanted.layout.network:
        renamed = found.in_our_keys(weights)
        misfit = _misfit(renamed, own)
        if changes := _changes(found, wanted, network):
            advice = f"set {changes} in the generator's config"
        elif not misfit:
            return renamed
        else:
            advice = f"it is damaged or was changed ({misfit}), get it from its source again"
    raise ValueError(f"expected {describe(own)}, {source} holds {describe(weights)}: {advice}")


def _changes(found: Found, wanted: Found, network: nn.Module) -> str:
    """The settings under which the network would be the one that the weights were made for."""
    changes = [
        f"{name}={value!r}"
        for name, value in found.arguments.items()
        if value != wanted.arguments.get(name)
    ]
    switch = found.layout.activate_after_shuffle
    if switch not in (None, getattr(network, "activate_after_shuffle", None)):
        changes.append(f"activate_after_shuffle={switch}")
    return ", ".join(changes)


def _misfit(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """What keeps weights from loading strictly; empty if nothing does."""
    # torch fills in the counters of batch normalisation, which old checkpoints do not have.
    missing = [k for k in own if k not in weights and not k.endswith(".num_batches_tracked")]
    unexpected = [key for key in weights if key not in own]
    misshapen = [k for k in weights if k in own and not _alike(weights[k], own[k])]
    complaints = (("missing", missing), ("unexpected", unexpected), ("of another kind", misshapen))
    return "; ".join(
        f"{len(keys)} weights {what}, first {keys[0]}" for what, keys in complaints if keys
    )


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.is_floating_point() == b.is_floating_point()
