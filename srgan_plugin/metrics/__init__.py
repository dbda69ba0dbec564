"""PSNR and SSIM by protocol, beside published results."""

from .protocol import METRIC_FUNCTIONS, EvaluationProtocol, average, evaluate, score_images
from .psnr_ssim import psnr, quantize, ssim, to_y
from .reference_results import ReferenceResult, reference_result
from .tables import format_table

__all__ = [
    "METRIC_FUNCTIONS",
    "EvaluationProtocol",
    "ReferenceResult",
    "average",
    "evaluate",
    "format_table",
    "psnr",
    "quantize",
    "reference_result",
    "score_images",
    "ssim",
    "to_y",
]
