"""Load weights with any known layout into an existing network, strictly."""

import os
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any

from torch import Tensor, nn

from srgan_plugin.errors import UserError, prefix_errors

from .layouts import Detection, StateDictLayout, describe, detect_layout
from .read_write import load_checkpoint_file
from .recorded_args import (
    NON_INFERABLE_ARGS,
    format_arguments,
    read_recorded_arguments,
    same_argument,
)
from .weight_forms import explain_form
from .wrappers import select_prefix, unwrap


def load_generator_weights(generator: nn.Module, path: str | os.PathLike[str]) -> str:
    """Load a checkpoint with any known layout into a generator, strictly.

    Args:
        generator: The network; its weights are replaced, in its dtype and on its device.
        path: The checkpoint.

    Returns:
        A description of the weights in the file.

    Raises:
        MissingFileError: The file does not exist.
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
    """Raise `UserError` for weights with fitting shapes that need other network arguments.

    Args:
        meta: Entry `meta` of the checkpoint, or None.
        weights: Weights with any known layout.
        network: The network to load them into.

    Raises:
        UserError: The layout implies, or `meta` records, another value of an argument that cannot
            be inferred from the weights.
    """
    found, wanted = detect_layout(weights), detect_layout(network.state_dict())
    if not found or not wanted or found.layout.network != wanted.layout.network:
        return  # strict loading raises an error
    recorded = {
        **found.layout.assumed_args,
        **read_recorded_arguments({"meta": meta}, found.layout.network),
    }
    for name, value in recorded.items():
        own = _read_argument(network, name)
        if name not in found.arguments and not same_argument(own, value):
            raise UserError(
                f"{name}: expected weights trained with {own}, got weights trained with {value}, "
                f"which would give other images; set {name}={value} in the generator's config"
            )


def _read_argument(network: nn.Module, name: str) -> Any:
    """Return an argument of a network; the default for a class without this argument."""
    return getattr(network, name, NON_INFERABLE_ARGS[name].default)


def adapt_training_state(
    state: MutableMapping[str, Any], model: nn.Module, *, prefix: str = "", meta: Any = None
) -> str:
    """Convert a state dict with any known layout, in place, so that a training model can load it.

    Afterwards all weights of the generator are under `generator.`, with the keys of this package,
    and keys that the model does not have are removed.

    Args:
        state: State dict of the complete model, or the content of a generator's checkpoint.
        model: Model with the generator as `model.generator`.
        prefix: Prefix of the model's keys in `state`.
        meta: Entry `meta` of the checkpoint; None if it is not known.

    Returns:
        A description of a discriminator in `state` that does not fit the model; empty if there is
        no such discriminator.

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
        bare = prefix + _strip_wrapper(key.removeprefix(prefix))
        if bare != key:
            state[bare] = state.pop(key)
    inside = select_prefix(state, prefix)
    # Training resumes from the trained weights, not from their moving average.
    found = unwrap(inside, ema=not select_prefix(inside, "generator."))
    generator = model.get_submodule("generator")
    generator = getattr(generator, "module", generator)  # without the DDP wrapper
    weights = remap_strict(found, generator)
    check_function(meta, found, generator)
    known = {_strip_wrapper(key): weight for key, weight in model.state_dict().items()}
    other = _describe_other_discriminator(inside, known)
    removed = ("generator.", "discriminator.") if other else ("generator.",)
    kept = {key: v for key, v in inside.items() if key in known and not key.startswith(removed)}
    for key in inside:
        del state[prefix + key]
    state.update({f"{prefix}{key}": value for key, value in kept.items()})
    state.update({f"{prefix}generator.{key}": weight for key, weight in weights.items()})
    has_average = getattr(model, "generator_ema", None) is not None
    if has_average and not select_prefix(inside, "generator_ema."):
        # A moving average starts from the trained weights.
        state.update({f"{prefix}generator_ema.{key}": w.clone() for key, w in weights.items()})
    return other


def _strip_wrapper(key: str) -> str:
    """Remove the `module.` that DDP adds after the name of a child module."""
    child, wrapped, name = key.partition(".module.")
    return f"{child}.{name}" if wrapped and "." not in child else key


