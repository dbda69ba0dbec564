"""PSNR and SSIM on whatever device the pictures are on: `metrics` in torch, in float64.

Nothing here waits for the device; who wants numbers calls `tolist` on them.
"""

import torch
from torch import Tensor

from . import psnr_ssim
from .protocol import METRIC_FUNCTIONS, EvaluationProtocol
from .psnr_ssim import C1, C2, PEAK, SIGMA, WINDOW

__all__ = ["psnr", "score", "ssim", "to_y"]


def to_y(rgb: Tensor) -> Tensor:
    """Gives the luma of a picture, unrounded.

    Args:
        rgb: (3, H, W), RGB, 0 to 255.

    Returns:
        (1, H, W), float64, 16 to 235; see `metrics.to_y`.
    """
    red, green, blue = rgb.double()
    a, b, c = psnr_ssim.BT601.tolist()
    luma: Tensor = a * red + b * green + c * blue + 16.0
    return luma[None]


def psnr(pred: Tensor, gt: Tensor) -> Tensor:
    """Measures the peak signal-to-noise ratio, from one MSE over all pixels and channels.

    Args:
        pred: (C, H, W), 0 to 255.
        gt: The picture it is compared with, of the same shape.

    Returns:
        dB, float64, a scalar; infinite where the two are equal.
    """
    mse = (pred.double() - gt.double()).square().mean()
    return 10 * torch.log10(PEAK**2 / mse)


def ssim(pred: Tensor, gt: Tensor) -> Tensor:
    """Measures structural similarity (Wang et al. 2004, eq. 13), per channel, then their mean.

    Args:
        pred: (C, H, W), 0 to 255, at least 11 pixels on each side.
        gt: The picture it is compared with, of the same shape.

    Returns:
        float64, a scalar, at most 1.
    """
    a, b = pred.double(), gt.double()
    means = _window_mean(torch.stack([a, b, a * b, a.square() + b.square()]))
    mean_a, mean_b, mean_product, mean_power = means
    product, power = mean_a * mean_b, mean_a.square() + mean_b.square()
    covariance, variances = mean_product - product, mean_power - power
    similarity = ((2 * product + C1) * (2 * covariance + C2)) / ((power + C1) * (variances + C2))
    mean: Tensor = similarity.mean()
    return mean


def score(pred: Tensor, gt: Tensor, protocol: EvaluationProtocol) -> Tensor:
    """Measures one prediction as `EvaluationProtocol.score` does.

    Args:
        pred: (3, H, W), RGB, floating point, nominally 0 to 255.
        gt: (3, H, W), RGB, uint8, on the same device.
        protocol: Border and rounding.

    Returns:
        (4,), float64, in the order of `METRIC_FUNCTIONS`; NaN where the prediction is not finite.

    Raises:
        ValueError: If shapes differ or the border leaves too little.
    """
    height, width = psnr_ssim.check_comparable(
        (*pred.shape[1:], pred.shape[0]), (*gt.shape[1:], gt.shape[0]), protocol.border, WINDOW
    )
    border = protocol.border
    inside = (..., slice(border, height - border), slice(border, width - border))
    # Half precision cannot hold a value up to 255 finely enough to round it.
    finite = torch.where(pred.isfinite().all(), 0.0, torch.nan)
    a, b = pred[inside].double().clamp(0, PEAK) + finite, gt[inside].double()
    if protocol.rounding:
        a = a.round()
    y_a, y_b = to_y(a), to_y(b)
    measured = {"PSNR": psnr(a, b), "SSIM": ssim(a, b)}
    measured |= {"PSNR_Y": psnr(y_a, y_b), "SSIM_Y": ssim(y_a, y_b)}
    return torch.stack([measured[name] for name in METRIC_FUNCTIONS])


def _window_mean(x: Tensor) -> Tensor:
    """Means over an 11x11 Gaussian window, (..., H, W) to (..., H - 10, W - 10)."""
    offsets = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    taps = torch.exp(-offsets.square() / (2 * SIGMA**2))
    for axis in (-1, -2):
        size = x.shape[axis] - WINDOW + 1
        parts = [x.narrow(axis, start, size) for start in range(WINDOW)]
        x = sum(part * tap for part, tap in zip(parts, (taps / taps.sum()).tolist(), strict=True))
    return x
