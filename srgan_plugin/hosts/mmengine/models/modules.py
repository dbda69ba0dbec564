"""Register the networks and losses in `MODELS`, and bicubic upscaling as a network."""

import numpy as np
import torch
from torch import Tensor, nn

from srgan_plugin.data.resize import imresize
from srgan_plugin.losses import LOSSES
from srgan_plugin.networks import DISCRIMINATORS, GENERATORS
from srgan_plugin.registry import MODELS

for _module in (GENERATORS | DISCRIMINATORS | LOSSES).values():
    MODELS.register_module(module=_module)


@MODELS.register_module()
class Bicubic(nn.Module):
    """MATLAB's bicubic in floating point as a module, to check protocols (`configs/bicubic_x4.py`).

    Args:
        upscale_factor: Height of the output over height of the input.
    """

    def __init__(self, upscale_factor: int = 4) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale a batch, computed in float64 on the CPU.

        Args:
            lr: (N, C, H, W), nominally in [0, 1], on any device.

        Returns:
            (N, C, H * factor, W * factor), not clamped, on the device of `lr`: float64, but float32
            on MPS, which has no float64.
        """
        images = lr.cpu().double().permute(0, 2, 3, 1).numpy()
        large = np.stack([imresize(image, self.upscale_factor) for image in images])
        sr = torch.from_numpy(large).permute(0, 3, 1, 2)
        return sr.float().to(lr.device) if lr.device.type == "mps" else sr.to(lr.device)
