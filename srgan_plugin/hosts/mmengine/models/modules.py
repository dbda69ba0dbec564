"""The networks and losses under their registry names, and how models build them."""

from typing import Any

import numpy as np
import torch
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from srgan_plugin import core
from srgan_plugin.data.resize import imresize
from srgan_plugin.registry import MODELS, SCOPE

Config = dict[str, Any]

for _module in (
    core.MSRResNet,
    core.SRResNet,
    core.ModifiedVGG,
    core.SRGANDiscriminator,
    core.L1Loss,
    core.MSELoss,
    core.PerceptualLoss,
    core.GANLoss,
):
    MODELS.register_module(module=_module)


@MODELS.register_module()
class Bicubic(nn.Module):
    """No network: MATLAB's bicubic in floating point, the protocol's own check.

    Args:
        upscale_factor: Output over input size.
    """

    def __init__(self, upscale_factor: int = 4) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale a batch N3HW in [0, 1]; computed in float64 on the CPU."""
        pictures = lr.cpu().double().permute(0, 2, 3, 1).numpy()
        large = np.stack([imresize(picture, self.upscale_factor) for picture in pictures])
        sr = torch.from_numpy(large).permute(0, 3, 1, 2)
        return sr.float().to(lr.device) if lr.device.type == "mps" else sr.to(lr.device)


def build(config: Config | nn.Module | None) -> Any:
    """Build a part of a model; a name without a prefix is looked for in our scope first."""
    if config is None or isinstance(config, nn.Module):
        return config
    if not isinstance(config, dict):
        raise ValueError(f"expected dict(type=…) for a part of the model, got {config!r}")
    return MODELS.build({"_scope_": SCOPE, **config})


def is_ours(network: nn.Module) -> bool:
    """Whether a network is of this package, and not another toolbox's."""
    return type(unwrapped(network)).__module__.startswith("srgan_plugin.")


def unwrapped(network: Any) -> Any:
    """The network itself, where a wrapper for distributed training is around it."""
    return network.module if is_model_wrapper(network) else network


def gradient_norm(name: str, optimizer: Any) -> dict[str, Tensor]:
    """What our wrapper measured at its last step; another toolbox's measures nothing."""
    norm = getattr(optimizer, "gradient_norm", None)
    return {} if norm is None else {f"grad_norm_{name}": norm}


def batch_statistics(*networks: nn.Module | None) -> list[tuple[Tensor, Tensor]]:
    """The running statistics of batch normalisation, each with a copy of it as it is now."""
    return [
        (buffer, buffer.clone())
        for network in filter(None, networks)
        for name, buffer in network.named_buffers()
        if name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")
    ]


def keep(statistics: list[tuple[Tensor, Tensor]], optimizer: Any) -> None:
    """Note what the statistics were before a step that accumulates the gradients of batches."""
    if getattr(optimizer, "accumulates_over", 1) > 1 and optimizer.statistics is None:
        optimizer.statistics = [before for _, before in statistics]


@torch.no_grad()
def restore(statistics: list[tuple[Tensor, Tensor]], optimizer: Any) -> None:
    """Put back what a step that was left out has done to batch normalisation, in all its batches.

    Whether it was may be a tensor on the device: nobody waits for it.
    """
    left_out = getattr(optimizer, "left_out", False)
    first = getattr(optimizer, "statistics", None) or [before for _, before in statistics]
    if left_out is False and getattr(optimizer, "moved", True) is False:
        return  # the step goes on with the next batch
    if hasattr(optimizer, "statistics"):
        optimizer.statistics = None
    if left_out is False:
        return
    for (buffer, _), before in zip(statistics, first, strict=True):
        buffer.copy_(torch.where(torch.as_tensor(left_out), before.to(buffer), buffer))
