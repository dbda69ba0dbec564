"""NIQE, LPIPS and DISTS as mmengine metrics: what PSNR and SSIM do not show."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.metrics.niqe import niqe, pristine_model
from srgan_plugin.metrics.psnr_ssim import PEAK, check_comparable
from srgan_plugin.registry import METRICS

from .metrics import ImageMetric


@METRICS.register_module()
class NIQE(ImageMetric):
    """How natural predictions look, without a reference; lower is better.

    Args:
        crop_border: Pixels left out on each side.
        model: File of the model of natural images; by default that of an installed BasicSR or
            MMagic.
        kwargs: `gt_key`, `pred_key`, `collect_device`, `prefix`, `rounding`, as in `PSNR`.
    """

    def __init__(self, crop_border: int = 4, model: str | None = None, **kwargs: Any) -> None:
        super().__init__(crop_border=crop_border, **kwargs)
        self.model = pristine_model(model)

    def _measure(self, predicted: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
        return {"NIQE": niqe(self._rounded(predicted), self.model, border=self.border)}


class _NetworkMetric(ImageMetric):
    """A distance of features that torchmetrics computes, on the GPU if there is one."""

    metric: ClassVar[str]
    backbone: ClassVar[str]  # torchvision's name of the weights

    def __init__(self, crop_border: int = 4, download: bool = False, **kwargs: Any) -> None:
        super().__init__(crop_border=crop_border, **kwargs)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        _require_weights(self.metric, self.backbone, download)
        self.distance = self._network()

    def _network(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the distance of two batches of RGB images in 0 to 1."""
        raise NotImplementedError

    def _measure(self, predicted: NDArray[Any], truth: NDArray[Any]) -> dict[str, float]:
        inside = check_comparable(predicted.shape, truth.shape, self.border, 32)
        pair = (self._batch(image[inside]) for image in (self._rounded(predicted), truth))
        with torch.inference_mode():
            return {self.metric: float(self.distance(*pair))}

    def _batch(self, image: NDArray[Any]) -> Tensor:
        chw = np.ascontiguousarray(np.moveaxis(image, -1, 0), np.float32)
        return torch.from_numpy(chw)[None].to(self.device) / PEAK


@METRICS.register_module()
class LPIPS(_NetworkMetric):
    """Learned perceptual image patch similarity (Zhang et al. 2018), of AlexNet; lower is better.

    Args:
        crop_border: Pixels left out on each side.
        download: Let torchvision fetch the network's weights where they are missing.
        kwargs: `gt_key`, `pred_key`, `collect_device`, `prefix`, `rounding`, as in `PSNR`.
    """

    metric, backbone = "LPIPS", "AlexNet_Weights"

    def _network(self) -> Callable[[Tensor, Tensor], Tensor]:
        module = _torchmetrics("LPIPS", "torchmetrics.image.lpip")
        network: Callable[[Tensor, Tensor], Tensor] = module.LearnedPerceptualImagePatchSimilarity(
            "alex", normalize=True
        ).to(self.device)
        return network


@METRICS.register_module()
class DISTS(_NetworkMetric):
    """Deep image structure and texture similarity (Ding et al. 2020), of VGG-16; lower is better.

    Arguments as of `LPIPS`.
    """

    metric, backbone = "DISTS", "VGG16_Weights"

    def _network(self) -> Callable[[Tensor, Tensor], Tensor]:
        # Its `Metric` would build the network anew for each image.
        module = _torchmetrics("DISTS", "torchmetrics.functional.image.dists")
        network: Callable[[Tensor, Tensor], Tensor] = module.DISTSNetwork().to(self.device)
        return network


def _torchmetrics(metric: str, name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise UserError(
            f"{metric}: expected torchmetrics from version 1.8, got {error}; "
            'pip install "torchmetrics>=1.8"'
        ) from error


def _require_weights(metric: str, backbone: str, download: bool) -> None:
    """Refuse a network whose weights torchvision would have to download unasked."""
    import torchvision

    url: str = getattr(torchvision.models, backbone).DEFAULT.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not (download or file.is_file()):
        raise MissingFileError(
            f"{metric}: expected torchvision's weights at {file}, got no such file; put {url} "
            "there, or set download=True"
        )
