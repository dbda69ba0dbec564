"""How a method is measured on a test set: border, rounding, and what is averaged."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from srgan_plugin.data.benchmark_sets import Benchmark
from srgan_plugin.errors import UserError

from .psnr_ssim import Channel, psnr, quantize, ssim

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
        border: pixels left out at each edge; by custom the scale.
        rounding: measure the uint8 picture one would save (BasicSR, MMEditing 0.x). Off, the
            clamped floats are measured instead, as MMagic 1.x does.
    """

    border: int = 4
    rounding: bool = True

    def score(self, pred: NDArray[Any], gt: NDArray[np.uint8]) -> Scores:
        """Measures one prediction.

        Args:
            pred: (h, w, 3), RGB: floating point, nominally 0 to 1, or a finished uint8 picture.
            gt: (h, w, 3), RGB, uint8.

        Returns:
            PSNR (dB) and SSIM over RGB, PSNR_Y and SSIM_Y over BT.601 luma.

        Raises:
            ValueError: shapes differ, the border leaves too little, or the prediction has NaNs.
        """
        image = self._image(pred)
        return {
            name: measure(image, gt, border=self.border, channel=channel)
            for name, (measure, channel) in METRIC_FUNCTIONS.items()
        }

    def _image(self, pred: NDArray[Any]) -> NDArray[Any]:
        if pred.dtype == np.uint8:
            return pred
        if not np.issubdtype(pred.dtype, np.floating):
            raise UserError(
                f"expected a prediction of floats in 0 to 1 or of uint8, got {pred.dtype}"
            )
        return quantize(pred) if self.rounding else np.clip(pred.astype(np.float64), 0, 1) * 255

    def describe(self) -> str:
        """Says in words what was measured, for the line under a table."""
        rounded = "rounded to uint8" if self.rounding else "clamped, not rounded"
        return f"RGB and Y (BT.601), {self.border} pixels cut off each edge, output {rounded}"


def score_images(
    upscale: Upscale, benchmark: Benchmark, protocol: EvaluationProtocol
) -> Iterator[tuple[str, Scores]]:
    """Runs a method over a test set and yields each image's key and scores as it is done.

    Args:
        upscale: maps an LR picture, (h, w, 3) RGB uint8, to its SR picture: (scale h, scale w, 3)
            RGB, floating point, nominally 0 to 1, or uint8.
        benchmark: the test set.
        protocol: the conditions.
    """
    for index in range(len(benchmark.pairs)):
        pair = benchmark.pairs[index]
        yield pair.key, protocol.score(upscale(np.asarray(pair.lr)), np.asarray(pair.gt))


def average(scores: Iterable[Mapping[MetricName, float]]) -> Scores:
    """Takes the mean of each measure over images: the mean of PSNRs, not the PSNR of the mean."""
    rows = list(scores)
    if not rows:
        raise UserError("expected the scores of at least one image, got none")
    return {name: sum(row[name] for row in rows) / len(rows) for name in METRIC_FUNCTIONS}


def evaluate(upscale: Upscale, benchmark: Benchmark, protocol: EvaluationProtocol) -> Scores:
    """Measures a method on a test set: `score_images`, averaged over the images."""
    return average(scores for _, scores in score_images(upscale, benchmark, protocol))
