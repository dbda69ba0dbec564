"""Pack many small tensors into few, so that an operation on all of them needs few GPU kernels."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .blocks import is_channels_last


@torch.no_grad()
def copy_tensors(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copy tensors, detached; the copies of one dtype and device share one allocation.

    Copies are in channels-last format where their tensors are, contiguous otherwise.
    """
    copied: dict[int, Tensor] = {}
    for indices in _indices_by_kind(tensors):
        group = [tensors[n] for n in indices]
        copied |= zip(indices, unpack(pack(group, group), group), strict=True)
    return [copied[index] for index in range(len(tensors))]


@torch.no_grad()
def assign_where(condition: Tensor, targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Assign each value to its target if a condition on the device holds, without synchronising.

    Args:
        condition: Boolean scalar, (), on the device of the targets, or on the CPU.
        targets: Tensors, changed in place, even if they require gradients.
        values: Tensors of the same shapes, converted to dtype and device of the targets. Those
            after the last target are not used.

    Raises:
        ValueError: A target has no value, or one of another shape.
    """
    shapes, given = ([tuple(item.shape) for item in items] for items in (targets, values))
    if shapes != given[: len(shapes)]:
        raise ValueError(f"values: expected the shapes {shapes}, got {given}")
    for indices in _indices_by_kind(targets):
        old = [targets[n] for n in indices]
        new = [values[n].to(targets[n]) for n in indices]
        chosen = torch.where(condition, pack(new, old), pack(old, old))
        # A few kernels for all tensors; torch has no public form of it.
        torch._foreach_copy_(old, unpack(chosen, old))


def pack(tensors: Sequence[Tensor], like: Sequence[Tensor]) -> Tensor:
    """Concatenate the values of tensors of one dtype, on one device.

    Args:
        tensors: Tensors, at least one.
        like: Tensors of the same number and shapes, into which the values are to be unpacked; their
            memory formats give the order of the values.

    Returns:
        The values, (N,).
    """
    flat = []
    for tensor, target in zip(tensors, like, strict=True):
        ordered = tensor.permute(0, 2, 3, 1) if is_channels_last(target) else tensor
        flat.append(ordered.reshape(-1))
    return torch.cat(flat)


def unpack(values: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return views of the values of `pack`, (N,), in the shapes and memory formats of `like`."""
    views = []
    parts = values.split([target.numel() for target in like])  # type: ignore[no-untyped-call]
    for part, target in zip(parts, like, strict=True):
        if is_channels_last(target):
            n, c, h, w = target.shape
            views.append(part.view(n, h, w, c).permute(0, 3, 1, 2))
        else:
            views.append(part.view(target.shape))
    return views


def _indices_by_kind(tensors: Sequence[Tensor]) -> Iterator[list[int]]:
    """Yield the indices of the tensors of each dtype and device, which `pack` can concatenate."""
    kinds = [(tensor.dtype, tensor.device) for tensor in tensors]
    for kind in dict.fromkeys(kinds):
        yield [index for index, other in enumerate(kinds) if other == kind]
