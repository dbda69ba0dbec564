"""PSNR and SSIM by protocol, on the usual test sets, next to the published numbers."""

from srgan_plugin.evaluation.benchmarks import Benchmark, data_root, find_benchmark
from srgan_plugin.evaluation.metrics import psnr, quantize, ssim, to_y
from srgan_plugin.evaluation.protocol import MEASURES, Protocol, average, evaluate, score_images
from srgan_plugin.evaluation.published import Published, published
from srgan_plugin.evaluation.tables import format_table

__all__ = [
    "MEASURES",
    "Benchmark",
    "Protocol",
    "Published",
    "average",
    "data_root",
    "evaluate",
    "find_benchmark",
    "format_table",
    "psnr",
    "published",
    "quantize",
    "score_images",
    "ssim",
    "to_y",
]
