"""Extract the weights of one network from a checkpoint with wrappers, prefixes and averages."""

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from srgan_plugin.errors import UserError

from .weight_forms import explain_form, select_quantized

Role = Literal["generator", "discriminator"]

# Keys of a network's weights in the checkpoints of known code bases.
_GENERATOR = ("generator", "netG", "net_g", "G", "gen", "g_state_dict", "generator_state_dict")
_DISCRIMINATOR = ("discriminator", "netD", "net_d", "D", "disc", "d_state_dict")
_AVERAGES = (
    "params_ema",
    "ema_state_dict",
    "state_dict_ema",
    "model_ema",
    "ema_model",
    "ema",
    "generator_ema",
    "netG_ema",
    "net_g_ema",
    "G_ema",
    "g_ema",
    "gen_ema",
)
_ANY = (
    "params",
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "weights",
    "checkpoint",
    "sr_model",
)
# Prefixes of the weights' keys.
_OF_GENERATOR = (
    "generator.",
    "netG.",
    "net_g.",
    "G.",
    "gen.",
    "model_g.",
    "model_G.",
    "model.",
    "net.",
)
_OF_AVERAGE = ("generator_ema.", "netG_ema.", "net_g_ema.", "G_ema.", "g_ema.", "gen_ema.")
_OF_DISCRIMINATOR = ("discriminator.", "netD.", "net_d.", "D.", "disc.", "model_d.", "model_D.")
_PREFIXES = {
    ("generator", True): (*_OF_AVERAGE, *_OF_GENERATOR, *_OF_DISCRIMINATOR),
    ("generator", False): (*_OF_GENERATOR, *_OF_AVERAGE, *_OF_DISCRIMINATOR),
    ("discriminator", True): _OF_DISCRIMINATOR,
    ("discriminator", False): _OF_DISCRIMINATOR,
}
# Names of modules around a network. Before a number, they are part of it (KAIR, early ESRGAN).
_HOLDER = re.compile(r"(model|net|module|_orig_mod|generator|netG|net_g|G|gen|model_[gG])\.(?!\d)")
_NUMBERED = ("model.", "net.")
# Prefixes added by data-parallel training and by torch.compile.
_WRAPPED = re.compile(r"^((module|_orig_mod)\.)+")
# The last is the prefix of `recorded_args.NOTE_TENSOR`.
_NOT_WEIGHTS = ("data_preprocessor.", "step_counter", "steps", "n_averaged", "srgan_plugin.")
_MAX_DEPTH = 4  # of nested wrappers; known files have up to three


class NoWeightsError(UserError):
    """Error for a checkpoint without weights."""


class WeightFormError(UserError):
    """Error for weights that are not plain tensors, such as quantised ones or NumPy arrays."""


def unwrap(
    checkpoint: Mapping[str, Any], *, ema: bool = True, role: Role = "generator"
) -> dict[str, Tensor]:
    """Return the weights of a network in a checkpoint.

    Wrappers (`state_dict`, `params`, …) and the prefix `module.` of data-parallel training are
    removed. For a training checkpoint, only the weights of one network are returned.

    Args:
        checkpoint: Content of the checkpoint, from `load_checkpoint_file`.
        ema: Whether to prefer averaged weights (EMA) of the generator if the checkpoint has both.
        role: Network of a training checkpoint, "generator" or "discriminator". If the checkpoint
            does not name such a network, the weights that exist are returned.

    Returns:
        {key: weight}, the tensors of `checkpoint`, not copies.

    Raises:
        NoWeightsError: The checkpoint has no weights.
        WeightFormError: The weights are not plain tensors.
        UserError: The checkpoint has several networks without known names.

    Example:
        >>> import torch
        >>> from srgan_plugin.checkpoints import unwrap
        >>> unwrap({"params": {"module.conv.weight": torch.ones(2)}, "iter": 3})
        {'conv.weight': tensor([1., 1.])}
    """
    return unwrap_with_rest(checkpoint, ema=ema, role=role).weights


class Unwrapped(NamedTuple):
    """Weights of a network, and where in the checkpoint they were.

    Attributes:
        weights: Weights by key.
        rest: First parts of the keys that are not returned.
        source: Keys and prefix that lead to the weights, such as "params_ema"; may be empty.
        averaged: Whether the weights are averages (EMA), judging by their keys.
    """

    weights: dict[str, Tensor]
    rest: tuple[str, ...]
    source: str
    averaged: bool


