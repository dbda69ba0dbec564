"""Load weights of any known layout into an existing network, strictly."""

import os
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from torch import Tensor, nn

from srgan_plugin.errors import UserError, prefix_errors

from .layouts import Detection, StateDictLayout, describe, detect_layout
from .read_write import load_checkpoint_file
from .recorded_args import NON_INFERABLE_ARGS, listed, plain, recorded_arguments
from .weight_forms import explain_form
from .wrappers import below, unwrap


def load_generator_weights(generator: nn.Module, path: str | os.PathLike[str]) -> str:
    """Load a checkpoint of any known layout into a generator, strictly.

    Args:
        generator: The network; its weights are replaced.
        path: File of the checkpoint.

    Returns:
        A description of the weights in the file.

    Raises:
        FileNotFoundError: The file does not exist.
        UserError: The file is damaged or contains another network.

    Example:
        >>> import tempfile
        >>> from srgan_plugin.checkpoints import load_generator_weights, save_atomically
        >>> from srgan_plugin.networks import MSRResNet
        >>> trained, network = (MSRResNet(mid_channels=8, num_blocks=2) for _ in range(2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_atomically(trained.state_dict(), f"{folder}/x.pth")
        ...     load_generator_weights(network, f"{folder}/x.pth")
        "MSRResNet x4 (8 features, 2 blocks) in MMagic's keys"
    """
    checkpoint = load_checkpoint_file(path)
    with prefix_errors(path):
        weights = unwrap(checkpoint)
        check_function(checkpoint.get("meta"), weights, generator)
    generator.load_state_dict(remap_strict(weights, generator, source=str(path)))
    return describe(weights)


def check_function(meta: Any, weights: Mapping[str, Tensor], network: nn.Module) -> None:
    """Refuse weights of a network with the same shapes that computes another function.

    Args:
        meta: Entry `meta` of the checkpoint, or None.
        weights: Weights in any known layout.
        network: The network to load them into.

    Raises:
        UserError: The layout or `meta` states another value of an argument that no weight shows.
    """
    found, wanted = detect_layout(weights), detect_layout(network.state_dict())
    if not found or not wanted or found.layout.network != wanted.layout.network:
        return  # strict loading refuses them
    stated = {**found.layout.facts, **recorded_arguments({"meta": meta}, found.layout.network)}
    for name, value in stated.items():
        own = _argument_of(network, name)
        if name not in found.arguments and own != plain(value):
            raise UserError(
                f"{name}: expected weights of a network with {own}, got those of one with {value}, "
                f"which gives other images; set {name}={value} in the generator's config"
            )


def _argument_of(network: nn.Module, name: str) -> Any:
    return plain(getattr(network, name, NON_INFERABLE_ARGS[name].default))


def adapt_training_state(
    state: MutableMapping[str, Any], model: nn.Module, *, prefix: str = "", meta: Any = None
) -> str:
    """Convert a state dict of any known layout, in place, to that of a model to be trained.

    Afterwards the weights of the generator are complete, with the keys of this package under
    `generator.`, and keys that the model does not have are removed.

    Args:
        state: State dict of the complete model, or any checkpoint of a generator.
        model: Model with the generator as `model.generator`.
        prefix: Beginning of the model's keys in `state`.
        meta: `meta` of the checkpoint, if it is known.

    Returns:
        A description of a discriminator in `state` that does not fit the model; empty if there is
        none.

    Raises:
        UserError: Weights of the generator are missing or of another network.

    Example:
        >>> import torch
        >>> from srgan_plugin.checkpoints import adapt_training_state
        >>> from srgan_plugin.networks import MSRResNet
        >>> network = MSRResNet(mid_channels=8, num_blocks=2)
        >>> state = {"state_dict": network.state_dict()}
        >>> adapt_training_state(state, torch.nn.ModuleDict({"generator": network}))
        ''
        >>> next(iter(state))
        'generator.conv_first.weight'
    """
    for key in [key for key in state if key.startswith(prefix)]:
        bare = prefix + _without_wrapper(key.removeprefix(prefix))
        if bare != key:
            state[bare] = state.pop(key)
    inside = below(state, prefix)
    # Training resumes from the trained weights, not from their average.
    found = unwrap(inside, ema=not below(inside, "generator."))
    generator = model.get_submodule("generator")
    generator = getattr(generator, "module", generator)  # without the DDP wrapper
    weights = remap_strict(found, generator)
    check_function(meta, found, generator)
    known = {_without_wrapper(key): weight for key, weight in model.state_dict().items()}
    other = _other_discriminator(inside, known)
    removed = ("generator.", "discriminator.") if other else ("generator.",)
    kept = {key: v for key, v in inside.items() if key in known and not key.startswith(removed)}
    for key in inside:
        del state[prefix + key]
    state.update({f"{prefix}{key}": value for key, value in kept.items()})
    state.update({f"{prefix}generator.{key}": weight for key, weight in weights.items()})
    if getattr(model, "generator_ema", None) is not None and not below(inside, "generator_ema."):
        # A moving average starts at the weights that it averages.
        state.update({f"{prefix}generator_ema.{key}": w.clone() for key, w in weights.items()})
    return other


