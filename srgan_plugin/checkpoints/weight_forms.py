"""Explain how to save reparametrised, quantised and complex weights as plain ones."""

import re
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

# Endings of the keys that replace the key of one weight, their origin, and the call that restores
# the weight.
_SUFFIXES: Final = (
    (
        ("weight_orig", "weight_u"),
        "spectral normalisation (torch.nn.utils.spectral_norm)",
        "torch.nn.utils.remove_spectral_norm(layer)",
    ),
    (
        ("weight_orig", "weight_mask"),
        "pruning (torch.nn.utils.prune)",
        "torch.nn.utils.prune.remove(layer, 'weight')",
    ),
    (
        ("weight_g", "weight_v"),
        "weight normalisation (torch.nn.utils.weight_norm)",
        "torch.nn.utils.remove_weight_norm(layer)",
    ),
    (
        ("parametrizations.weight.original",),
        "a parametrization (torch.nn.utils.parametrizations, such as spectral_norm)",
        "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')",
    ),
    (
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
        "a parametrization (torch.nn.utils.parametrizations, such as weight_norm)",
        "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')",
    ),
)
_QUANTIZED: Final = re.compile(r"(^|\.)_packed_params(\.|$)")
_INTEGERS: Final = (torch.int8, torch.uint8)


def select_quantized(entries: Mapping[str, Any]) -> dict[str, Any]:
    """Return the weights that torch has quantised, also packed ones of linear layers."""
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
        Text for a message, one line; None for plain real weights.
    """
    weights = {key: value for key, value in entries.items() if isinstance(value, Tensor)}
    for ends, kind, undo in _SUFFIXES:
        first = next((key for key in weights if _ends_with(key, ends[0])), None)
        if first is not None and all(
            any(_ends_with(key, end) for key in weights) for end in ends[1:]
        ):
            return (
                f"weights under {kind}, first {first}: where it was trained, call {undo} for "
                "each such layer, and save model.state_dict() again"
            )
    if quantized := select_quantized(entries):
        return _explain_quantized(next(iter(quantized)))
    for key, weight in weights.items():
        if weight.dtype in _INTEGERS and weight.dim() > 1:
            return _explain_quantized(key)
        if weight.is_complex():
            return (
                f"complex weights ({str(weight.dtype).removeprefix('torch.')}), first {key}: the "
                "networks of srgan_plugin have real weights; give a checkpoint with such"
            )
    return None


def _ends_with(key: str, name: str) -> bool:
    return key == name or key.endswith(f".{name}")


def _explain_quantized(key: str) -> str:
    return (
        f"weights quantised to 8 bits, first {key}: rounding cannot be undone; give the checkpoint "
        "in floating point from which it was quantised"
    )
