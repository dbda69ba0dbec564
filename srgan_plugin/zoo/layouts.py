"""Weights into networks that are there already: all of them, in our keys, or none."""

import os
from collections.abc import Mapping, MutableMapping
from typing import Any

from torch import Tensor, nn

from srgan_plugin.zoo.loading import load_checkpoint_file, named
from srgan_plugin.zoo.recognition import Found, describe, recognise
from srgan_plugin.zoo.statements import ARGUMENTS, plain, stated_arguments
from srgan_plugin.zoo.wrappings import below, unwrap


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
    with named(path):
        weights = unwrap(checkpoint)
        check_function(checkpoint.get("meta"), weights, generator)
    generator.load_state_dict(fitted(weights, generator, source=str(path)))
    return describe(weights)


def check_function(meta: Any, weights: Mapping[str, Tensor], network: nn.Module) -> None:
    """Refuse weights that fit a network which computes something else with them.

    Args:
        meta: what lies beside the weights in their checkpoint, under that key.
        weights: of any known layout.
        network: that they go into.

    Raises:
        ValueError: `meta` states another function than the network's.
    """
    found = recognise(weights)
    if found is None:
        return
    for name, value in stated_arguments({"meta": meta}, found.layout.network).items():
        own = plain(getattr(network, name, ARGUMENTS[name].default))
        if own != value:
            raise ValueError(
                f"expected weights of {name}={own}, got those of {name}={value}, with which they "
                f"give other images: set {name}={value} in the generator's config"
            )


def adapt_training_state(
    state: MutableMapping[str, Any], model: nn.Module, *, prefix: str = "", meta: Any = None
) -> str:
    """Brings what is about to be loaded into a training model into that model's layout, in place.

    Afterwards the generator's weights are complete, in our keys, under `generator.`, whatever
    layout they came in, and keys that no part of the model has are gone.

    Args:
        state: a state dict of the whole model, or any checkpoint of a generator.
        model: has the generator as `model.generator`.
        prefix: with which the model's keys begin in `state`.
        meta: what lies beside the weights in their checkpoint, where that is known.

    Returns:
        What the state holds and the model cannot take, in words: a discriminator of another kind.
        Empty if there is nothing of that sort.

    Raises:
        ValueError: the generator's weights are missing or belong to another network.
    """
    for key in [key for key in state if key.startswith(prefix)]:
        bare = prefix + _without_wrapper(key.removeprefix(prefix))
        if bare != key:
            state[bare] = state.pop(key)
    inside = below(state, prefix)
    # A run goes on with the weights that it trained, not with their average.
    found = unwrap(inside, ema=not below(inside, "generator."))
    generator = model.get_submodule("generator")
    generator = getattr(generator, "module", generator)  # wrapped for distributed training
    weights = fitted(found, generator)
    check_function(meta, found, generator)
    known = {_without_wrapper(key): weight for key, weight in model.state_dict().items()}
    other = _other_discriminator(inside, known)
    left = ("generator.", "discriminator.") if other else ("generator.",)
    kept = {key: v for key, v in inside.items() if key in known and not key.startswith(left)}
    for key in inside:
        del state[prefix + key]
    state.update({f"{prefix}{key}": value for key, value in kept.items()})
    state.update({f"{prefix}generator.{key}": weight for key, weight in weights.items()})
    if getattr(model, "generator_ema", None) is not None and not below(inside, "generator_ema."):
        # An average begins at what it averages.
        averaged = {f"{prefix}generator_ema.{key}": w.clone() for key, w in weights.items()}
        state.update(averaged)
    return other


def _without_wrapper(key: str) -> str:
    """A key without the wrapper of several processes that mmengine's own models leave in it."""
    part, wrapped, name = key.partition(".module.")
    return f"{part}.{name}" if wrapped and "." not in part else key


def _other_discriminator(held: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    own, came = below(known, "discriminator."), below(held, "discriminator.")
    if not own or not came or not _misfit(came, own):
        return ""
    return f"expected {describe(own)}, the checkpoint holds {describe(came)}"


def fitted(
    weights: dict[str, Tensor], network: nn.Module, *, source: str = "the checkpoint"
) -> dict[str, Tensor]:
    """Gives weights in the network's keys, every one of the right shape and finite.

    Args:
        weights: bare weights of any known layout.
        network: whose weights they are to be; it is not changed, and may be on the meta device.
        source: where they come from, for messages.

    Raises:
        ValueError: they belong to another network, are incomplete, or hold NaN.
    """
    own: dict[str, Tensor] = network.state_dict()
    misfit = _misfit(weights, own)
    if not misfit:
        return _finite(weights, source)
    found, wanted = recognise(weights), recognise(own)
    advice = f"give a checkpoint of that network ({misfit})"
    if found and wanted and found.layout.network == wanted.layout.network:
        renamed = found.layout.in_our_keys(weights)
        misfit = _misfit(renamed, own)
        if changes := _changes(found, wanted, network):
            advice = f"set {changes} in the generator's config"
        elif not misfit:
            return _finite(renamed, source)
        else:
            advice = f"it is damaged or was changed ({misfit}), get it from its source again"
    raise ValueError(f"expected {describe(own)}, {source} holds {describe(weights)}: {advice}")


def _finite(weights: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    for key, weight in weights.items():
        if weight.is_floating_point() and not weight.float().isfinite().all():
            raise ValueError(
                f"expected numbers, {source} holds NaN or infinite values (first in {key}): the "
                "training that saved it had diverged; take an earlier checkpoint"
            )
    return weights


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
