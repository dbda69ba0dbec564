"""What lies around a network's weights in a checkpoint, and what it says about them."""

import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from srgan_plugin.errors import UserError

Role = Literal["generator", "discriminator"]

# The keys under which code bases put a network's weights.
_GENERATOR = ("generator", "netG", "net_g", "G", "gen", "g_state_dict", "generator_state_dict")
_DISCRIMINATOR = ("discriminator", "netD", "net_d", "D", "disc", "d_state_dict")
_AVERAGES = (
    *("params_ema", "ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema"),
    *("generator_ema", "netG_ema", "net_g_ema", "G_ema", "g_ema", "gen_ema"),
)
_ANY = (
    *("params", "state_dict", "model_state_dict", "model_state", "model", "net"),
    *("weights", "checkpoint", "sr_model"),
)
# What the weights' own keys may begin with, averaged weights (EMA) first.
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
# Modules that hold a network; where numbers follow, they are a part of it (KAIR, early ESRGAN).
_HOLDER = re.compile(r"(model|net|module|_orig_mod|generator|netG|net_g|G|gen|model_[gG])\.(?!\d)")
_NUMBERED = ("model.", "net.")
# Left by data-parallel training and by torch.compile.
_WRAPPED = re.compile(r"^((module|_orig_mod)\.)+")
# The last is our note as a tensor, see `recorded_args`.
_NOT_WEIGHTS = ("data_preprocessor.", "step_counter", "steps", "n_averaged", "srgan_plugin.")
_DEEPEST = 4


class NoWeightsError(UserError):
    """A checkpoint without weights."""


def unwrap(
    checkpoint: Mapping[str, Any], *, ema: bool = True, role: Role = "generator"
) -> dict[str, Tensor]:
    """Return the weights of a network in a checkpoint.

    Wrappers (`state_dict`, `params`, …) and the prefix `module.` of data-parallel training are
    removed. Of a training checkpoint the weights of one network are returned, else all.

    Args:
        checkpoint: Content of the checkpoint, from `load_checkpoint_file`.
        ema: Whether to prefer averaged weights.
        role: Network of a training checkpoint, "generator" or "discriminator".

    Raises:
        UserError: There are no weights, or those of several networks without known names.

    Example:
        >>> import torch
        >>> from srgan_plugin.checkpoints import unwrap
        >>> unwrap({"params": {"module.conv.weight": torch.ones(2)}, "iter": 3})
        {'conv.weight': tensor([1., 1.])}
    """
    return unwrap_and_list(checkpoint, ema=ema, role=role)[0]


