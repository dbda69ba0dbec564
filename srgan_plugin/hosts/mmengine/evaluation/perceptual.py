"""NIQE, LPIPS and DISTS as mmengine metrics."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.metrics.niqe import niqe, pristine_model
from srgan_plugin.metrics.psnr_ssim import PEAK, remove_border
from srgan_plugin.registry import METRICS

from .metrics import ImageMetric

# Pixels of height and width after cropping; the deepest features of VGG-16 are then 2x2.
_SMALLEST: Final = 32


@METRICS.register_module()
class NIQE(ImageMetric):
    """Natural image quality evaluator (Mittal et al. 2013), without a reference; lower is better.

    GT is not measured, but must be among the samples, as for all metrics here.

    Args:
        crop_border: Pixels to crop from each edge, at least 0; default 4.
        model: File with the model of natural images, `.mat` as that of the authors or `.npz` as
            that of BasicSR; None: the file of an installed BasicSR or MMagic.
        kwargs: `gt_key`, `pred_key`, `collect_device`, `prefix`, `rounding`, as for `ImageMetric`.

    Raises:
        UserError: `crop_border` is not an integer of at least 0, or there is no valid `model`.
    """

    full_reference = False

    def __init__(self, crop_border: int = 4, model: str | None = None, **kwargs: Any) -> None:
        super().__init__(crop_border=crop_border, **kwargs)
        self.model = pristine_model(model)

    def _measure(self, pred: NDArray[Any], gt: NDArray[Any]) -> dict[str, float]:
        return {"NIQE": niqe(self._round(pred), self.model, border=self.crop_border)}


class _NetworkMetric(ImageMetric):
    """Base class of feature distances from torchmetrics, computed on a CUDA device if possible."""

    metric: ClassVar[str]
    backbone: ClassVar[str]  # name of the weights in torchvision

    def __init__(self, crop_border: int = 4, download: bool = False, **kwargs: Any) -> None:
        super().__init__(crop_border=crop_border, **kwargs)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        _require_weights(self.metric, self.backbone, download)
        self.distance = self._network()

    def _network(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the distance: a function of two batches, RGB in [0, 1], (1, 3, H, W)."""
        raise NotImplementedError

    def _measure(self, pred: NDArray[Any], gt: NDArray[Any]) -> dict[str, float]:
        pair = map(self._batch, remove_border(self._round(pred), gt, self.crop_border, _SMALLEST))
        with torch.inference_mode():
            return {self.metric: float(self.distance(*pair))}

    def _batch(self, image: NDArray[Any]) -> Tensor:
        """Return an image (H, W, 3) in [0, 255] as a batch (1, 3, H, W) of float32 in [0, 1]."""
        chw = np.ascontiguousarray(np.moveaxis(image, -1, 0), np.float32)
        return torch.from_numpy(chw)[None].to(self.device) / PEAK


@METRICS.register_module()
class LPIPS(_NetworkMetric):
    """Learned perceptual image patch similarity (Zhang et al. 2018) by AlexNet; lower is better.

    Args:
        crop_border: Pixels to crop from each edge, at least 0; default 4.
        download: Whether torchvision may download the weights of the network.
        kwargs: `gt_key`, `pred_key`, `collect_device`, `prefix`, `rounding`, as for `ImageMetric`.

    Raises:
        UserError: `crop_border` is not an integer of at least 0, torchmetrics is missing or too
            old, or the weights are missing and may not be downloaded (`MissingFileError`).
    """

    metric = "LPIPS"
    backbone = "AlexNet_Weights"

    def _network(self) -> Callable[[Tensor, Tensor], Tensor]:
        module = _torchmetrics("LPIPS", "torchmetrics.image.lpip")
        # The metric itself would keep, and copy at each call, the scores of all images.
        network = module.LearnedPerceptualImagePatchSimilarity("alex").net.to(self.device)
        return partial(network, normalize=True)  # from [0, 1] to [-1, 1], which it expects


@METRICS.register_module()
class DISTS(_NetworkMetric):
    """Deep image structure and texture similarity (Ding et al. 2020) by VGG-16; lower is better.

    Arguments are those of `LPIPS`.
    """

    metric = "DISTS"
    backbone = "VGG16_Weights"

    def _network(self) -> Callable[[Tensor, Tensor], Tensor]:
        # The class in torchmetrics would build the network again for each image.
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
    """Require weights of torchvision unless they may be downloaded.

    Args:
        metric: Name of the metric, for the message.
        backbone: Name of an enum of weights in `torchvision.models`.
        download: Whether the weights may be downloaded.

    Raises:
        MissingFileError: The weights are missing and may not be downloaded.
    """
    import torchvision

    url: str = getattr(torchvision.models, backbone).DEFAULT.url
    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not (download or file.is_file()):
        raise MissingFileError(
            f"{metric}: expected torchvision's weights at {file}, got no such file; put {url} "
            'there, or run: python -c "import torchvision; '
            f'torchvision.models.{backbone}.DEFAULT.get_state_dict()"; in a config: download=True'
        )
