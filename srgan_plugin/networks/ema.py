"""Exponential moving average of a network's weights."""

import torch
from torch import Tensor, nn

from .packing import pack, unpack


@torch.no_grad()
def update_ema(
    average: nn.Module, model: nn.Module, decay: float, updated: Tensor | bool = True
) -> None:
    """Move an averaged network towards a trained one: `decay * average + (1 - decay) * model`.

    Integer buffers, such as batch normalisation's counter, are copied.

    Args:
        average: The averaged network, changed in place.
        model: The trained network, with the same state-dict keys.
        decay: Share of the average that remains, in [0, 1].
        updated: Whether the step changed `model`. If it is false, `average` does not change, even
            where weights of `model` are NaN. A tensor on a GPU costs no synchronisation.

    Example:
        >>> import torch
        >>> from srgan_plugin.networks.ema import update_ema
        >>> average, model = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
        >>> _ = average.bias.data.fill_(0.0), model.bias.data.fill_(1.0)
        >>> update_ema(average, model, decay=0.75)
        >>> average.bias.item()
        0.25
    """
    if updated is False:
        return
    trained = model.state_dict()
    # Shared weights have several keys, and must be averaged once. Other entries are no tensors.
    pairs = list(
        {
            (held.data_ptr(), held.shape): (held, trained[key])
            for key, held in average.state_dict().items()
            if isinstance(held, Tensor)
        }.values()
    )
    updated = torch.as_tensor(updated)
    if updated.device.type != "cpu":  # reading its value would synchronise
        for dtype in {held.dtype for held, _ in pairs}:
            _update_on_device([pair for pair in pairs if pair[0].dtype == dtype], decay, updated)
    elif updated:
        floating = [pair for pair in pairs if _is_averaged(pair[0])]
        if floating:  # in one call, because a GPU would launch a kernel for each tensor
            averages, values = map(list, zip(*floating, strict=True))
            torch._foreach_lerp_(averages, values, 1 - decay)
        for held, new in pairs:
            if not _is_averaged(held):
                held.copy_(new)


def _is_averaged(weight: Tensor) -> bool:
    return weight.is_floating_point() or weight.is_complex()


def _update_on_device(pairs: list[tuple[Tensor, Tensor]], decay: float, updated: Tensor) -> None:
    """Average tensors of one dtype, packed into one, if `updated`; more launches take longer."""
    averages = [held for held, _ in pairs]
    old, new = pack(averages, averages), pack([new for _, new in pairs], averages)
    averaged = old.lerp(new, 1 - decay) if _is_averaged(old) else new
    torch._foreach_copy_(averages, unpack(torch.where(updated, averaged, old), averages))