def _describe_other_discriminator(saved: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Describe a saved discriminator that does not fit that of the model; empty without one."""
    own, found = select_prefix(known, "discriminator."), select_prefix(saved, "discriminator.")
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
        weights: Bare weights with any known layout.
        network: The network that will load them. It is not changed, and may be on the meta device.
        source: Name of the file, for messages.
        saved_keys: Result of `file_keys`, for messages.

    Returns:
        The weights with the keys of `network`.

    Raises:
        UserError: The weights belong to another network, are incomplete or not finite.
    """
    own: dict[str, Tensor] = network.state_dict()
    misfit = why_not_loadable(weights, own)
    if not misfit:
        return _require_finite(weights, source, saved_keys or {})
    found, wanted = detect_layout(weights), detect_layout(own)
    advice = f"give a checkpoint of that network ({misfit})"
    if found and wanted and found.layout.network == wanted.layout.network:
        act = {"act": getattr(network, "act", "prelu")}
        renamed = found.layout.to_plugin_keys(weights, act)
        names = saved_keys or file_keys(found.layout, weights, network)
        misfit = why_not_loadable(renamed, own, names)
        if changes := _config_changes(found, wanted, network):
            advice = f"set {changes} in the generator's config"
        elif not misfit:
            return _require_finite(renamed, source, names)
        else:
            advice = f"it is damaged or was changed ({misfit}), download or copy it again"
    if form := explain_form(weights):
        advice = form
    raise UserError(f"expected {describe(own)}, {source} holds {describe(weights)}: {advice}")


def file_keys(layout: StateDictLayout, saved: Iterable[str], network: nn.Module) -> dict[str, str]:
    """Return {key in the network: key in the file}, including keys missing in the file.

    Args:
        layout: Layout of the file.
        saved: Keys in the file.
        network: Network of this package.
    """
    saved = list(saved)
    names = {key: layout.from_plugin_key(key, saved) for key in network.state_dict()}
    return names | {layout.to_plugin_key(key): key for key in saved}


def _require_finite(
    weights: dict[str, Tensor], source: str, saved_keys: Mapping[str, str]
) -> dict[str, Tensor]:
    """Return the weights, or raise `UserError` if one is NaN or infinite."""
    for key, weight in weights.items():
        if weight.is_floating_point() and not weight.float().isfinite().all():
            raise UserError(
                f"expected numbers, {source} holds NaN or infinite values (first in "
                f"{saved_keys.get(key, key)}): the "
                "training that saved it had diverged; take an earlier checkpoint"
            )
    return weights


def _config_changes(found: Detection, wanted: Detection, network: nn.Module) -> str:
    """Return the arguments to change so that the network fits the weights, as text."""
    now = wanted.arguments
    changes = {name: value for name, value in found.arguments.items() if value != now.get(name)}
    changes |= {
        name: value
        for name, value in found.layout.assumed_args.items()
        if name not in now and not same_argument(_read_argument(network, name), value)
    }
    return format_arguments(changes)


def why_not_loadable(
    weights: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    saved_keys: Mapping[str, str] | None = None,
) -> str:
    """Describe keys, shapes and dtypes that prevent strict loading; empty if there are none.

    Args:
        weights: The weights to load.
        own: State dict of the network.
        saved_keys: Result of `file_keys`, for messages.

    Returns:
        One line such as "2 weights missing, first conv_first.bias"; '' if strict loading succeeds.
    """
    names = saved_keys or {}
    # torch adds the counters of batch normalisation, which old checkpoints do not have.
    missing = [k for k in own if k not in weights and not k.endswith(".num_batches_tracked")]
    unexpected = [key for key in weights if key not in own]
    shared = {key: (weights[key], own[key]) for key in weights if key in own}
    different = [
        key
        for key, (a, b) in shared.items()
        if a.shape != b.shape or a.is_floating_point() != b.is_floating_point()
    ]
    problems = (("missing", missing), ("unexpected", unexpected), ("of another kind", different))
    return "; ".join(
        f"{len(keys)} weights {problem}, first {names.get(keys[0], keys[0])}"
        for problem, keys in problems
        if keys
    )
