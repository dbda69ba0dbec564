"""PSNR and SSIM as mmengine metrics."""

from . import metrics  # noqa: F401 - fills the registries
