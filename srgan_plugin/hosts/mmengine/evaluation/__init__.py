"""PSNR and SSIM as mmengine metrics."""

from . import metrics

__all__ = ["metrics"]