def _without_wrapper(key: str) -> str:
    """Remove the `module.` that DDP adds after the name of a child module."""
    child, wrapped, name = key.partition(".module.")
    return f"{child}.{name}" if wrapped and "." not in child else key


def _other_discriminator(saved: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Describe a saved discriminator that does not fit the model's; empty if there is none."""
    own, found = below(known, "discriminator."), below(saved, "discriminator.")
    if not own or not found or not why_not_loadable(found, own):
        return ""
    return f"expected {describe(own)}, the checkpoint holds {describe(found)}"


def remap_strict(
    weights: dict[str, Tensor],
    network: nn.Module,
    *,
    source: str = "the checkpoint",
    saved_keys: Mapping[str, str] | None = None,
) -> dict[str, Tensor]:
    """Rename weights to the keys of a network; verify that all keys and shapes match.

    Args:
        weights: Bare weights in any known layout.
        network: The network that shall load them; it is not changed and may be on the meta device.
        source: Name of the file, for messages.
        saved_keys: Keys in the file by the keys in `weights`, for messages.

    Raises:
        UserError: The weights belong to another network, are incomplete or not finite.
    """
    own: dict[str, Tensor] = network.state_dict()
    misfit = why_not_loadable(weights, own)
    if not misfit:
        return _finite(weights, source, saved_keys or {})
    found, wanted = detect_layout(weights), detect_layout(own)
    advice = f"give a checkpoint of that network ({misfit})"
    if found and wanted and found.layout.network == wanted.layout.network:
        act = {"act": getattr(network, "act", "prelu")}
        renamed = found.layout.to_plugin_keys(weights, act)
        names = saved_keys or file_keys(found.layout, weights, network)
        misfit = why_not_loadable(renamed, own, names)
        if changes := _changes(found, wanted, network):
            advice = f"set {changes} in the generator's config"
        elif not misfit:
            return _finite(renamed, source, names)
        else:
            advice = f"it is damaged or was changed ({misfit}), download or copy it again"
    if form := explain_form(weights):
        advice = form
    raise UserError(f"expected {describe(own)}, {source} holds {describe(weights)}: {advice}")


def file_keys(layout: StateDictLayout, saved: Iterable[str], network: nn.Module) -> dict[str, str]:
    """Return how a file calls the weights of a network, also those that it does not hold.

    Args:
        layout: Layout of the file's keys.
        saved: The file's keys.
        network: Network of this package.

    Returns:
        Keys of the file by keys of the network.
    """
    saved = list(saved)
    names = {key: layout.from_plugin_key(key, saved) for key in network.state_dict()}
    return names | {layout.to_plugin_key(key): key for key in saved}


def _finite(
    weights: dict[str, Tensor], source: str, saved_keys: Mapping[str, str]
) -> dict[str, Tensor]:
    for key, weight in weights.items():
        if weight.is_floating_point() and not weight.float().isfinite().all():
            raise UserError(
                f"expected numbers, {source} holds NaN or infinite values (first in "
                f"{saved_keys.get(key, key)}): the "
                "training that saved it had diverged; take an earlier checkpoint"
            )
    return weights


def _changes(found: Detection, wanted: Detection, network: nn.Module) -> str:
    """Return the arguments with which the network would fit the weights, where they differ."""
    now = wanted.arguments
    changes = {name: value for name, value in found.arguments.items() if value != now.get(name)}
    facts = found.layout.facts.items()
    changes |= {k: v for k, v in facts if k not in now and _argument_of(network, k) != plain(v)}
    return listed(changes)


def why_not_loadable(
    weights: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    saved_keys: Mapping[str, str] | None = None,
) -> str:
    """Describe keys, shapes and dtypes that prevent strict loading; empty if there are none.

    Args:
        weights: The weights to load.
        own: State dict of the network.
        saved_keys: Keys in the file by the keys in `weights`, for messages.
    """
    names = saved_keys or {}
    # torch adds the counters of batch normalisation, which old checkpoints do not have.
    missing = [k for k in own if k not in weights and not k.endswith(".num_batches_tracked")]
    unexpected = [key for key in weights if key not in own]
    forms = [{k: (w.shape, w.is_floating_point()) for k, w in x.items()} for x in (weights, own)]
    different = [key for key in weights if key in own and forms[0][key] != forms[1][key]]
    problems = (("missing", missing), ("unexpected", unexpected), ("of another kind", different))
    return "; ".join(
        f"{len(keys)} weights {problem}, first {names.get(keys[0], keys[0])}"
        for problem, keys in problems
        if keys
    )
