"""Measure predictions under evaluation protocols, each measure once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srgan_plugin.data.benchmark_sets import Benchmark
from srgan_plugin.errors import UserError, check_option

from .protocols import DEFAULT_PROTOCOLS, PROTOCOLS, Measure, MetricName
from .psnr_ssim import (
    NOT_FINITE,
    PEAK,
    WINDOW,
    check_comparable,
    mse_of,
    planes,
    psnr_from_mse,
    ssim_of,
)

Scores = dict[MetricName, float]
Upscale = Callable[[NDArray[np.uint8]], NDArray[Any]]


class Scorer:
    """The measures of some protocols; those that protocols share are computed once.

    Args:
        protocols: Names of `PROTOCOLS`.
        border: Pixels left out at each edge, by custom the scale; protocols with a border of their
            own keep that.
        rounding: Off, nothing is rounded to uint8, whatever the protocols say; names stay.

    Attributes:
        measures: By name, in the order of the protocols.

    Raises:
        UserError: A protocol is unknown, or two give one name to different measures.
    """

    def __init__(
        self,
        protocols: Iterable[str] = DEFAULT_PROTOCOLS,
        *,
        border: int = 4,
        rounding: bool = True,
    ) -> None:
        self.protocols, self.border, self.rounding = tuple(protocols), border, rounding
        self.measures: dict[MetricName, Measure] = {}
        for protocol in self.protocols:
            check_option("protocol", protocol, PROTOCOLS)
            for name, measure in PROTOCOLS[protocol].measures(border, rounding).items():
                if (other := self.measures.setdefault(name, measure)) != measure:
                    raise UserError(
                        f"{protocol}: expected {name} within a border of {other.border} as another "
                        f"protocol measures it, got {measure.border}; measure them one by one"
                    )
        if not self.measures:
            raise UserError(f"protocols: expected at least one of {', '.join(PROTOCOLS)}, got none")

    def score(self, pred: NDArray[Any], gt: NDArray[np.uint8], *, peak: float = 1) -> Scores:
        """Measure one prediction.

        Args:
            pred: (h, w, 3), RGB: floating point, nominally 0 to `peak`, or a finished uint8 image.
            gt: (h, w, 3), RGB, uint8.
            peak: White in a floating-point prediction.

        Returns:
            Each measure by name: PSNR in dB, SSIM at most 1.

        Raises:
            UserError: Shapes differ, the border leaves too little, or the prediction has NaNs.
        """
        levels = {r: _levels(pred, r, peak) for r in {m.rounding for m in self.measures.values()}}
        values = self._measure(levels, gt, (pred.shape, gt.shape))
        return dict(zip(self.measures, values.tolist(), strict=True))

    def score_tensor(self, pred: Tensor, gt: Tensor) -> Tensor:
        """Measure one prediction where it lies, without waiting for a GPU.

        Args:
            pred: (3, H, W), RGB, floating point, nominally 0 to 255.
            gt: (3, H, W), RGB, uint8, on the same device.

        Returns:
            (n,), float64, in the order of `measures`; NaN where the prediction is not finite.

        Raises:
            UserError: Shapes differ or the border leaves too little.
        """
        finite = torch.where(pred.isfinite().all(), 0.0, torch.nan)
        # Half precision cannot hold a value up to 255 finely enough to round it.
        exact = pred.double().clamp(0, PEAK) + finite
        shapes = [(*image.shape[1:], image.shape[0]) for image in (pred, gt)]
        return self._measure({True: exact.round(), False: exact}, gt, shapes)

    def _measure(self, levels: Mapping[bool, Any], gt: Any, shapes: Any) -> Tensor:
        """Return the measures of an image rounded and not, HWC array or CHW tensor, 0 to 255."""
        wanted = self.measures.values()
        found: dict[Measure, Tensor] = {}
        for rounding, border in dict.fromkeys((m.rounding, m.border) for m in wanted):
            inside = check_comparable(shapes[0], shapes[1], border, WINDOW)
            index = inside if isinstance(gt, np.ndarray) else (..., *inside)
            group = [m for m in wanted if (m.rounding, m.border) == (rounding, border)]
            found |= _compare(levels[rounding][index], gt[index], group)
        return torch.stack([found[measure] for measure in wanted])

    def describe(self) -> str:
        """Return what is measured: a line on the border, and one for each protocol."""
        width = max(map(len, self.protocols))
        lines = [f"Protocols, {self.border} pixels cut off each edge:"]
        for name in self.protocols:
            protocol = PROTOCOLS[name]
            measured = replace(protocol, rounding=self.rounding and protocol.rounding)
            lines.append(f"  {name:{width}}  {measured.describe()}")
        return "\n".join(lines)


def _compare(pred: Any, gt: Any, measures: Sequence[Measure]) -> dict[Measure, Tensor]:
    """Return measures of one border and rounding; each plane is compared once."""
    names = dict.fromkeys("".join(m.channel for m in measures))
    a, b = (dict(zip(names, planes(image, names), strict=True)) for image in (pred, gt))
    by_plane: dict[tuple[str, str], Tensor] = {}
    for function, compare in (("PSNR", mse_of), ("SSIM", ssim_of)):
        chosen = dict.fromkeys("".join(m.channel for m in measures if m.function == function))
        if chosen:
            pairs: Any = [[image[n] for n in chosen] for image in (a, b)]
            if isinstance(pred, Tensor):
                pairs = [torch.stack(pair) for pair in pairs]
            by_plane |= {(function, n): v for n, v in zip(chosen, compare(*pairs), strict=True)}
    found = {}
    for m in measures:
        mean = torch.stack([by_plane[m.function, plane] for plane in m.channel]).mean()
        found[m] = psnr_from_mse(mean) if m.function == "PSNR" else mean
    return found


def _levels(pred: NDArray[Any], rounding: bool, peak: float) -> NDArray[Any]:
    """Return a prediction in 0 to 255, rounded or not."""
    if pred.dtype == np.uint8:
        return pred
    if not np.issubdtype(pred.dtype, np.floating):
        raise UserError(f"prediction: expected floats in 0 to 1, or uint8, got {pred.dtype}")
    if not np.isfinite(pred).all():
        raise UserError(NOT_FINITE)
    # Half precision cannot hold 255 times a value finely enough to round it.
    kind = np.result_type(pred, np.float32) if rounding else np.dtype(np.float64)
    clamped: NDArray[Any] = np.clip(pred.astype(kind) * (PEAK / peak), 0, PEAK)
    return np.rint(clamped) if rounding else clamped


def score_images(
    upscale: Upscale, benchmark: Benchmark, scorer: Scorer
) -> Iterator[tuple[str, Scores]]:
    """Run a method over a test set and yield each image's key and scores.

    Args:
        upscale: Maps an LR image, (h, w, 3) RGB uint8, to its SR image: (scale h, scale w, 3)
            RGB, floating point, nominally 0 to 1, or uint8.
        benchmark: The test set.
        scorer: What is measured.
    """
    for index in range(len(benchmark.pairs)):
        pair = benchmark.pairs[index]
        yield pair.key, scorer.score(upscale(np.asarray(pair.lr)), np.asarray(pair.gt))


def average(scores: Iterable[Mapping[MetricName, float]]) -> Scores:
    """Return the mean of each metric over images: the mean of PSNRs, not the PSNR of the mean."""
    rows = list(scores)
    if not rows:
        raise UserError("expected the scores of at least one image, got none")
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def evaluate(upscale: Upscale, benchmark: Benchmark, scorer: Scorer) -> Scores:
    """Return the average of `score_images` over the images of a test set."""
    return average(scores for _, scores in score_images(upscale, benchmark, scorer))
