"""PSNR and SSIM as mmengine metrics, with the names and arguments of MMagic."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from numpy.typing import NDArray
from torch import Tensor

from srgan_plugin.errors import UserError, check_count, check_option, prefix_errors
from srgan_plugin.hosts.mmengine.models.data_preprocessor import as_rgb, is_bgr
from srgan_plugin.metrics import psnr_ssim
from srgan_plugin.metrics.protocols import DEFAULT_PROTOCOLS
from srgan_plugin.metrics.scoring import Scorer, average
from srgan_plugin.registry import METRICS


def _entry(sample: Any, key: str) -> Any:
    """Return the image of a sample: its `data_samples`, else the entry `key`, else `data`.

    The order is that of MMagic's metrics; dicts are searched in the same way.
    """
    for name in ("data_samples", key, "data"):
        if name in sample:
            found = sample[name]
            return _entry(found, key) if isinstance(found, Mapping) else found
    raise KeyError(f"{key}: expected an image of this name, got a sample with {', '.join(sample)}")


def _images(sample: Any, gt_key: str, pred_key: str) -> tuple[Any, Any]:
    """Return prediction and GT of a sample, unchanged."""
    return _entry(sample["output"], pred_key), _entry(sample, gt_key)


def _hwc(image: Any, order: str, *, bgr: bool) -> NDArray[Any]:
    """Convert an image to an RGB array (H, W, C), or frames to (T, H, W, C); C is 1 for grey."""
    if isinstance(image, Tensor):
        image = image.float() if image.dtype == torch.bfloat16 else image  # NumPy has no bfloat16
        image = image.detach().cpu().numpy()
    array = np.asarray(image)
    if array.ndim == 2:
        return array[..., None]
    hwc = np.moveaxis(array, -3, -1) if order == "CHW" else array
    return hwc[..., ::-1] if bgr else hwc


def _check_shapes(pred: Any, gt: Any, order: str, *, full_reference: bool) -> None:
    """Raise `UserError` for shapes that cannot be measured, with the shapes as given.

    Args:
        pred: Prediction, one image or several frames.
        gt: GT image or frames.
        order: Order of the axes, "CHW" or "HWC".
        full_reference: Whether the images are compared, so that they must have one shape; else
            only the numbers of frames must be equal.
    """
    shape, gt_shape = tuple(np.shape(pred)), tuple(np.shape(gt))
    axis, expected = (-3, "(3, H, W)") if order == "CHW" else (-1, "(H, W, 3)")
    is_rgb = len(shape) in (3, 4) and shape[axis] == 3
    same = shape == gt_shape if full_reference else shape[:-3] == gt_shape[:-3]
    if not (is_rgb and same):
        hint = "convert both to RGB" + " of one size" * full_reference
        raise UserError(
            f"images: expected two of one shape {expected}, or frames (T, {expected[1:]}, got "
            f"{shape} and {gt_shape}; {hint}"
        )


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
            set, which the loop sets.
        crop_border: Pixels to crop from each edge, at least 0; default 0.
        rounding: Whether predictions are rounded to uint8 before they are measured, as in published
            tables (BasicSR, MMEditing 0.x), but not in MMagic 1.x; default True.
    """

    #: Whether prediction and GT are compared and must have one shape.
    full_reference: ClassVar[bool] = True
    # MMagic groups metrics by these: the model's predictions on the test loader.
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
        self.size: int | None = None  # set by `prepare`

    def _measure(self, pred: NDArray[Any], gt: NDArray[Any]) -> dict[str, float]:
        """Measure one image.

        Args:
            pred: Prediction, RGB in [0, 255], (H, W, 3), floating point or uint8, not rounded.
            gt: GT image, RGB in [0, 255], (H, W, 3).

        Returns:
            Values by name of the metric.
        """
        raise NotImplementedError

    def _round(self, pred: NDArray[Any]) -> NDArray[Any]:
        return np.rint(pred) if self.rounding else pred

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Measure every image of a batch.

        Args:
            data_batch: Ignored.
            data_samples: Samples with GT and prediction; of several frames (T, C, H, W) the values
                are averaged.

        Raises:
            UserError: An image cannot be measured; the message begins with its key.
        """
        for sample in data_samples:
            with prefix_errors(_name(sample)):
                self.results.append(self._measure_sample(sample))

    def _measure_sample(self, sample: dict[str, Any]) -> dict[str, float]:
        images = _images(sample, self.gt_key, self.pred_key)
        _check_shapes(*images, self.input_order, full_reference=self.full_reference)
        pred, gt = (_hwc(image, self.input_order, bgr=is_bgr(sample)) for image in images)
        if not np.isfinite(pred).all():
            raise UserError(psnr_ssim.NOT_FINITE)
        pred = pred.clip(0, 255)
        if gt.ndim == 3:
            return self._measure(pred, gt)
        return average(self._measure(*frames) for frames in zip(pred, gt, strict=True))

    def prepare(self, module: Any, dataloader: Any) -> None:
        """Store the number of images, which MMagic's evaluator does not pass to `evaluate`."""
        self.size = len(dataloader.dataset)

    def get_metric_sampler(self, model: Any, dataloader: Any, metrics: Any) -> Any:
        """Return the loader, over which MMagic's loop iterates."""
        return dataloader

    def evaluate(self, size: int | None = None) -> dict[str, float]:
        """Average over the test set, and clear the results."""
        measured: dict[str, float] = super().evaluate(self.size if size is None else size)
        return measured

    def compute_metrics(self, results: list[dict[str, float]]) -> dict[str, float]:
        """Average over the images of the test set.

        Raises:
            UserError: The test set is empty.
        """
        return average(results)


