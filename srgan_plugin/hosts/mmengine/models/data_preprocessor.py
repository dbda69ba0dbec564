"""uint8 batches in, float batches in [0, 1] on the device out; and the way back for predictions."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from mmengine.structures import BaseDataElement
from torch import Tensor

from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.datasets.collate import element_type
from srgan_plugin.hosts.mmengine.datasets.transforms import as_list
from srgan_plugin.registry import MODELS


def stacked(images: Tensor | Sequence[Tensor]) -> Tensor:
    """Return a batch N3HW from a batch or from a list of images 3HW of one size."""
    if isinstance(images, Tensor):
        return images if images.ndim >= 4 else images[None]
    sizes = {tuple(image.shape) for image in images}
    if len(sizes) > 1:
        raise UserError(
            f"expected images of one size in a batch, got {sorted(sizes)}; "
            "crop them in the pipeline or set batch_size=1"
        )
    return torch.stack(list(images))


def gt_batch(data_samples: Any, key: str = "gt_img") -> Tensor:
    """Return an image of all samples, N3HW, from one stacked element or a list of elements."""
    if isinstance(data_samples, BaseDataElement):
        return stacked(data_samples.get(key))
    return stacked([sample.get(key) for sample in data_samples])


def as_rgb(image: Tensor, meta: Mapping[str, Any]) -> Tensor:
    """Return an image ...3HW of a test sample in RGB: where MMagic takes part, samples are BGR."""
    return image.flip(-3) if meta.get("gt_img_output_channel_order") == "BGR" else image


def _order(sample: Any, key: str, image: Tensor) -> str:
    """Return the order of an image's channels, by the rules of the sample's toolbox.

    Of images without a note MMagic takes for granted that they are BGR, ours are RGB.
    """
    meta = sample.metainfo
    name = "gt" if key == "gt_img" else key
    noted, kind = (_first(meta.get(f"{name}_{what}")) for what in ("channel_order", "color_type"))
    if image.shape[-3] == 1:
        return "single"
    if kind == "unchanged":
        return "BGR"
    return str(noted or ("BGR" if _is_mmagics(sample) else "RGB")).upper()


def _common_order(samples: Sequence[Any], key: str, images: Tensor) -> str:
    orders = {_order(sample, key, images) for sample in samples}
    if len(orders) > 1:
        raise UserError(
            f"{key}: expected one channel order in a batch, got {', '.join(sorted(orders))}"
        )
    return orders.pop()


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _is_mmagics(sample: Any) -> bool:
    return hasattr(sample, "stack")


def _reordered(image: Tensor, order: str, wanted: str | None) -> Tensor:
    if wanted is None or order in ("single", wanted):
        return image
    colours, alpha = image[..., :3, :, :], image[..., 3:, :, :]
    return torch.cat([colours.flip(-3), alpha], dim=-3)


def _padding(sample: Any) -> tuple[int, int]:
    """Return how many rows and columns of the input are padding."""
    noted = _first(sample.metainfo.get("padding_size"))
    return (0, 0) if noted is None else (int(noted[-2]), int(noted[-1]))


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
        pad_size_divisor: Pad below and on the right to multiples of it; predictions are cropped
            by as much, at their scale.
        pad_value: What the padding has, for `pad_mode="constant"`. As in MMagic, inputs that come
            as a list are padded before `mean` and `std`, a batch after them.
        pad_mode: As torch's `pad`.
        non_image_keys: None; `inputs` are images, not dicts.
        non_concentate_keys: None, likewise.
        output_channel_order: `"RGB"` or `"BGR"`, in which the networks get images; None leaves the
            order.
        data_keys: Images in samples that are treated as the ground truth is.
        input_view: None or (1, -1, 1, 1): mean and std are per channel.
        output_view: As `input_view`.
        stack_data_sample: Hand MMagic's samples on as one, as its models and metrics expect.
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
        output_channel_order: Literal["RGB", "BGR"] | None = None,
        data_keys: str | Sequence[str] | None = "gt_img",
        input_view: Sequence[int] | None = None,
        output_view: Sequence[int] | None = None,
        stack_data_sample: bool = True,
        non_blocking: bool = True,
    ) -> None:
        views = [[], [1, -1, 1, 1], [-1, 1, 1]]
        for name, value, kept in (
            ("non_image_keys", non_image_keys, [None]),
            ("non_concentate_keys", non_concentate_keys, [None]),
            ("output_channel_order", output_channel_order, [None, "RGB", "BGR"]),
            ("input_view", as_list(input_view), views),
            ("output_view", as_list(output_view), views),
        ):
            if value not in kept:
                raise UserError(
                    f"DataPreprocessor.{name}: expected {' or '.join(map(repr, kept))}, got "
                    f"{value!r}; others: type='mmagic.DataPreprocessor'"
                )
        super().__init__(non_blocking=non_blocking)
        mean, std = 0.0 if mean is None else mean, 1.0 if std is None else std
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self._shifts = bool(self.mean.any())
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.pad_size_divisor, self.pad_value, self.pad_mode = pad_size_divisor, pad_value, pad_mode
        self.output_channel_order = output_channel_order
        self.data_keys = as_list(data_keys)
        self.stack_data_sample = stack_data_sample

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Make `inputs` a float batch N3HW; in training the ground truth as well.

        Args:
            data: `inputs`, uint8 3HW images (a list, of any sizes, or stacked), and `data_samples`,
                elements with `gt_img` (a list, or one whose `gt_img` is stacked), or None.
            training: Whether the ground truth becomes a float batch, too. For testing it stays
                uint8, which is what metrics measure against; MMagic's samples are stacked and get
                the channel order BGR, which MMagic's metrics expect.

        Raises:
            ValueError: `inputs` is a dict, or training samples are of several sizes.
        """
        data = self.cast_data(data)
        images, samples = data["inputs"], data.get("data_samples")
        if isinstance(_first(images), Mapping):
            raise UserError(
                "DataPreprocessor: expected images as inputs, got dicts of them; "
                "others: type='mmagic.DataPreprocessor'"
            )
        if training and samples is not None:
            return self._training_batch(images, samples)
        if not samples:
            notes = {"img_channel_order": "RGB"}
            count = len(stacked(images) if isinstance(images, Tensor) else images)
            samples = [element_type()(metainfo=notes) for _ in range(count)]
        inputs = self._inputs(images, samples)
        for sample in samples:
            self._prepare_truth(sample)
        if self.stack_data_sample and _is_mmagics(samples[0]) and self._stackable(samples):
            samples = type(samples[0]).stack(samples)
        return {"inputs": inputs, "data_samples": samples}

    def destruct(self, batch: Any, data_samples: Any = None, key: str = "img") -> Any:
        """Map the network's images back to [0, 255], clamped, not rounded (metrics round).

        What is infinite becomes NaN, which metrics refuse.

        Args:
            batch: What the network takes or makes, N3HW, or one image 3HW with its sample.
            data_samples: What `forward` made of the samples; with MMagic's the result is BGR, as
                their ground truth is, else RGB.
            key: Whose channel order the images have: that of `inputs` is `"img"`.

        Returns:
            The images without the padding of the inputs, at their own scale: a batch, or a list
            where they differ in size.
        """
        images = self.unpadded(batch, data_samples)
        if isinstance(images, list):
            return [
                self._destruct(image, sample, key)
                for image, sample in zip(images, data_samples, strict=True)
            ]
        return self._destruct(images, _first(data_samples), key)

    def unpadded(self, batch: Tensor, data_samples: Any) -> Any:
        """Return images without their padding: a batch, or a list where they differ in size."""
        several = isinstance(data_samples, list)
        samples = data_samples if several else [data_samples]
        paddings = [(0, 0) if sample is None else _padding(sample) for sample in samples]
        if not any(map(any, paddings)):
            return batch
        padded = _first(samples[0].metainfo.get("padded_width"))
        scale = batch.shape[-1] // padded if padded else 1
        height, width = batch.shape[-2:]
        sizes = [(height - h * scale, width - w * scale) for h, w in paddings]
        if len(set(sizes)) > 1:
            return [image[..., :h, :w] for image, (h, w) in zip(batch, sizes, strict=True)]
        return batch[..., : sizes[0][0], : sizes[0][1]]

    def _training_batch(self, images: Any, samples: Any) -> dict[str, Any]:
        if not (self.output_channel_order or self.pad_size_divisor > 1):
            inputs = self._normalised(stacked(images))  # nothing to look up in samples
        else:
            inputs = self._inputs(images, samples if isinstance(samples, list) else None)
        several = [samples] if isinstance(samples, BaseDataElement) else samples
        truth = BaseDataElement()
        for key in (key for key in self.data_keys if key in several[0]):
            batch = gt_batch(samples, key)
            if self.output_channel_order:
                order = _common_order(several, key, batch)
                batch = _reordered(batch, order, self.output_channel_order)
            truth.set_field(self._normalised(batch), key)
        return {"inputs": inputs, "data_samples": truth}

    def _inputs(self, images: Any, samples: Sequence[Any] | None) -> Tensor:
        """Pad, order and normalise the inputs, and note the first two in the samples."""
        one_batch = isinstance(images, Tensor)
        images = stacked(images) if one_batch else images
        sizes = [tuple(image.shape[-2:]) for image in images]
        height, width = (
            -(-max(lengths) // self.pad_size_divisor) * self.pad_size_divisor
            for lengths in zip(*sizes, strict=True)
        )
        paddings = [(height - h, width - w) for h, w in sizes]
        if not one_batch:  # MMagic pads lists before it normalises, batches afterwards
            images = torch.stack([self._pad(*one) for one in zip(images, paddings, strict=True)])
        order = "RGB" if samples is None else _common_order(samples, "img", images)
        inputs = self._normalised(_reordered(images, order, self.output_channel_order))
        made = order if order == "single" else self.output_channel_order or order
        for sample, padding in zip(samples or (), paddings, strict=False):
            notes: dict[str, Any] = {"img_output_channel_order": made}
            if _is_mmagics(sample) or any(map(any, paddings)):
                size = torch.tensor((0, *padding), dtype=torch.float32)
                notes |= {"padding_size": size, "padded_width": width}
            sample.set_metainfo(notes)
        return self._pad(inputs, paddings[0]) if one_batch else inputs

    def _pad(self, images: Tensor, padding: tuple[int, int]) -> Tensor:
        if not any(padding):
            return images
        height, width = padding
        value = self.pad_value if self.pad_mode == "constant" else None
        return F.pad(images.float(), (0, width, 0, height), self.pad_mode, value)

    def _stackable(self, samples: Sequence[Any]) -> bool:
        """Whether all are of one size."""
        shapes = [[s.get(key).shape for key in self.data_keys if key in s] for s in samples]
        paddings = [_padding(sample) for sample in samples]
        return all(one == shapes[0] for one in shapes) and len(set(paddings)) == 1

    def _prepare_truth(self, sample: Any) -> None:
        """Bring MMagic's samples into the order BGR, which its metrics expect."""
        for key in (key for key in self.data_keys if _is_mmagics(sample) and key in sample):
            image = sample.get(key)
            order = _order(sample, key, image)
            sample.set_field(_reordered(image, order, "BGR"), key)
            made = order if order == "single" else "BGR"
            sample.set_metainfo({f"{key}_output_channel_order": made})

    def _destruct(self, images: Tensor, sample: Any, key: str) -> Tensor:
        scaled: Tensor = images.float() * self.std + self.mean
        # An overflow in half precision is no white pixel.
        floats = scaled.clamp(0, 255).where(scaled.isfinite(), torch.nan)
        if sample is None:
            return floats
        order = _order(sample, f"{key}_output", floats)
        return _reordered(floats, order, "BGR" if _is_mmagics(sample) else "RGB")

    def _normalised(self, images: Tensor) -> Tensor:
        # Batches of whole samples come channels-last; losses are fastest where all is contiguous.
        floats = images.to(torch.float32, memory_format=torch.contiguous_format)
        shifted: Tensor = floats - self.mean if self._shifts else floats
        return shifted / self.std  # type: ignore[no-any-return]
