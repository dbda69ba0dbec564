"""uint8 batches in, float batches in [0, 1] on the device out; and the way back for predictions."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import BaseDataElement
from torch import Tensor

from srgan_plugin.registry import MODELS

from .fixed import as_tuple, check_fixed


def stacked(images: Tensor | Sequence[Tensor]) -> Tensor:
    """Return a batch N3HW from a batch or from a list of pictures 3HW of one size."""
    if isinstance(images, Tensor):
        return images if images.ndim == 4 else images[None]
    sizes = {tuple(image.shape) for image in images}
    if len(sizes) > 1:
        raise ValueError(
            f"expected pictures of one size in a batch, got {sorted(sizes)}; "
            "crop them in the pipeline or set batch_size=1"
        )
    return torch.stack(list(images))


def gt_batch(data_samples: Any) -> Tensor:
    """Return the ground truth of a batch, N3HW, from one stacked element or a list of elements."""
    if isinstance(data_samples, BaseDataElement):
        return stacked(data_samples.gt_img)
    return stacked([sample.gt_img for sample in data_samples])


def as_rgb(image: Tensor, meta: Mapping[str, Any]) -> Tensor:
    """Return a picture ...3HW of a test sample in RGB: where MMagic takes part, samples are BGR."""
    return image.flip(-3) if meta.get("gt_img_output_channel_order") == "BGR" else image


def _is_rgb(sample: BaseDataElement, key: str) -> bool:
    order = sample.metainfo.get(key) or "RGB"
    return str(order if isinstance(order, str) else order[0]).upper() == "RGB"


def _stacked_bgr(samples: Sequence[Any]) -> Any:
    """One stacked sample with GT in BGR: what MMagic's models and metrics take for granted."""
    for sample in samples:
        if _is_rgb(sample, "gt_channel_order"):
            sample.gt_img = sample.gt_img.flip(-3)
        sample.set_metainfo({"gt_img_output_channel_order": "BGR"})
    return type(samples[0]).stack(samples)


@MODELS.register_module()
class DataPreprocessor(BaseDataPreprocessor):
    """Moves a batch to the device as uint8 and makes floats of it there.

    Every argument of MMagic's is accepted; of those that name an operation which super-resolution
    does not need, only the value without it.

    Args:
        mean: Subtracted first, in units of the uint8 input; one number or one per channel.
            None: 0.
        std: Divided by afterwards; None: 1. The defaults map [0, 255] to [0, 1], MMagic's do to
            [-1, 1].
        pad_size_divisor: 1; pictures are not padded.
        pad_value: Unused, as nothing is padded.
        pad_mode: Unused, likewise.
        non_image_keys: None; `inputs` are pictures, not dicts.
        non_concentate_keys: None, likewise.
        output_channel_order: None or `"RGB"`, the order of pictures in samples.
        data_keys: `"gt_img"`.
        input_view: None or (1, -1, 1, 1): mean and std are per channel.
        output_view: As `input_view`.
        stack_data_sample: True.
        non_blocking: Do not wait for the copy to the device.

    Raises:
        ValueError: An argument has another value than these.
    """

    def __init__(
        self,
        mean: float | Sequence[float] | None = 0.0,
        std: float | Sequence[float] | None = 255.0,
        pad_size_divisor: int = 1,
        pad_value: float = 0,
        pad_mode: str = "constant",
        non_image_keys: None = None,
        non_concentate_keys: None = None,
        output_channel_order: Literal["RGB"] | None = None,
        data_keys: str | Sequence[str] = "gt_img",
        input_view: Sequence[int] | None = None,
        output_view: Sequence[int] | None = None,
        stack_data_sample: bool = True,
        non_blocking: bool = True,
    ) -> None:
        views = [(), (1, -1, 1, 1), (-1, 1, 1)]
        for name, value, kept in (
            ("pad_size_divisor", pad_size_divisor, [1]),
            ("non_image_keys", non_image_keys, [None]),
            ("non_concentate_keys", non_concentate_keys, [None]),
            ("output_channel_order", output_channel_order, [None, "RGB"]),
            ("data_keys", as_tuple(data_keys), [("gt_img",)]),
            ("input_view", as_tuple(input_view), views),
            ("output_view", as_tuple(output_view), views),
            ("stack_data_sample", stack_data_sample, [True]),
        ):
            check_fixed("DataPreprocessor", name, value, kept)
        super().__init__(non_blocking=non_blocking)
        mean, std = 0.0 if mean is None else mean, 1.0 if std is None else std
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Make `inputs` a float batch N3HW; in training the ground truth as well.

        Args:
            data: `inputs`, uint8 3HW RGB pictures (a list or stacked), and `data_samples`, elements
                with `gt_img` (a list, or one whose `gt_img` is stacked).
            training: Whether the ground truth becomes a float batch, too. For testing it stays
                uint8, which is what metrics measure against; MMagic's samples are stacked and get
                the channel order BGR, which MMagic's metrics expect.
        """
        data = self.cast_data(data)
        inputs = self._normalised(stacked(data["inputs"]))
        samples = data.get("data_samples")
        if training and samples is not None:
            samples = BaseDataElement(gt_img=self._normalised(gt_batch(samples)))
        elif samples and hasattr(samples[0], "stack"):
            samples = _stacked_bgr(samples)
        return {"inputs": inputs, "data_samples": samples}

    def destruct(self, batch: Tensor, data_samples: Any = None, key: str = "pred_img") -> Tensor:
        """Map the network's images back to [0, 255], clamped, not rounded (metrics round).

        What is infinite becomes NaN, which metrics refuse.

        Args:
            batch: What the network takes or makes, N3HW.
            data_samples: What `forward` made of the samples; with MMagic's stacked one the result
                is BGR, as its ground truth is, else RGB.
            key: Kept for MMagic's models; unused.
        """
        scaled: Tensor = batch.float() * self.std + self.mean
        # An overflow in half precision is no white pixel.
        pictures = scaled.clamp(0, 255).where(scaled.isfinite(), torch.nan)
        to_bgr = hasattr(data_samples, "stack") and _is_rgb(data_samples, "img_channel_order")
        return pictures.flip(-3) if to_bgr else pictures

    def _normalised(self, images: Tensor) -> Tensor:
        # Batches of whole samples come channels-last; losses are fastest where all is contiguous.
        floats = images.to(torch.float32, memory_format=torch.contiguous_format)
        normalised: Tensor = (floats - self.mean) / self.std
        return normalised
