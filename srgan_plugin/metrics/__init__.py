"""PSNR and SSIM under named protocols, NIQE, beside published results."""

from .protocols import DEFAULT_PROTOCOLS, PROTOCOLS, EvaluationProtocol
from .psnr_ssim import psnr, quantize, ssim, to_y
from .reference_results import ReferenceResult, reference_results
from .scoring import Scorer, average, evaluate, score_images
from .tables import format_comparison, format_conditions, format_measures, format_table

__all__ = [
    "DEFAULT_PROTOCOLS",
    "PROTOCOLS",
    "EvaluationProtocol",
    "ReferenceResult",
    "Scorer",
    "average",
    "evaluate",
    "format_comparison",
    "format_conditions",
    "format_measures",
    "format_table",
    "psnr",
    "quantize",
    "reference_results",
    "score_images",
    "ssim",
    "to_y",
]