def unwrap_with_rest(
    checkpoint: Mapping[str, Any], *, ema: bool = True, role: Role = "generator"
) -> Unwrapped:
    """Return the weights as `unwrap` does, and where in the checkpoint they were.

    Args:
        checkpoint: See `unwrap`.
        ema: See `unwrap`.
        role: See `unwrap`.

    Raises:
        UserError: See `unwrap`.
    """
    skipped: dict[str, None] = {}
    inner, names, swapped = checkpoint, [], False
    for _ in range(_MAX_DEPTH):  # a dict may contain itself
        if (name := _find_inner(inner, role, ema=ema)) is None:
            break
        skipped |= {str(key): None for key in inner if inner[key] is not inner[name]}
        swapped |= name in _SWAPPED and _is_swapped(inner)
        inner = inner[name]
        names.append(name)
    plain = _tensors(inner)
    quantized = {_WRAPPED.sub("", key): value for key, value in select_quantized(inner).items()}
    keys = [*plain, *quantized]
    prefixes = (*_PREFIXES[role, ema], "")
    prefix = next(p for p in prefixes if not p or any(_has_prefix(key, p) for key in keys))
    if own := {key: value for key, value in quantized.items() if key.startswith(prefix)}:
        raise WeightFormError(f"expected plain weights, got {explain_form(own)}")
    # {key in the network: key without the prefixes of DDP and torch.compile}
    own_keys = {
        _WRAPPED.sub("", key.removeprefix(prefix)): key for key in plain if key.startswith(prefix)
    }
    weights = {key: plain[old] for key, old in own_keys.items() if not key.startswith(_NOT_WEIGHTS)}
    if not weights:
        raise _explain_no_weights(inner)
    taken = {own_keys[key] for key in weights}
    rest = [key for key in (_WRAPPED.sub("", str(key)) for key in inner) if key not in taken]
    others = tuple(skipped | {key.removeprefix(prefix).partition(".")[0]: None for key in rest})
    weights = _strip_holder(weights)
    source = ".".join(filter(None, (*names, prefix.rstrip("."))))
    averaged = ("ema" in _words(source)) != swapped
    return Unwrapped(weights=weights, rest=others, source=source, averaged=averaged)


def _has_prefix(key: str, prefix: str) -> bool:
    """Return whether a key begins with a prefix of a wrapper, not of a layer of the network."""
    return key.startswith(prefix) and (prefix not in _NUMBERED or bool(_HOLDER.match(key)))


def _strip_holder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the names of modules around the network from the keys."""
    while (found := _HOLDER.match(next(iter(weights)))) and all(
        key.startswith(found[0]) and _HOLDER.match(key) for key in weights
    ):
        weights = select_prefix(weights, found[0])
    return weights


def select_prefix(entries: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the entries with a prefix, and remove the prefix from their keys."""
    return {
        key.removeprefix(prefix): value for key, value in entries.items() if key.startswith(prefix)
    }


def _find_inner(level: Mapping[str, Any], role: Role, *, ema: bool) -> str | None:
    """Return the key of the inner dict with the weights; None if the weights are in `level`.

    Raises:
        UserError: Several inner dicts match and their weights differ.
    """
    held = [str(key) for key, value in level.items() if _holds_weights(value)]
    averaged = [name for name in held if _is_average(name, level, held)]
    of_discriminator = [name for name in held if _stem(name) in _DISCRIMINATOR_STEMS]
    discriminators = [n for n in of_discriminator if n not in averaged] or of_discriminator
    averages = [name for name in averaged if name not in of_discriminator]
    trained = [
        name
        for name in held
        if name in _ANY or (_stem(name) in _GENERATOR_STEMS and name not in averages)
    ]
    if {*_SWAPPED} <= {*held} and _is_swapped(level):
        averages, trained = [_SWAPPED[0]], [_SWAPPED[1]]
    if role == "discriminator" and discriminators:
        return _choose_unambiguous(level, discriminators)
    order = [averages, trained] if ema else [trained, averages]
    names = next((names for names in (*order, discriminators) if names), [])
    return _choose_unambiguous(level, names) if names else None


