"""Pack many small tensors into few, so that an operation on all of them needs few GPU kernels."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .blocks import is_channels_last


def copy_tensors(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copy each tensor in its memory format; the copies of one dtype share one allocation."""
    found: dict[int, Tensor] = {}
    for numbers in _by_type(tensors):
        group = [tensors[n] for n in numbers]
        found |= zip(numbers, unpack(pack(group, group), group), strict=True)
    return [found[number] for number in range(len(tensors))]


def assign_where(condition: Tensor, targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Assign each value to its target if a condition on the device holds, without synchronising.

    Args:
        condition: Boolean scalar on the device of the targets.
        targets: Tensors, changed in place.
        values: Tensors of the same shapes.
    """
    for numbers in _by_type(targets):
        old = [targets[n] for n in numbers]
        new = [values[n].to(targets[n]) for n in numbers]
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


def _by_type(tensors: Sequence[Tensor]) -> Iterator[list[int]]:
    """Yield the indices of the tensors of each dtype."""
    types = [tensor.dtype for tensor in tensors]
    for one in dict.fromkeys(types):
        yield [number for number, dtype in enumerate(types) if dtype == one]
