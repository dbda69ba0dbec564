"""Weights that are not plain real tensors under their own names: what they are and what helps."""

import re
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

# How keys of one weight end together, what makes them so, and what makes plain weights of them.
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
_WHOLE_NUMBERS: Final = (torch.int8, torch.uint8)


def explain_form(entries: Mapping[str, Any]) -> str | None:
    """Say what weights are that fit no network as they are, and how to save them instead.

    Args:
        entries: Weights by key, or what lies among them, such as quantised tensors.

    Returns:
        One line; None for plain real weights.
    """
    weights = {key: value for key, value in entries.items() if isinstance(value, Tensor)}
    for ends, kind, undo in _SUFFIXES:
        first = next((key for key in weights if _ends(key, ends[0])), None)
        if first is not None and all(any(_ends(key, end) for key in weights) for end in ends[1:]):
            return (
                f"weights under {kind}, first {first}: where it was trained, call {undo} for "
                "each such layer, and save model.state_dict() again"
            )
    if key := next((key for key in map(str, entries) if _QUANTIZED.search(key)), None):
        return _quantized(key)
    for key, weight in weights.items():
        if weight.is_quantized or (weight.dtype in _WHOLE_NUMBERS and weight.dim() > 1):
            return _quantized(key)
        if weight.is_complex():
            return (
                f"complex weights ({str(weight.dtype).removeprefix('torch.')}), first {key}: the "
                "networks here compute with real numbers, and no real weights can replace them; "
                "give a checkpoint of a network with real weights"
            )
    return None


def _ends(key: str, name: str) -> bool:
    return key == name or key.endswith(f".{name}")


def _quantized(key: str) -> str:
    return (
        f"weights quantised to 8 bits, first {key}: rounding cannot be undone; give the checkpoint "
        "in floating point from which it was quantised"
    )