class _PSNROrSSIM(ImageMetric):
    """PSNR or SSIM under MMagic's arguments."""

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
            set.
        crop_border: Pixels to crop from each edge, at least 0; default 0. Published tables use the
            scale.
        input_order: `"CHW"`, as predicted by the models here, or `"HWC"`.
        convert_to: None for RGB, `"Y"` or `"y"` for luma (BT.601, studio range).
        rounding: Whether predictions are rounded to uint8 before they are measured, as in published
            tables (BasicSR, MMEditing 0.x), but not in MMagic 1.x; default True.
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
        crop_border: Pixels to crop from each edge, at least 0; default 4. Published tables use the
            scale.
        protocols: Names in `srgan_plugin.metrics.PROTOCOLS` (docs/protocols.md).
        kwargs: `gt_key`, `pred_key`, `collect_device`, `prefix`, `rounding`, as for `PSNR`.
    """

    def __init__(
        self, crop_border: int = 4, protocols: Sequence[str] = DEFAULT_PROTOCOLS, **kwargs: Any
    ) -> None:
        super().__init__(crop_border=crop_border, **kwargs)
        self.scorer = Scorer(protocols, border=crop_border, rounding=self.rounding)

    def _measure_sample(self, sample: dict[str, Any]) -> Any:
        """Return the scores of a sample, on the GPU as a `_GPUScores`, without synchronising."""
        pred, gt = _images(sample, self.gt_key, self.pred_key)
        if not _on_cuda(pred) or pred.ndim != 3:
            return super()._measure_sample(sample)
        gt = gt.to(pred.device)
        scores = self.scorer.score_tensor(as_rgb(pred, sample), as_rgb(gt, sample))
        return _GPUScores(_name(sample), scores)

    def evaluate(self, size: int | None = None) -> dict[str, float]:
        """Average over the test set, and clear the results.

        Raises:
            UserError: A prediction measured on the GPU was not finite, or the test set is empty.
        """
        on_gpu = [entry for entry in self.results if isinstance(entry, _GPUScores)]
        if on_gpu:
            # One synchronisation with the GPU per test set.
            rows = iter(torch.stack([entry.scores for entry in on_gpu]).tolist())
            self.results = [
                self._named_scores(entry.name, next(rows))
                if isinstance(entry, _GPUScores)
                else entry
                for entry in self.results
            ]
        return super().evaluate(size)

    def _named_scores(self, image: str, row: list[float]) -> dict[str, float]:
        if any(map(math.isnan, row)):
            raise UserError(f"{image}: {psnr_ssim.NOT_FINITE}")
        return dict(zip(self.scorer.measures, row, strict=True))

    def _measure(self, pred: NDArray[Any], gt: NDArray[Any]) -> dict[str, float]:
        return self.scorer.score(pred, gt, peak=psnr_ssim.PEAK)
