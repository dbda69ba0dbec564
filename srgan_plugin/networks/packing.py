"""Many small tensors as one, so that what is done to all of them is a few kernels on a GPU."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .blocks import is_channels_last


def copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return a copy of each tensor, in its memory format; those of one type share their memory."""
    found: dict[int, Tensor] = {}
    for numbers in _by_type(tensors):
        group = [tensors[n] for n in numbers]
        found |= zip(numbers, unpack(pack(group, group), group), strict=True)
    return [found[number] for number in range(len(tensors))]


def assign_where(condition: Tensor, targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Assign each value to its target if a scalar condition holds, which the host need not know.

    Args:
        condition: A boolean scalar on the targets' device.
        targets: Changed in place.
        values: As many tensors of the same shapes.
    """
    for numbers in _by_type(targets):
        old = [targets[n] for n in numbers]
        new = [values[n].to(targets[n]) for n in numbers]
        chosen = torch.where(condition, pack(new, old), pack(old, old))
        torch._foreach_copy_(old, unpack(chosen, old))


def pack(tensors: Sequence[Tensor], like: Sequence[Tensor]) -> Tensor:
    """Concatenate the values of tensors of one type.

    Args:
        tensors: At least one.
        like: A tensor of the same shape for each, in whose order in memory its values come.

    Returns:
        Of one dimension.
    """
    lines = []
    for tensor, target in zip(tensors, like, strict=True):
        ordered = tensor.permute(0, 2, 3, 1) if is_channels_last(target) else tensor
        lines.append(ordered.reshape(-1))
    return torch.cat(lines)


def unpack(values: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return views of what `pack` made, in shape and memory format as `like`."""
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
    """Yield the numbers of the tensors of each type."""
    types = [tensor.dtype for tensor in tensors]
    for one in dict.fromkeys(types):
        yield [number for number, dtype in enumerate(types) if dtype == one]