def _is_average(name: str, level: Mapping[str, Any], held: list[str]) -> bool:
    """Return whether a key is that of averaged weights, not of an averaged loss or the like.

    Args:
        name: The key.
        level: The dict with the key.
        held: Keys of dicts with weights in `level`.
    """
    if name in _AVERAGES or "ema" not in _words(name):
        return name in _AVERAGES
    keys = _tensors(level[name]).keys()
    same = any(_tensors(level[other]).keys() == keys for other in held if other != name)
    return same or _stem(name) in _NETWORK_STEMS


# Keys in mmengine's checkpoints: the averaged weights, and the trained ones.
_SWAPPED = ("state_dict", "ema_state_dict")


def _is_swapped(level: Mapping[str, Any]) -> bool:
    """Return whether mmengine's EMA hook saved the averaged weights as `state_dict`."""
    averaged, trained = map(level.get, _SWAPPED)
    return isinstance(trained, Mapping) and "steps" in trained and averaged is not None


def _choose_unambiguous(level: Mapping[str, Any], names: list[str]) -> str:
    """Return the first key, preferably of a generator; raise `UserError` if the weights differ."""
    own = [name for name in names if _stem(name) in _GENERATOR_STEMS] or names
    if any(not _have_same_weights(level[own[0]], level[name]) for name in own[1:]):
        raise UserError(
            f"expected the weights of one network, got {' and '.join(own)}; save one of them, "
            f"torch.save(torch.load(FILE)[{own[0]!r}], NEW)"
        )
    return own[0]


def _words(name: str) -> list[str]:
    return re.split(r"[_.]", name.lower())


def _stem(name: str) -> str:
    """Return a key without "ema" and "state_dict": `netg` for netG, netG_ema and ema_netG."""
    return "_".join(word for word in _words(name) if word not in ("ema", "state", "dict"))


_GENERATOR_STEMS = {"model_g", *(_stem(name) for name in _GENERATOR)}
_DISCRIMINATOR_STEMS = {"model_d", *(_stem(name) for name in _DISCRIMINATOR)}
_NETWORK_STEMS = {"", *map(_stem, _ANY), *_GENERATOR_STEMS, *_DISCRIMINATOR_STEMS}


def _have_same_weights(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two dicts contain the same weights."""
    a, b = _tensors(one), _tensors(other)
    return a.keys() == b.keys() != set() and all(
        a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]) for key in a
    )


def _tensors(level: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a dict, without prefixes of DDP and torch.compile."""
    return {
        _WRAPPED.sub("", key): value
        for key, value in level.items()
        if isinstance(key, str) and _is_plain(value)
    }


def _holds_weights(value: object, depth: int = _MAX_DEPTH) -> bool:
    """Return whether a value is a dict of weights by name, or such a dict in `depth` wrappers."""
    if not (isinstance(value, Mapping) and depth):
        return False
    if any(isinstance(key, str) and isinstance(held, Tensor) for key, held in value.items()):
        return True
    known = (*_ANY, *_AVERAGES, *_GENERATOR, *_DISCRIMINATOR)
    return any(_holds_weights(value.get(name), depth - 1) for name in known)


def _is_plain(value: object) -> bool:
    """Return whether a value is a dense tensor, neither on the meta device nor quantised."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not (value.is_meta or value.is_quantized)
    )


def _explain_no_weights(inner: Mapping[str, Any]) -> UserError:
    """Return the error for a checkpoint without tensors."""
    if "optimizers" in inner and "schedulers" in inner:
        return NoWeightsError(
            f"expected weights, got a training state of BasicSR (iteration "
            f"{inner.get('iter', 'unknown')}), which has none; give the net_g_….pth that was saved "
            "with it under models/"
        )
    for level in (inner, *(value for value in inner.values() if isinstance(value, Mapping))):
        if arrays := [str(key) for key, held in level.items() if isinstance(held, np.ndarray)]:
            return WeightFormError(
                f"expected tensors, got NumPy arrays ({', '.join(arrays[:5])}); save "
                "{key: torch.from_numpy(value) for key, value in weights.items()}"
            )
    keys = ", ".join(map(str, list(inner)[:5])) or "none"
    return NoWeightsError(f"expected weights in the checkpoint, got the keys {keys}")
