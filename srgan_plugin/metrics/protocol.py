"""How a method is measured on a test set: border, rounding, and what is averaged."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srgan_plugin.data.benchmark_sets import Benchmark
from srgan_plugin.errors import UserError

from .psnr_ssim import (
    PEAK,
    WINDOW,
    Channel,
    check_comparable,
    luma,
    psnr,
    psnr_of,
    quantize,
    ssim,
    ssim_of,
    to_y,
)

MetricName = Literal["PSNR", "SSIM", "PSNR_Y", "SSIM_Y"]
Scores = dict[MetricName, float]
Upscale = Callable[[NDArray[np.uint8]], NDArray[Any]]

METRIC_FUNCTIONS: dict[MetricName, tuple[Callable[..., float], Channel]] = {
    "PSNR": (psnr, "rgb"),
    "SSIM": (ssim, "rgb"),
    "PSNR_Y": (psnr, "y"),
    "SSIM_Y": (ssim, "y"),
}


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol:
    """The conditions of a measurement; the defaults made the published x4 table.

    Attributes:
        border: Pixels left out at each edge; by custom the scale.
        rounding: Measure the uint8 image one would save (BasicSR, MMEditing 0.x). Off, the
            clamped floats are measured instead, as MMagic 1.x does.
    """

    border: int = 4
    rounding: bool = True

    def score(self, pred: NDArray[Any], gt: NDArray[np.uint8]) -> Scores:
        """Measure one prediction.

        Args:
            pred: (h, w, 3), RGB: floating point, nominally 0 to 1, or a finished uint8 image.
            gt: (h, w, 3), RGB, uint8.

        Returns:
            PSNR (dB) and SSIM over RGB, PSNR_Y and SSIM_Y over BT.601 luma.

        Raises:
            UserError: Shapes differ, the border leaves too little, or the prediction has NaNs.
        """
        inside = check_comparable(pred.shape, gt.shape, self.border, WINDOW)
        a, b = (image[inside].astype(np.float64) for image in (self._image(pred), gt))
        scores = _score(a, b, to_y(a), to_y(b))
        return dict(zip(METRIC_FUNCTIONS, scores.tolist(), strict=True))

    def score_tensor(self, pred: Tensor, gt: Tensor) -> Tensor:
        """Measure one prediction where it lies, without waiting for a GPU.

        Args:
            pred: (3, H, W), RGB, floating point, nominally 0 to 255.
            gt: (3, H, W), RGB, uint8, on the same device.

        Returns:
            (4,), float64, in the order of `METRIC_FUNCTIONS`; NaN where the prediction is not
            finite.

        Raises:
            UserError: Shapes differ or the border leaves too little.
        """
        a_shape, b_shape = ((*image.shape[1:], image.shape[0]) for image in (pred, gt))
        inside = (..., *check_comparable(a_shape, b_shape, self.border, WINDOW))
        finite = torch.where(pred.isfinite().all(), 0.0, torch.nan)
        # Half precision cannot hold a value up to 255 finely enough to round it.
        a = pred[inside].double().clamp(0, PEAK) + finite
        a, b = a.round() if self.rounding else a, gt[inside].double()
        return _score(a, b, luma(*a), luma(*b))

    def _image(self, pred: NDArray[Any]) -> NDArray[Any]:
        if pred.dtype == np.uint8:
            return pred
        if not np.issubdtype(pred.dtype, np.floating):
            raise UserError(f"prediction: expected floats in 0 to 1, or uint8, got {pred.dtype}")
        return quantize(pred) if self.rounding else np.clip(pred.astype(np.float64), 0, 1) * PEAK

    def describe(self) -> str:
        """Return a description of what is measured, for the line under a table."""
        rounded = "rounded to uint8" if self.rounding else "clamped, not rounded"
        return f"RGB and Y (BT.601), {self.border} pixels cut off each edge, output {rounded}"


def _score(a: Any, b: Any, y_a: Any, y_b: Any) -> Tensor:
    """Return the four metrics of float64 images and their luma, in `METRIC_FUNCTIONS`' order."""
    return torch.stack([psnr_of(a, b), ssim_of(a, b), psnr_of(y_a, y_b), ssim_of(y_a, y_b)])


def score_images(
    upscale: Upscale, benchmark: Benchmark, protocol: EvaluationProtocol
) -> Iterator[tuple[str, Scores]]:
    """Run a method over a test set and yield each image's key and scores.

    Args:
        upscale: Maps an LR image, (h, w, 3) RGB uint8, to its SR image: (scale h, scale w, 3)
            RGB, floating point, nominally 0 to 1, or uint8.
        benchmark: The test set.
        protocol: The conditions.
    """
    for index in range(len(benchmark.pairs)):
        pair = benchmark.pairs[index]
        yield pair.key, protocol.score(upscale(np.asarray(pair.lr)), np.asarray(pair.gt))


def average(scores: Iterable[Mapping[MetricName, float]]) -> Scores:
    """Return the mean of each metric over images: the mean of PSNRs, not the PSNR of the mean."""
    rows = list(scores)
    if not rows:
        raise UserError("expected the scores of at least one image, got none")
    return {name: sum(row[name] for row in rows) / len(rows) for name in METRIC_FUNCTIONS}


def evaluate(upscale: Upscale, benchmark: Benchmark, protocol: EvaluationProtocol) -> Scores:
    """Return the average of `score_images` over the images of a test set."""
    return average(scores for _, scores in score_images(upscale, benchmark, protocol))
