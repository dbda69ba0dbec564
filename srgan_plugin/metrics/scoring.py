"""Measure predictions under evaluation protocols."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srgan_plugin.data.benchmark_sets import Benchmark
from srgan_plugin.errors import UserError, check_count, check_option, prefix_errors

from .protocols import DEFAULT_PROTOCOLS, PROTOCOLS, Metric
from .psnr_ssim import (
    PEAK,
    WINDOW,
    check_arrays,
    mse_by_plane,
    psnr_from_mse,
    remove_border,
    split_planes,
    ssim_by_plane,
    to_levels,
)

Scores = dict[str, float]
Upscale = Callable[[NDArray[np.uint8]], NDArray[Any]]


class Scorer:
    """The metrics of several protocols; a metric that protocols share is computed once.

    `score` measures arrays (H, W, 3), by default with floating point in [0, 1]; `score_tensor`
    measures tensors (3, H, W) in [0, 255].

    Args:
        protocols: Names in `PROTOCOLS`, or one of them.
        border: Pixels to crop from each edge, at least 0, usually the scale; default 4. A
            protocol's own border takes precedence.
        rounding: Whether to round to uint8 where a protocol does; names do not depend on it.

    Attributes:
        protocols: Names of the protocols.
        border: See Args.
        rounding: See Args.
        metrics: Metrics with their options by name, in the order of the protocols.

    Raises:
        UserError: `protocols` is empty, a protocol is unknown, two protocols use one name for
            different metrics, or `border` is not an integer of at least 0.

    Example:
        >>> import numpy as np
        >>> from srgan_plugin.metrics import Scorer
        >>> gt = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
        >>> scorer = Scorer(["basicsr", "y"], border=4)
        >>> {name: round(value, 2) for name, value in scorer.score(gt ^ 1, gt).items()}
        {'PSNR': 48.13, 'SSIM': 1.0, 'PSNR_Y': 64.64, 'SSIM_Y': 1.0}
    """

    def __init__(
        self,
        protocols: str | Iterable[str] = DEFAULT_PROTOCOLS,
        *,
        border: int = 4,
        rounding: bool = True,
    ) -> None:
        check_count(0, border=border)
        protocols = [protocols] if isinstance(protocols, str) else protocols
        self.protocols, self.border, self.rounding = tuple(protocols), border, rounding
        self.metrics: dict[str, Metric] = {}
        for protocol in self.protocols:
            check_option("protocol", protocol, PROTOCOLS)
            for name, metric in PROTOCOLS[protocol].metrics(border, rounding).items():
                if (other := self.metrics.setdefault(name, metric)) != metric:
                    raise UserError(
                        f"{protocol}: expected {name} after {other.border} pixels are cropped, as "
                        f"in another protocol, got {metric.border}; measure them one by one"
                    )
        if not self.metrics:
            raise UserError(f"protocols: expected at least one of {', '.join(PROTOCOLS)}, got none")

    def score(self, pred: NDArray[Any], gt: NDArray[np.uint8], *, peak: float = 1) -> Scores:
        """Measure one prediction, as an array.

        Args:
            pred: RGB, (H, W, 3): uint8 in [0, 255], or floating point in [0, `peak`]; values
                outside are clamped.
            gt: GT image, RGB, (H, W, 3), uint8 in [0, 255].
            peak: Value of white in a floating-point prediction, above 0, such as 255; ignored for
                uint8.

        Returns:
            Values by name: PSNR in dB, SSIM in [-1, 1].

        Raises:
            UserError: An image is not an array, the shapes differ or are not (H, W, 3), the cropped
                image is too small, `gt` is not uint8, the prediction is not finite, or neither
                uint8 nor floating point, or `peak` is not positive.
        """
        check_arrays(pred=pred, gt=gt)
        levels = {
            rounding: pred
            if pred.dtype == np.uint8
            else to_levels(pred, peak=peak, rounding=rounding)
            for rounding in {m.rounding for m in self.metrics.values()}
        }
        values = self._measure(levels, gt)
        return dict(zip(self.metrics, values.tolist(), strict=True))

    def score_tensor(self, pred: Tensor, gt: Tensor) -> Tensor:
        """Measure one prediction as a tensor, on its device, without synchronising with a GPU.

        Args:
            pred: RGB, (3, H, W), floating point in [0, 255], such as a network's output times 255;
                values outside are clamped.
            gt: GT image, RGB, (3, H, W), uint8 in [0, 255], on the same device.

        Returns:
            (n,), float64, in the order of `metrics`; NaN if the prediction is not finite.

        Raises:
            UserError: An image is not a tensor, the shapes differ or are not (3, H, W), the cropped
                image is too small, or `gt` is not uint8.
        """
        images: dict[str, object] = {"pred": pred, "gt": gt}
        for name, image in images.items():
            if not isinstance(image, Tensor):
                kind = type(image).__name__
                raise UserError(f"{name}: expected a tensor, got {kind}; `score` measures arrays")
        finite = torch.where(pred.isfinite().all(), 0.0, torch.nan)
        exact = pred.double().clamp(0, PEAK) + finite
        return self._measure({True: exact.round(), False: exact}, gt)

    def _measure(self, levels: Mapping[bool, Any], gt: Any) -> Tensor:
        """Compute all metrics of an image.

        Args:
            levels: The prediction in [0, 255] by `rounding`: array (H, W, 3) or tensor (3, H, W).
            gt: GT image in [0, 255], an array or tensor as well.

        Returns:
            (n,), float64, in the order of `metrics`.

        Raises:
            UserError: See `score`.
        """
        metrics = self.metrics.values()
        found: dict[Metric, Tensor] = {}
        _check_levels(gt)
        for rounding, border in dict.fromkeys((m.rounding, m.border) for m in metrics):
            pair = remove_border(levels[rounding], gt, border, WINDOW)
            group = [m for m in metrics if (m.rounding, m.border) == (rounding, border)]
            found |= _compare(*pair, group)
        return torch.stack([found[metric] for metric in metrics])

    def describe(self) -> str:
        """Describe the border in a line, and each protocol, with its own border if any, in one."""
        width = max(map(len, self.protocols))
        lines = [f"Protocols, {self.border} pixels cut off each edge:"]
        for name in self.protocols:
            protocol = PROTOCOLS[name]
            measured = replace(protocol, rounding=self.rounding and protocol.rounding)
            own_border = protocol.border not in (None, self.border)
            cropped = f", {protocol.border} pixels cut off each edge" if own_border else ""
            lines.append(f"  {name:{width}}  {measured.describe(self.border)}{cropped}")
        return "\n".join(lines)


def _check_levels(gt: Any) -> None:
    """Raise `UserError` unless GT has dtype uint8; floating point in [0, 1] would be measured."""
    if gt.dtype not in (np.uint8, torch.uint8):
        raise UserError(
            f"gt: expected uint8 in [0, 255], got {gt.dtype}; from floating point in [0, 1], "
            "multiply by 255, round and convert"
        )


def _compare(pred: Any, gt: Any, metrics: Sequence[Metric]) -> dict[Metric, Tensor]:
    """Compute metrics with one border and rounding; each plane is compared once.

    Args:
        pred: Cropped prediction, RGB in [0, 255]: array (H, W, 3) or tensor (3, H, W).
        gt: Cropped GT image, an array or tensor as well.
        metrics: The metrics.

    Returns:
        Values by metric: tensors (), float64.
    """
    names = dict.fromkeys("".join(m.channel for m in metrics))
    a, b = (dict(zip(names, split_planes(image, names), strict=True)) for image in (pred, gt))
    by_plane: dict[tuple[str, str], Tensor] = {}
    for kind, compare in (("PSNR", mse_by_plane), ("SSIM", ssim_by_plane)):
        chosen = dict.fromkeys("".join(m.channel for m in metrics if m.kind == kind))
        if chosen:
            pairs: Any = [[image[n] for n in chosen] for image in (a, b)]
            if isinstance(pred, Tensor):
                pairs = [torch.stack(pair) for pair in pairs]
            by_plane |= {(kind, n): v for n, v in zip(chosen, compare(*pairs), strict=True)}
    found = {}
    for m in metrics:
        mean = torch.stack([by_plane[m.kind, plane] for plane in m.channel]).mean()
        found[m] = psnr_from_mse(mean) if m.kind == "PSNR" else mean
    return found


def score_images(
    upscale: Upscale, benchmark: Benchmark, scorer: Scorer
) -> Iterator[tuple[str, Scores]]:
    """Run a method over a test set and yield the key and the scores of each image.

    Args:
        upscale: Maps an LR image, RGB (h, w, 3) uint8, to the SR image, RGB (H, W, 3): uint8 in
            [0, 255], or floating point in [0, 1]; values outside are clamped.
        benchmark: The test set.
        scorer: The metrics.

    Yields:
        Key of the image, and its values by name of the metric, in the order of the test set.

    Raises:
        UserError: An image cannot be read or measured; the message names it.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from srgan_plugin.data.benchmark_sets import find_benchmark
        >>> from srgan_plugin.data.resize import imresize
        >>> from srgan_plugin.io.writers import write_image
        >>> from srgan_plugin.metrics import Scorer, score_images
        >>> with tempfile.TemporaryDirectory() as root:
        ...     write_image(f"{root}/Toy/HR/a.png", np.full((48, 48, 3), 100, np.uint8))
        ...     benchmark = find_benchmark("Toy", root)
        ...     results = score_images(lambda lr: imresize(lr, 4), benchmark, Scorer(["y"]))
        ...     dict(results)
        {'a': {'PSNR_Y': inf, 'SSIM_Y': 1.0}}
    """
    for index in range(len(benchmark.pairs)):
        pair = benchmark.pairs[index]
        with prefix_errors(pair.key):
            scores = scorer.score(upscale(np.asarray(pair.lr)), np.asarray(pair.gt))
        yield pair.key, scores


def average(scores: Iterable[Mapping[str, float]]) -> Scores:
    """Average each metric over images: the mean of PSNRs, not the PSNR of the mean error.

    An image that equals its GT makes the mean PSNR infinite.

    Args:
        scores: Values by name of the metric, for each image.

    Returns:
        Means by name of the metric.

    Raises:
        UserError: `scores` is empty, or two images have different metrics.

    Example:
        >>> from srgan_plugin.metrics import average
        >>> average([{"PSNR": 30.0}, {"PSNR": 32.0}])
        {'PSNR': 31.0}
    """
    rows = list(scores)
    if not rows:
        raise UserError("scores: expected those of at least one image, got none")
    for row in rows[1:]:
        if row.keys() != rows[0].keys():
            raise UserError(f"scores: expected {', '.join(rows[0])} of each, got {', '.join(row)}")
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def evaluate(upscale: Upscale, benchmark: Benchmark, scorer: Scorer) -> Scores:
    """Average `score_images` over a test set.

    Args:
        upscale: See `score_images`.
        benchmark: The test set.
        scorer: The metrics.

    Returns:
        Means over images by name of the metric.

    Raises:
        UserError: The test set is empty, or an image cannot be read or measured.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from srgan_plugin.data.benchmark_sets import find_benchmark
        >>> from srgan_plugin.data.resize import imresize
        >>> from srgan_plugin.io.writers import write_image
        >>> from srgan_plugin.metrics import Scorer, evaluate
        >>> with tempfile.TemporaryDirectory() as root:
        ...     write_image(f"{root}/Toy/HR/a.png", np.full((48, 48, 3), 100, np.uint8))
        ...     benchmark = find_benchmark("Toy", root)
        ...     evaluate(lambda lr: imresize(lr, 4), benchmark, Scorer(["basicsr"]))
        {'PSNR': inf, 'SSIM': 1.0}
    """
    return average(scores for _, scores in score_images(upscale, benchmark, scorer))
