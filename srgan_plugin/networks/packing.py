"""Pack many small tensors into few, so that an operation on all of them needs few GPU kernels."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .blocks import is_channels_last


def copy_tensors(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copy each tensor in its memory format; the copies of one dtype share one allocation."""
    copied: dict[int, Tensor] = {}
    for indices in _indices_by_dtype(tensors):
        group = [tensors[n] for n in indices]
        copied |= zip(indices, unpack(pack(group, group), group), strict=True)
    return [copied[index] for index in range(len(tensors))]


def assign_where(condition: Tensor, targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Assign each value to its target if a condition on the device holds, without synchronising.

    Args:
        condition: Boolean scalar on the device of the targets.
        targets: Tensors, changed in place.
        values: Tensors of the same shapes.
    """
    for indices in _indices_by_dtype(targets):
        old = [targets[n] for n in indices]
        new = [values[n].to(targets[n]) for n in indices]
        chosen = torch.where(condition, pack(new, old), pack(old, old))
        torch._foreach_copy_(old, unpack(chosen, old))


def pack(tensors: Sequence[Tensor], like: Sequence[Tensor]) -> Tensor:
    """Concatenate the values of tensors of one dtype.

    Args:
        tensors: Tensors, at least one.
        like: Tensors of the same shapes, whose memory formats give the order of the values.

    Returns:
        The values, (N,).
    """
    lines = []
    for tensor, target in zip(tensors, like, strict=True):
        ordered = tensor.permute(0, 2, 3, 1) if is_channels_last(target) else tensor
        lines.append(ordered.reshape(-1))
    return torch.cat(lines)


def unpack(values: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return views of the values of `pack`, in the shapes and memory formats of `like`."""
    found = []
    parts = values.split([target.numel() for target in like])  # type: ignore[no-untyped-call]
    for part, target in zip(parts, like, strict=True):
        if is_channels_last(target):
            n, c, h, w = target.shape
            found.append(part.view(n, h, w, c).permute(0, 3, 1, 2))
        else:
            found.append(part.view(target.shape))
    return found


def _indices_by_dtype(tensors: Sequence[Tensor]) -> Iterator[list[int]]:
    """Yield the indices of the tensors of each dtype."""
    dtypes = [tensor.dtype for tensor in tensors]
    for dtype in dict.fromkeys(dtypes):
        yield [index for index, other in enumerate(dtypes) if other == dtype]
