"""PSNR and SSIM under named protocols, NIQE, and published results to compare with.

Example:
    >>> import numpy as np
    >>> from srgan_plugin.metrics import DEFAULT_PROTOCOLS, PROTOCOLS, psnr
    >>> set(DEFAULT_PROTOCOLS) <= set(PROTOCOLS)
    True
    >>> gt = np.full((16, 16, 3), 100, np.uint8)
    >>> round(psnr(gt + np.uint8(1), gt), 2)
    48.13
"""

from .protocols import DEFAULT_PROTOCOLS, PROTOCOLS, EvaluationProtocol
from .psnr_ssim import psnr, quantize, ssim, to_y
from .reference_results import ReferenceResult, reference_results
from .scoring import Scorer, average, evaluate, score_images
from .tables import format_comparison, format_conditions, format_metrics, format_table

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
    "format_metrics",
    "format_table",
    "psnr",
    "quantize",
    "reference_results",
    "score_images",
    "ssim",
    "to_y",
]
