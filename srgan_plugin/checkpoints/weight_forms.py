"""Explain how to save reparametrised, quantised and complex weights as plain ones."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

# Names of the entries of a layer that replace its parameter {}, their origin, and the call that
# restores the parameter.
_REPARAMETRISED: Final = (
    (
        ("{}_orig", "{}_u"),
        "spectral normalisation (torch.nn.utils.spectral_norm)",
        "torch.nn.utils.remove_spectral_norm(layer, '{}')",
    ),
    (
        ("{}_orig", "{}_mask"),
        "pruning (torch.nn.utils.prune)",
        "torch.nn.utils.prune.remove(layer, '{}')",
    ),
    (
        ("{}_g", "{}_v"),
        "weight normalisation (torch.nn.utils.weight_norm)",
        "torch.nn.utils.remove_weight_norm(layer, '{}')",
    ),
    (
        ("parametrizations.{}.original",),
        "a parametrization (torch.nn.utils.parametrizations, such as spectral_norm)",
        "torch.nn.utils.parametrize.remove_parametrizations(layer, '{}')",
    ),
    (
        ("parametrizations.{}.original0", "parametrizations.{}.original1"),
        "a parametrization (torch.nn.utils.parametrizations, such as weight_norm)",
        "torch.nn.utils.parametrize.remove_parametrizations(layer, '{}')",
    ),
)
_PARAMETERS: Final = ("weight", "bias")
# torch stores weight and bias of a quantised linear layer as one object under this name.
_QUANTIZED: Final = re.compile(r"(^|\.)_packed_params(\.|$)")
# Integers of other types are indices, and integers of one dimension counters or flags.
_INTEGERS: Final = (torch.int8, torch.uint8)


def select_quantized(entries: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the weights that torch has quantised: tensors, and objects of linear layers.

    Args:
        entries: Content of a checkpoint, or of a dict in it; keys may be of any type.
    """
    return {
        key: value
        for key, value in entries.items()
        if isinstance(key, str)
        and ((isinstance(value, Tensor) and value.is_quantized) or _QUANTIZED.search(key))
    }


def explain_form(entries: Mapping[str, Any]) -> str | None:
    """Return the form of weights that no network can load, and how to save plain ones.

    Args:
        entries: Content of a state dict; values may be quantised tensors or other objects.

    Returns:
        What a message says after "got", one line; None for plain real weights.
    """
    weights = {key: value for key, value in entries.items() if isinstance(value, Tensor)}
    if form := _explain_reparametrised(weights):
        return form
    if quantized := select_quantized(entries):
        return _explain_quantized(*next(iter(quantized.items())))
    for key, weight in weights.items():
        if weight.dtype in _INTEGERS and weight.dim() > 1:
            return _explain_quantized(key, weight)
        if weight.is_complex():
            return (
                f"complex weights ({_dtype(weight)}), first {key}; give a checkpoint with real "
                "weights, as the networks of srgan_plugin have"
            )
    return None


def _explain_reparametrised(weights: Mapping[str, Tensor]) -> str | None:
    """Return all reparametrisations of weights and the calls that undo them; None for none."""
    kinds: dict[str, str] = {}
    calls: dict[str, None] = {}
    for names, kind, call in _REPARAMETRISED:
        for parameter in _PARAMETERS:
            if key := _find_layer(weights, [name.format(parameter) for name in names]):
                kinds.setdefault(kind, key)
                calls[call.format(parameter)] = None
    if not kinds:
        return None
    return (
        f"weights under {' and '.join(f'{kind}, first {key}' for kind, key in kinds.items())}; in "
        f"the program that trained them, call {' and '.join(calls)} for each such layer, and save "
        "model.state_dict() again"
    )


def _find_layer(weights: Mapping[str, Tensor], names: Sequence[str]) -> str | None:
    """Return the key of the first name in the first layer that has entries of all names."""
    first, *others = names
    for key in weights:
        layer = key.removesuffix(first)
        is_entry = key == first or key.endswith(f".{first}")
        if is_entry and all(layer + name in weights for name in others):
            return key
    return None


def _explain_quantized(key: str, value: object) -> str:
    kind = _dtype(value) if isinstance(value, Tensor) else "packed"
    return (
        f"quantised weights ({kind}), first {key}; give the checkpoint in floating point from "
        "which they were rounded"
    )


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
