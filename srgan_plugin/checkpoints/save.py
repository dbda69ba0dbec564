"""Checkpoint files, written whole or not at all."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from srgan_plugin.io.atomic import atomic_path


def save_atomically(
    obj: object,
    path: str | os.PathLike[str],
    *,
    check: Callable[[Path], None] | None = None,
) -> None:
    """Saves with `torch.save` so that the file appears, or replaces the old one, only when whole.

    Args:
        obj: what to save; for a path that ends in `.safetensors`, a dict of `state_dict` (weights)
            and `meta`, of which plain values are kept as the file's metadata.
        path: the file.
        check: is given the written file before it gets its name; what it raises prevents that.

    Raises:
        OSError: the file cannot be written; whatever had that name before is untouched.
    """
    path = Path(path)
    content = _encoded(obj, path.suffix)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
        if check is not None:
            check(temporary)


def _encoded(obj: Any, suffix: str) -> bytes:
    if suffix != ".safetensors":
        # In memory: torch turns a full disk into errors that no longer say so.
        buffer = io.BytesIO()
        torch.save(obj, buffer)
        return buffer.getvalue()
    from safetensors.torch import save

    # Copies: safetensors refuses weights that share their memory, as those of one PReLU do.
    weights = {
        key: weight.detach().clone(memory_format=torch.contiguous_format)
        for key, weight in obj["state_dict"].items()
    }
    return save(weights, metadata={key: json.dumps(value) for key, value in obj["meta"].items()})
