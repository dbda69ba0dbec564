"""Exponential moving average of a network's weights."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


@torch.no_grad()
def update_ema(
    average: nn.Module, model: nn.Module, decay: float, updated: Tensor | bool = True
) -> None:
    """Move an averaged network towards a trained one: `decay * average + (1 - decay) * model`.

    Counters, which have no average, are copied.

    Args:
        average: The averaged network, changed in place.
        model: The trained network, with the same state-dict keys.
        decay: Share of the average that remains, in [0, 1].
        updated: Whether the step changed `model`; without, nothing changes, even where the weights
            are NaN. A tensor on a GPU is not waited for.
    """
    if updated is False:
        return
    trained = model.state_dict()
    pairs = [(held, trained[key]) for key, held in average.state_dict().items()]
    updated = torch.as_tensor(updated)
    if updated.device.type != "cpu":  # only the device knows its value
        for held, new in pairs:
            averaged = held.lerp(new, 1 - decay) if held.is_floating_point() else new
            held.copy_(torch.where(updated, averaged, held))
    elif updated:
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        move(*map(list, zip(*floating, strict=True)), 0)  # all at once: a third of the time
        for held, new in pairs:
            if not held.is_floating_point():
                held.copy_(new)
