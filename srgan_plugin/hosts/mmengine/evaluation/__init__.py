"""PSNR, SSIM, NIQE, LPIPS and DISTS as mmengine metrics."""

from . import metrics, perceptual  # noqa: F401 - fills the registries
