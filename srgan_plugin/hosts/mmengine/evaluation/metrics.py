"""PSNR and SSIM as mmengine metrics, with the names and arguments of MMagic."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric
from numpy.typing import NDArray
from torch import Tensor

from srgan_plugin.errors import UserError, check_count, check_option, prefix_errors
from srgan_plugin.hosts.mmengine.models.data_preprocessor import as_rgb, is_bgr
from srgan_plugin.metrics import psnr_ssim
from srgan_plugin.metrics.protocols import DEFAULT_PROTOCOLS
from srgan_plugin.metrics.scoring import Scorer, average
from srgan_plugin.registry import METRICS

from .sample_images import check_shapes, find_image, to_hwc


def _on_cuda(image: Any) -> bool:
    return isinstance(image, Tensor) and image.is_cuda  # not MPS: the scorer needs float64


def _name(sample: Mapping[str, Any]) -> str:
    """Return the key of a sample, for messages."""
    return str(sample.get("key", "an image"))


class ImageMetric(BaseMetric):
    """Average the dicts that `_measure` returns over the test set.

    Args:
        gt_key: Key of the GT image in a sample.
        pred_key: Key of the prediction in the sample's `output`.
        collect_device: Device on which the results of several ranks are collected.
        prefix: Prefix of the metric name in the log, as in `Set5/PSNR`; None: the name of the test
            set in this package's `MultiValLoop` and `MultiTestLoop`, none in other loops.
        crop_border: Pixels to crop from each edge, at least 0; default 0.
        rounding: Whether predictions are rounded to uint8 before they are measured, as in published
            tables (BasicSR, MMEditing 0.x), but not in MMagic 1.x; default True.

    Raises:
        UserError: `crop_border` is not an integer of at least 0.
    """

    #: Whether prediction and GT are compared and must have one shape.
    full_reference: ClassVar[bool] = True
    # MMagic's evaluator reads these: metrics with the same two share one run over a loader. The
    # values are those of MMagic's PSNR.
    SAMPLER_MODE = "normal"
    sample_model = "orig"
    results: list[Any]

    def __init__(
        self,
        gt_key: str = "gt_img",
        pred_key: str = "pred_img",
        collect_device: str = "cpu",
        prefix: str | None = None,
        crop_border: int = 0,
        rounding: bool = True,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        check_count(0, crop_border=crop_border)
        self.gt_key = gt_key
        self.pred_key = pred_key
        self.crop_border = crop_border
        self.rounding = rounding
        self.input_order = "CHW"
        self.size: int | None = None  # number of images, if the loop calls `prepare`

    def _measure(self, pred: NDArray[Any], gt: NDArray[Any]) -> dict[str, float]:
        """Measure one image.

        Args:
            pred: Prediction, RGB, clamped to [0, 255], (H, W, 3), floating point or uint8, not
                rounded.
            gt: GT image, RGB in [0, 255] (not clamped), (H, W, 3), uint8 or floating point; of any
                shape if `full_reference` is False.

        Returns:
            Values by name of the metric.
        """
        raise NotImplementedError

    def _round(self, pred: NDArray[Any]) -> NDArray[Any]:
        return np.rint(pred) if self.rounding and pred.dtype.kind == "f" else pred

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Measure every image of a batch.

        Args:
            data_batch: Ignored.
            data_samples: Samples as dicts, with GT as `gt_key` and the prediction as `pred_key` of
                `output`: tensors or arrays in [0, 255], (3, H, W) or frames (T, 3, H, W), whose
                values are averaged; (H, W, 3) for `input_order="HWC"`. Values of a prediction
                outside [0, 255] are clamped. The metadata state which of both are BGR.

        Raises:
            UserError: An image is missing or cannot be measured; the message begins with the key
                of the sample.
        """
        for sample in data_samples:
            with prefix_errors(_name(sample)):
                self.results.append(self._measure_sample(sample))

    def _measure_sample(self, sample: dict[str, Any]) -> dict[str, float]:
        images = self._find_images(sample)
        check_shapes(*images, self.input_order, full_reference=self.full_reference)
        pred, gt = (
            to_hwc(image, self.input_order, bgr=is_bgr(sample, key))
            for image, key in zip(images, (self.pred_key, self.gt_key), strict=True)
        )
        if not np.isfinite(pred).all():
            raise UserError(psnr_ssim.NOT_FINITE)
        if self.full_reference and not np.isfinite(gt).all():
            raise UserError(
                "GT: expected finite values, got NaN or infinite ones; check the files of "
                "the test set and its pipeline"
            )
        pred = pred.clip(0, 255)
        pred = pred if pred.dtype.kind == "f" else pred.astype(np.uint8)
        if pred.ndim == 3:
            return self._measure(pred, gt)
        return average(self._measure(*frames) for frames in zip(pred, gt, strict=True))

    def _find_images(self, sample: Any) -> tuple[Any, Any]:
        """Return prediction and GT of a sample, unchanged."""
        return find_image(sample["output"], self.pred_key), find_image(sample, self.gt_key)

    def prepare(self, module: Any, dataloader: Any) -> None:
        """Store the number of images: MMagic's loops call this, and `evaluate` without a size."""
        self.size = len(dataloader.dataset)

    def get_metric_sampler(self, model: Any, dataloader: Any, metrics: Any) -> Any:
        """Return the loader of the images to measure, for MMagic's loops.

        Args:
            model: Ignored; metrics of generative models sample it.
            dataloader: Loader of the test set.
            metrics: Ignored; metrics that share the loader.

        Returns:
            `dataloader`.
        """
        return dataloader

    def evaluate(self, size: int | None = None) -> dict[str, float]:
        """Average over the test set, and clear the results.

        Args:
            size: Number of images of the test set, from mmengine's loops; None: from `prepare`.

        Returns:
            Means by name of the metric, with the prefix.

        Raises:
            UserError: The test set is empty.
        """
        size = self.size if size is None else size
        if size is not None:
            # Results of an earlier run that ended in an error come first. Of this run, each rank
            # has at most its share of the images, rounded up.
            share = -(-size // get_world_size())
            del self.results[: max(len(self.results) - share, 0)]
        self.results = self._to_scores(self.results)
        measured: dict[str, float] = super().evaluate(size)
        return measured

    def _to_scores(self, results: list[Any]) -> list[dict[str, float]]:
        """Return what `_measure_sample` returned as values by name, before ranks exchange them."""
        return results

    def compute_metrics(self, results: list[dict[str, float]]) -> dict[str, float]:
        """Average over the images of the test set.

        Raises:
            UserError: The test set is empty.
        """
        return average(results)


class _PSNROrSSIM(ImageMetric):
    """PSNR or SSIM under MMagic's arguments, in MMagic's order; see `PSNR`.

    Raises:
        UserError: `input_order`, `convert_to` or `crop_border` has another value than MMagic's.
    """

    metric: ClassVar[str]
    function: ClassVar[Callable[..., float]]

    def __init__(
        self,
        gt_key: str = "gt_img",
        pred_key: str = "pred_img",
        collect_device: str = "cpu",
        prefix: str | None = None,
        crop_border: int = 0,
        input_order: Literal["CHW", "HWC"] = "CHW",
        convert_to: Literal["Y", "y"] | None = None,
        rounding: bool = True,
    ) -> None:
        super().__init__(gt_key, pred_key, collect_device, prefix, crop_border, rounding)
        check_option("input_order", input_order, ("CHW", "HWC"))
        self.input_order = input_order
        check_option("convert_to", convert_to, (None, "Y", "y"))
        self.channel: psnr_ssim.Channel = "y" if convert_to else "rgb"

    def _measure(self, pred: NDArray[Any], gt: NDArray[Any]) -> dict[str, float]:
        pred = self._round(pred)
        return {self.metric: self.function(pred, gt, border=self.crop_border, channel=self.channel)}


@METRICS.register_module()
class PSNR(_PSNROrSSIM):
    """Peak signal-to-noise ratio in dB.

    Args:
        gt_key: Key of the GT image in a sample.
        pred_key: Key of the prediction in the sample's `output`.
        collect_device: Device on which the results of several ranks are collected.
        prefix: Prefix of the metric name in the log, as in `Set5/PSNR`; None: the name of the test
            set in this package's `MultiValLoop` and `MultiTestLoop`, none in other loops.
        crop_border: Pixels to crop from each edge, at least 0; default 0, as in MMagic. Published
            tables use the scale.
        input_order: `"CHW"`, as predicted by the models here, or `"HWC"`.
        convert_to: None for RGB, `"Y"` or `"y"` for luma (BT.601, studio range).
        rounding: Whether predictions are rounded to uint8 before they are measured, as in published
            tables (BasicSR, MMEditing 0.x), but not in MMagic 1.x; default True.

    Raises:
        UserError: `crop_border`, `input_order` or `convert_to` has another value.
    """

    metric = "PSNR"
    function = staticmethod(psnr_ssim.psnr)


@METRICS.register_module()
class SSIM(_PSNROrSSIM):
    """Structural similarity with an 11x11 Gaussian window; arguments as for `PSNR`."""

    metric = "SSIM"
    function = staticmethod(psnr_ssim.ssim)


class _GPUScores(NamedTuple):
    """Scores of an image, still on the GPU, with the name of the image."""

    name: str
    scores: Tensor


@METRICS.register_module()
class BenchmarkMetric(ImageMetric):
    """All metrics of the given protocols.

    Single images on a CUDA device are measured there; frames (T, C, H, W), and images elsewhere, on
    the CPU.

    Args:
        crop_border: Pixels to crop from each edge, at least 0; default 4, as in published tables
            of x4, which use the scale.
        protocols: Names in `srgan_plugin.metrics.PROTOCOLS` (docs/protocols.md).
        kwargs: `gt_key`, `pred_key`, `collect_device`, `prefix`, `rounding`, as for `PSNR`.

    Raises:
        UserError: `crop_border` is not an integer of at least 0, a protocol is unknown, there is
            none, or two crop different borders for one metric.
    """

    def __init__(
        self, crop_border: int = 4, protocols: Sequence[str] = DEFAULT_PROTOCOLS, **kwargs: Any
    ) -> None:
        super().__init__(crop_border=crop_border, **kwargs)
        self.scorer = Scorer(protocols, border=crop_border, rounding=self.rounding)

    def _measure_sample(self, sample: dict[str, Any]) -> Any:
        """Return the scores of a sample, on the GPU as a `_GPUScores`, without synchronising."""
        pred, gt = self._find_images(sample)
        # Loaders give GT in uint8. It is checked on the CPU otherwise, where it may be an array or
        # have NaN, for which there would be no message without synchronising.
        is_uint8 = isinstance(gt, Tensor) and gt.dtype == torch.uint8
        if not (_on_cuda(pred) and pred.ndim == 3 and is_uint8):
            return super()._measure_sample(sample)
        pred = as_rgb(pred, sample, self.pred_key)
        # The preprocessors here move GT with the inputs; another one may leave it on the CPU.
        gt = as_rgb(gt.to(pred.device), sample, self.gt_key)
        return _GPUScores(_name(sample), self.scorer.score_tensor(pred, gt))

    def _to_scores(self, results: list[Any]) -> list[dict[str, float]]:
        """Return the scores of all samples, after one synchronisation with the GPU.

        Raises:
            UserError: A prediction measured on the GPU was not finite.
        """
        on_gpu = [result for result in results if isinstance(result, _GPUScores)]
        if not on_gpu:
            return results
        rows = iter(torch.stack([result.scores for result in on_gpu]).tolist())
        return [
            self._named_scores(result.name, next(rows))
            if isinstance(result, _GPUScores)
            else result
            for result in results
        ]

    def _named_scores(self, image: str, row: list[float]) -> dict[str, float]:
        if any(map(math.isnan, row)):
            raise UserError(f"{image}: {psnr_ssim.NOT_FINITE}")
        return dict(zip(self.scorer.metrics, row, strict=True))

    def _measure(self, pred: NDArray[Any], gt: NDArray[Any]) -> dict[str, float]:
        return self.scorer.score(pred, gt, peak=psnr_ssim.PEAK)
