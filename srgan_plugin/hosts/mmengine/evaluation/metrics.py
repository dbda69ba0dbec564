"""PSNR and SSIM as metrics of mmengine, with the names and arguments of MMagic."""

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
    """Look up an image as MMagic's metrics do: by its key, in `data_samples`, or as `data`."""
    for name in ("data_samples", key, "data"):
        if name in sample:
            found = sample[name]
            return _entry(found, key) if isinstance(found, Mapping) else found
    raise KeyError(f"{key}: expected an image of this name, got a sample with {', '.join(sample)}")


def _images(sample: Any, gt_key: str, pred_key: str) -> tuple[Any, Any]:
    """Return prediction and GT of a sample, unchanged."""
    return _entry(sample["output"], pred_key), _entry(sample, gt_key)


def _hwc(image: Any, order: str, rgb: bool) -> NDArray[Any]:
    """Return an image as an RGB array (H, W, 3), frames as (T, H, W, 3)."""
    if isinstance(image, torch.Tensor):
        image = image.float() if image.dtype == torch.bfloat16 else image  # NumPy has no bfloat16
        image = image.detach().cpu().numpy()
    array = np.asarray(image)
    if array.ndim == 2:
        return array[..., None]
    hwc = np.moveaxis(array, -3, -1) if order == "CHW" else array
    return hwc if rgb else hwc[..., ::-1]


def _on_device(image: Any) -> bool:
    return isinstance(image, torch.Tensor) and image.is_cuda  # Apple's GPUs have no float64


class ImageMetric(BaseMetric):
    """Base class of metrics: the average over images of the dicts returned by `_measure`."""

    # Read by MMagic's evaluator: metrics of the model's predictions.
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
        """Measure one image: prediction and GT, RGB in [0, 255], (H, W, 3)."""
        raise NotImplementedError

    def _rounded(self, predicted: NDArray[Any]) -> NDArray[Any]:
        return np.rint(predicted) if self.rounding else predicted

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Measure every image of a batch; frames of an image are averaged."""
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
            try:
                measured = [self._measure(*pair) for pair in frames]
            except UserError as error:
                raise UserError(f"{sample.get('key', 'an image')}: {error}") from error
            self.results.append(self.compute_metrics(measured))

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
        """Average over the images of the test set."""
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
        gt_key: Key of the GT image in a sample.
        pred_key: Key of the prediction in the sample's `output`.
        collect_device: Device to collect the results of several ranks on.
        prefix: Prefix of the name; by default the loop sets the name of the test set.
        crop_border: Pixels to crop from each edge first.
        input_order: `"CHW"`, as predicted by the models here, or `"HWC"`.
        convert_to: `None` for RGB, `"Y"` for luma (BT.601, studio range).
        rounding: Round predictions to 8 bits first, as in BasicSR and MMEditing 0.x and so in the
            published tables, but not in MMagic 1.x.
    """

    metric, function = "PSNR", staticmethod(psnr_ssim.psnr)


@METRICS.register_module()
class SSIM(_SingleMetric):
    """Structural similarity with an 11x11 Gaussian window; arguments as for `PSNR`."""

    metric, function = "SSIM", staticmethod(psnr_ssim.ssim)


@METRICS.register_module()
class BenchmarkMetric(ImageMetric):
    """All measures of several protocols, computed on the GPU if the images are there.

    Args:
        crop_border: Pixels to crop from each edge first; `scale` in the published tables.
        protocols: Names in `srgan_plugin.metrics.PROTOCOLS` (docs/protocols.md).
        kwargs: `gt_key`, `pred_key`, `collect_device`, `prefix`, `rounding`, as for `PSNR`.
    """

    def __init__(
        self, crop_border: int = 4, protocols: Sequence[str] = DEFAULT_PROTOCOLS, **kwargs: Any
    ) -> None:
        super().__init__(crop_border=crop_border, **kwargs)
        self.scorer = Scorer(protocols, border=crop_border, rounding=self.rounding)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Measure every image of a batch, without synchronising with a GPU."""
        pairs = [_images(sample, self.gt_key, self.pred_key) for sample in data_samples]
        if not all(_on_device(predicted) for predicted, _ in pairs):
            super().process(data_batch, data_samples)
            return
        for sample, pair in zip(data_samples, pairs, strict=True):
            predicted, truth = (as_rgb(image, sample) for image in pair)
            truth = truth.to(predicted.device)
            self.results.append(self.scorer.score_tensor(predicted, truth))

    def evaluate(self, size: int | None = None) -> dict[str, float]:
        """Average over the test set, and clear the results.

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
