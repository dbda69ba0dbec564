"""PSNR and SSIM as mmengine metrics, with MMagic's names and arguments."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from numpy.typing import NDArray

from srgan_plugin.errors import UserError, check_at_least, check_option
from srgan_plugin.hosts.mmengine.models.data_preprocessor import as_rgb
from srgan_plugin.metrics import psnr_ssim
from srgan_plugin.metrics.protocols import DEFAULT_PROTOCOLS
from srgan_plugin.metrics.scoring import Scorer
from srgan_plugin.registry import METRICS


def _entry(sample: Any, key: str) -> Any:
    """Look an image up where MMagic's metrics do: by its key, in `data_samples`, or as `data`."""
    for name in ("data_samples", key, "data"):
        if name in sample:
            found = sample[name]
            return _entry(found, key) if isinstance(found, Mapping) else found
    raise KeyError(f"{key}: expected an image of this name, got a sample with {', '.join(sample)}")


def _images(sample: Any, gt_key: str, pred_key: str) -> tuple[Any, Any]:
    """Return prediction and ground truth of a sample as they are."""
    return _entry(sample["output"], pred_key), _entry(sample, gt_key)


def _hwc(image: Any, order: str, rgb: bool) -> NDArray[Any]:
    """Return an image as an array HWC RGB, frames as THWC."""
    if isinstance(image, torch.Tensor):
        image = image.float() if image.dtype == torch.bfloat16 else image  # which numpy has not
        image = image.detach().cpu().numpy()
    array = np.asarray(image)
    if array.ndim == 2:
        return array[..., None]
    hwc = np.moveaxis(array, -3, -1) if order == "CHW" else array
    return hwc if rgb else hwc[..., ::-1]


def _on_device(image: Any) -> bool:
    return isinstance(image, torch.Tensor) and image.is_cuda  # Apple's GPUs have no float64


class ImageMetric(BaseMetric):
    """Average over images of what `_measure` returns for each: a dict of numbers."""

    # How MMagic's evaluator groups metrics: those that look at the model's plain predictions.
    SAMPLER_MODE, sample_model = "normal", "orig"
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
        check_at_least(0, crop_border=crop_border)
        self.border = crop_border
        self.gt_key, self.pred_key, self.rounding = gt_key, pred_key, rounding
        self.input_order = "CHW"

    def _measure(self, predicted: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
        """Measure one image, HWC RGB: a clamped prediction in 0 to 255, and its ground truth."""
        raise NotImplementedError

    def _rounded(self, predicted: NDArray[Any]) -> NDArray[Any]:
        return np.rint(predicted) if self.rounding else predicted

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Measure every image of a batch; of frames the mean."""
        for sample in data_samples:
            rgb = sample.get("gt_img_output_channel_order") != "BGR"
            predicted, truth = (
                _hwc(image, self.input_order, rgb)
                for image in _images(sample, self.gt_key, self.pred_key)
            )
            if not np.isfinite(predicted).all():
                raise UserError(psnr_ssim.NOT_FINITE)
            predicted = predicted.clip(0, 255)
            if truth.ndim == 3:
                predicted, truth = predicted[None], truth[None]
            frames = zip(predicted, truth, strict=True)
            self.results.append(self.compute_metrics([self._measure(*pair) for pair in frames]))

    def prepare(self, module: Any, dataloader: Any) -> None:
        """Note the number of images, which MMagic's evaluator does not pass to `evaluate`."""
        self.size = len(dataloader.dataset)

    def get_metric_sampler(self, model: Any, dataloader: Any, metrics: Any) -> Any:
        """Return what MMagic's loop iterates over: the loader itself."""
        return dataloader

    def evaluate(self, size: int | None = None) -> dict[str, float]:
        """Average over the set, and forget it."""
        measured: dict[str, float] = super().evaluate(self.size if size is None else size)
        return measured

    def compute_metrics(self, results: list[dict[str, float]]) -> dict[str, float]:
        """Average over the images of the set."""
        return {name: float(np.mean([r[name] for r in results])) for name in results[0]}


class _SingleMetric(ImageMetric):
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
        convert_to: Literal["Y"] | None = None,
        rounding: bool = True,
    ) -> None:
        super().__init__(gt_key, pred_key, collect_device, prefix, crop_border, rounding)
        check_option("input_order", input_order, ("CHW", "HWC"))
        self.input_order = input_order
        check_option("convert_to", convert_to, (None, "Y", "y"))
        self.channel: psnr_ssim.Channel = "y" if convert_to else "rgb"

    def _measure(self, predicted: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
        images = self._rounded(predicted), truth
        return {self.metric: self.function(*images, border=self.border, channel=self.channel)}


@METRICS.register_module()
class PSNR(_SingleMetric):
    """Peak signal-to-noise ratio in dB.

    Args:
        gt_key: Entry of the ground truth in a sample.
        pred_key: Entry of the prediction in its `output`.
        collect_device: Where results of several ranks meet.
        prefix: Stands before the name; by default the loop puts the set's name there.
        crop_border: Pixels left out on each side.
        input_order: `"CHW"`, as models here predict, or `"HWC"`.
        convert_to: `None` for RGB, `"Y"` for luma (BT.601, studio range).
        rounding: Round predictions to 8 bit first, as BasicSR and MMEditing 0.x did when they made
            the published table; MMagic 1.x does not.
    """

    metric, function = "PSNR", staticmethod(psnr_ssim.psnr)


@METRICS.register_module()
class SSIM(_SingleMetric):
    """Structural similarity, 11x11 Gaussian window; arguments as in `PSNR`."""

    metric, function = "SSIM", staticmethod(psnr_ssim.ssim)


@METRICS.register_module()
class BenchmarkMetric(ImageMetric):
    """Every measure of some protocols, each once, on the GPU if the images are there.

    Args:
        crop_border: Pixels left out on each side; the published tables leave out `scale`.
        protocols: Names of `srgan_plugin.metrics.PROTOCOLS` (docs/protocols.md).
        kwargs: `gt_key`, `pred_key`, `collect_device`, `prefix`, `rounding`, as in `PSNR`.
    """

    def __init__(
        self, crop_border: int = 4, protocols: Sequence[str] = DEFAULT_PROTOCOLS, **kwargs: Any
    ) -> None:
        super().__init__(crop_border=crop_border, **kwargs)
        self.scorer = Scorer(protocols, border=crop_border, rounding=self.rounding)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Measure every image of a batch; on a GPU nothing is waited for."""
        pairs = [_images(sample, self.gt_key, self.pred_key) for sample in data_samples]
        if not all(_on_device(predicted) for predicted, _ in pairs):
            super().process(data_batch, data_samples)
            return
        for sample, pair in zip(data_samples, pairs, strict=True):
            predicted, truth = (as_rgb(image, sample) for image in pair)
            truth = truth.to(predicted.device)
            self.results.append(self.scorer.score_tensor(predicted, truth))

    def evaluate(self, size: int | None = None) -> dict[str, float]:
        """Average over the set, and forget it.

        Raises:
            UserError: A prediction measured on the GPU was not finite.
        """
        if self.results and isinstance(self.results[0], torch.Tensor):
            rows = torch.stack(self.results)
            if rows.isnan().any():
                raise UserError(psnr_ssim.NOT_FINITE)
            names = self.scorer.measures
            self.results = [dict(zip(names, row, strict=True)) for row in rows.tolist()]
        return super().evaluate(size)

    def _measure(self, predicted: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
        return self.scorer.score(predicted, truth, peak=psnr_ssim.PEAK)