def unwrap_and_list(
    checkpoint: Mapping[str, Any], *, ema: bool = True, role: Role = "generator"
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Do what `unwrap` does, and name what else there was: keys, or how keys begin."""
    skipped: dict[str, None] = {}
    inner = checkpoint
    for _ in range(_DEEPEST):  # a dict may hold itself
        if (name := _inner(inner, role, ema=ema)) is None:
            break
        skipped |= {str(key): None for key in inner if inner[key] is not inner[name]}
        inner = inner[name]
    plain = _tensors(inner)
    prefixes = (*_PREFIXES[role, ema], "")
    prefix = next(p for p in prefixes if not p or any(_lies_in(p, key) for key in plain))
    weights = {
        _WRAPPED.sub("", key): weight
        for key, weight in below(plain, prefix).items()
        if not key.startswith(_NOT_WEIGHTS)
    }
    if not weights:
        raise NoWeightsError(_nothing_in(inner))
    weights = _without_holder(weights)
    taken = {key for key in plain if key.startswith(prefix) and not key.startswith(_NOT_WEIGHTS)}
    rest = [key for key in map(str, inner) if _WRAPPED.sub("", key) not in taken]
    return weights, tuple(skipped | {key.partition(".")[0]: None for key in rest})


def _lies_in(prefix: str, key: str) -> bool:
    return key.startswith(prefix) and (prefix not in _NUMBERED or bool(_HOLDER.match(key)))


def _without_holder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights without the names of modules that all of them lie in."""
    while (found := _HOLDER.match(next(iter(weights)))) and all(
        key.startswith(found[0]) and _HOLDER.match(key) for key in weights
    ):
        weights = below(weights, found[0])
    return weights


def below(entries: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the entries whose keys begin with a prefix, without it."""
    return {
        key.removeprefix(prefix): value for key, value in entries.items() if key.startswith(prefix)
    }


def _inner(level: Mapping[str, Any], role: Role, *, ema: bool) -> str | None:
    """Return the key under which the weights lie; None where they lie on this level.

    Raises:
        UserError: several may be meant.
    """
    held = [str(key) for key, value in level.items() if _holds_weights(value)]
    averages = [k for k in held if k in _AVERAGES or "ema" in _words(k)]
    averaged_discriminators = [name for name in averages if _stem(name) in _DISCRIMINATOR_STEMS]
    averages = [name for name in averages if name not in averaged_discriminators]
    trained = [
        name
        for name in held
        if name in _ANY or (_stem(name) in _GENERATOR_STEMS and name not in averages)
    ]
    if "ema_state_dict" in held and "steps" in level["ema_state_dict"]:
        # mmengine's hook saves the averaged weights as those to use, the trained ones beside them.
        averages, trained = ["state_dict"], ["ema_state_dict"]
    discriminators = [
        name
        for name in held
        if _stem(name) in _DISCRIMINATOR_STEMS and name not in averaged_discriminators
    ] or averaged_discriminators
    if role == "discriminator" and discriminators:
        order = [discriminators]
    else:
        order = [averages, trained] if ema else [trained, averages]
        order.append(discriminators)
    for names in order:
        own = [name for name in names if _stem(name) in _GENERATOR_STEMS] or names
        if any(not _same(level[own[0]], level[name]) for name in own[1:]):
            raise UserError(
                f"expected the weights of one network, got {' and '.join(own)}, and nothing says "
                f"which is meant: save the one, torch.save(torch.load(FILE)[{own[0]!r}], NEW)"
            )
        if own:
            return own[0]
    return None


def _words(name: str) -> list[str]:
    return re.split(r"[_.]", name.lower())


def _stem(name: str) -> str:
    """Return what a key is called after: `netg` of netG, netG_ema and ema_netG."""
    return "_".join(word for word in _words(name) if word not in ("ema", "state", "dict"))


_GENERATOR_STEMS = {"model_g", *(_stem(name) for name in _GENERATOR)}
_DISCRIMINATOR_STEMS = {"model_d", *(_stem(name) for name in _DISCRIMINATOR)}


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two dicts hold the same weights."""
    a, b = _tensors(one), _tensors(other)
    return a.keys() == b.keys() != set() and all(
        a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]) for key in a
    )


def _tensors(level: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a dict, without what training wrapped their keys in."""
    return {
        _WRAPPED.sub("", key): value
        for key, value in level.items()
        if isinstance(key, str) and _is_plain(value)
    }


def _holds_weights(value: object, deep: bool = True) -> bool:
    """Whether a value is a dict of weights by name, or such a dict in a wrapper."""
    if not isinstance(value, Mapping):
        return False
    if any(isinstance(key, str) and isinstance(held, Tensor) for key, held in value.items()):
        return True
    known = (*_ANY, *_AVERAGES, *_GENERATOR, *_DISCRIMINATOR)
    return deep and any(_holds_weights(value.get(name), deep=False) for name in known)


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
    if inner and all(isinstance(value, np.ndarray) for value in inner.values()):
        return (
            f"expected tensors, got NumPy arrays ({keys}): save "
            "{key: torch.from_numpy(value) for key, value in weights.items()}"
        )
    return f"expected weights in the checkpoint, but its keys are {keys}"
