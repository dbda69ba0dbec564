"""PSNR and SSIM by protocol, beside published results."""

from .protocol import MEASURES, Protocol, average, evaluate, score_images
from .psnr_ssim import psnr, quantize, ssim, to_y
from .reference_results import Published, published
from .tables import format_table

__all__ = [
    "MEASURES",
    "Protocol",
    "Published",
    "average",
    "evaluate",
    "format_table",
    "psnr",
    "published",
    "quantize",
    "score_images",
    "ssim",
    "to_y",
]
