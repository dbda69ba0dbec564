"""Convert uint8 batches to float batches in [0, 1] on the device, and predictions back."""

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


def stack_images(images: Tensor | Sequence[Tensor]) -> Tensor:
    """Return a batch (N, 3, H, W) from a batch or from a list of images (3, H, W) of one size.

    Raises:
        UserError: The sizes differ.
    """
    if isinstance(images, Tensor):
        return images if images.ndim >= 4 else images[None]
    sizes = {tuple(image.shape) for image in images}
    if len(sizes) > 1:
        raise UserError(
            f"batch: expected images of one size, got {sorted(sizes)}; "
            "crop them in the pipeline or set batch_size=1"
        )
    return torch.stack(list(images))


def gt_batch(data_samples: Any, key: str = "gt_img") -> Tensor:
    """Return an image of all samples, (N, 3, H, W), of a stacked element or a list of elements."""
    if isinstance(data_samples, BaseDataElement):
        return stack_images(data_samples.get(key))
    return stack_images([sample.get(key) for sample in data_samples])


def is_bgr(meta: Mapping[str, Any], key: str) -> bool:
    """Return whether an image of a test sample is BGR, as in MMagic samples.

    Args:
        meta: Metadata of the sample, or the sample as a dict.
        key: Key of the image: `gt_img` or another one for GT, `pred_img` or `input`.
    """
    if isinstance(nested := meta.get("data_samples"), Mapping):  # where metrics find images as well
        meta = {**meta, **nested}
    if order := _stated_order(meta, f"{key}_output") or _stated_order(meta, key):
        return order == "BGR"
    # MMagic's models state no order of predictions: it is that to which the preprocessor converted
    # the images of its `data_keys`. `img` is the input of the network, in the network's order.
    ends = "_output_channel_order"
    names = [str(name).removesuffix(ends) for name in meta if str(name).endswith(ends)]
    return any(_stated_order(meta, f"{name}_output") == "BGR" for name in names if name != "img")


def as_rgb(image: Tensor, meta: Mapping[str, Any], key: str) -> Tensor:
    """Return an image of a test sample in RGB.

    Args:
        image: The image or frames, (…, 3, H, W).
        meta: See `is_bgr`.
        key: See `is_bgr`.

    Returns:
        (…, 3, H, W).
    """
    return image.flip(-3) if is_bgr(meta, key) else image


def state_prediction_order(sample: Any) -> None:
    """State in the metadata of an MMagic sample that its prediction, from `destruct`, is BGR."""
    if _is_mmagic_sample(sample):
        sample.set_metainfo({"pred_img_output_channel_order": "BGR"})


def _stated_order(meta: Mapping[str, Any], key: str) -> str | None:
    """Return the channel order in the metadata, such as "RGB"; None if there is none."""
    name = "gt" if key == "gt_img" else key
    if _first(meta.get(f"{name}_color_type")) == "unchanged":
        return "BGR"
    given = _first(meta.get(f"{name}_channel_order"))
    return str(given).upper() if given else None


def _order(sample: Any, key: str, image: Tensor) -> str:
    """Return the channel order of an image: "RGB", "BGR" or "single".

    Without metadata, images in MMagic samples are BGR, and those of this package RGB.
    """
    if image.shape[-3] == 1:
        return "single"
    default = "BGR" if _is_mmagic_sample(sample) else "RGB"
    return _stated_order(sample.metainfo, key) or default


def _common_order(samples: Sequence[Any], key: str, images: Tensor) -> str:
    orders = {_order(sample, key, images) for sample in samples}
    if len(orders) > 1:
        raise UserError(
            f"{key}: expected one channel order in a batch, got {', '.join(sorted(orders))}"
        )
    return orders.pop()


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _is_mmagic_sample(sample: Any) -> bool:
    return hasattr(sample, "stack")


def _reorder(image: Tensor, order: str, target: str | None) -> Tensor:
    if target is None or order in ("single", target):
        return image
    colours, alpha = image[..., :3, :, :], image[..., 3:, :, :]
    return torch.cat([colours.flip(-3), alpha], dim=-3)


def _padding(sample: Any) -> tuple[int, int]:
    """Return the number of rows and columns of padding of the input."""
    size = _first(sample.metainfo.get("padding_size"))
    return (0, 0) if size is None else (int(size[-2]), int(size[-1]))


@MODELS.register_module()
class DataPreprocessor(BaseDataPreprocessor):
    """Preprocessor that copies a batch to the device as uint8 and converts it to floats there.

    It has all arguments of MMagic's `DataPreprocessor`; those for operations that super-resolution
    does not need accept only their neutral value.

    Args:
        mean: Number to subtract, or one for each channel, in units of the uint8 input; None is 0.
        std: Number by which the difference is divided, or one for each channel; None is 1. The
            defaults map [0, 255] to [0, 1], those of MMagic to [-1, 1].
        pad_size_divisor: Pad at the bottom and on the right to multiples of this; predictions are
            cropped accordingly.
        pad_value: Value of the padding for `pad_mode="constant"`. As in MMagic, a list of inputs is
            padded before `mean` and `std`, a batch after them.
        pad_mode: Mode of `torch.nn.functional.pad`.
        non_image_keys: Must be None, because `inputs` are images, not dicts.
        non_concentate_keys: Must be None.
        output_channel_order: Channel order of the networks' input, `"RGB"` or `"BGR"`; None does
            not change the order.
        data_keys: Keys of images in samples to convert like GT.
        input_view: None or (1, -1, 1, 1): mean and std are by channel.
        output_view: None or (1, -1, 1, 1), as `input_view`.
        stack_data_sample: Whether to stack MMagic samples, as MMagic's models and metrics expect.
        non_blocking: Whether to copy to the device asynchronously.

    Raises:
        UserError: An argument has a value not listed above.
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
                    f"{value!r}; for other values use type='mmagic.DataPreprocessor'"
                )
        super().__init__(non_blocking=non_blocking)
        mean, std = 0.0 if mean is None else mean, 1.0 if std is None else std
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.pad_size_divisor, self.pad_value, self.pad_mode = pad_size_divisor, pad_value, pad_mode
        self.output_channel_order = output_channel_order
        self.data_keys = as_list(data_keys)
        self.stack_data_sample = stack_data_sample

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Convert `inputs` to a float batch, and in training GT as well.

        Args:
            data: `inputs`, images (3, H, W), uint8, a list of any sizes or stacked; and
                `data_samples`, elements with `gt_img`, a list or one with a stacked `gt_img`, or
                None.
            training: Whether to convert GT as well. For testing it remains uint8, which metrics
                expect; MMagic samples are stacked, with GT in BGR, which MMagic's metrics
                expect.

        Returns:
            `inputs`, (N, 3, H, W), float32, and `data_samples`.

        Raises:
            UserError: `inputs` is a dict, or training samples have several sizes.
        """
        data = self.cast_data(data)
        images, samples = data["inputs"], data.get("data_samples")
        if isinstance(_first(images), Mapping):
            raise UserError(
                "DataPreprocessor: expected images as inputs, got dicts of them; "
                "use type='mmagic.DataPreprocessor'"
            )
        if training and samples is not None:
            return self._training_batch(images, samples)
        if not samples:
            metainfo = {"img_channel_order": "RGB"}
            count = len(stack_images(images) if isinstance(images, Tensor) else images)
            samples = [element_type()(metainfo=metainfo) for _ in range(count)]
        inputs = self._inputs(images, samples)
        for sample in samples:
            self._prepare_gt(sample)
        if self.stack_data_sample and _is_mmagic_sample(samples[0]) and self._stackable(samples):
            samples = type(samples[0]).stack(samples)
        return {"inputs": inputs, "data_samples": samples}

    def destruct(self, batch: Any, data_samples: Any = None, key: str = "img") -> Any:
        """Map images of the network back to [0, 255], clamped but not rounded (metrics round).

        Infinite values become NaN, which metrics refuse.

        Args:
            batch: Input or output of the network, (N, 3, H, W), or one image (3, H, W) with its
                sample.
            data_samples: Samples returned by `forward`. The result is BGR for MMagic samples,
                as their GT is, else RGB.
            key: Key of the metadata with the channel order: `"img"` for that of `inputs`.

        Returns:
            Images in [0, 255] without the padding of the inputs: a batch, or a list if their sizes
            differ.
        """
        images = self.remove_padding(batch, data_samples)
        if isinstance(images, list):
            return [
                self._destruct(image, sample, key)
                for image, sample in zip(images, data_samples, strict=True)
            ]
        return self._destruct(images, _first(data_samples), key)

    def remove_padding(self, batch: Tensor, data_samples: Any) -> Any:
        """Return images without padding: a batch, or a list if their sizes differ."""
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
            inputs = self._normalise(stack_images(images))  # metadata of samples are not needed
        else:
            inputs = self._inputs(images, samples if isinstance(samples, list) else None)
        several = [samples] if isinstance(samples, BaseDataElement) else samples
        gt = BaseDataElement()
        for key in (key for key in self.data_keys if key in several[0]):
            batch = gt_batch(samples, key)
            if self.output_channel_order:
                order = _common_order(several, key, batch)
                batch = _reorder(batch, order, self.output_channel_order)
            gt.set_field(self._normalise(batch), key)
        return {"inputs": inputs, "data_samples": gt}

    def _inputs(self, images: Any, samples: Sequence[Any] | None) -> Tensor:
        """Pad, reorder and normalise the inputs; store padding and order in the samples."""
        one_batch = isinstance(images, Tensor)
        images = stack_images(images) if one_batch else images
        sizes = [tuple(image.shape[-2:]) for image in images]
        height, width = (
            -(-max(lengths) // self.pad_size_divisor) * self.pad_size_divisor
            for lengths in zip(*sizes, strict=True)
        )
        paddings = [(height - h, width - w) for h, w in sizes]
        if not one_batch:  # MMagic pads lists before it normalises, batches afterwards
            images = torch.stack([self._pad(*one) for one in zip(images, paddings, strict=True)])
        order = "RGB" if samples is None else _common_order(samples, "img", images)
        inputs = self._normalise(_reorder(images, order, self.output_channel_order))
        order = order if order == "single" else self.output_channel_order or order
        for sample, padding in zip(samples or (), paddings, strict=False):
            metainfo: dict[str, Any] = {"img_output_channel_order": order}
            if _is_mmagic_sample(sample) or any(map(any, paddings)):
                size = torch.tensor((0, *padding), dtype=torch.float32)
                metainfo |= {"padding_size": size, "padded_width": width}
            sample.set_metainfo(metainfo)
        return self._pad(inputs, paddings[0]) if one_batch else inputs

    def _pad(self, images: Tensor, padding: tuple[int, int]) -> Tensor:
        if not any(padding):
            return images
        height, width = padding
        value = self.pad_value if self.pad_mode == "constant" else None
        return F.pad(images.float(), (0, width, 0, height), self.pad_mode, value)

    def _stackable(self, samples: Sequence[Any]) -> bool:
        """Return whether all samples have images of one size."""
        shapes = [[s.get(key).shape for key in self.data_keys if key in s] for s in samples]
        paddings = [_padding(sample) for sample in samples]
        return all(one == shapes[0] for one in shapes) and len(set(paddings)) == 1

    def _prepare_gt(self, sample: Any) -> None:
        """Convert GT in MMagic samples to BGR, which MMagic's metrics expect."""
        for key in (key for key in self.data_keys if _is_mmagic_sample(sample) and key in sample):
            image = sample.get(key)
            order = _order(sample, key, image)
            sample.set_field(_reorder(image, order, "BGR"), key)
            order = order if order == "single" else "BGR"
            sample.set_metainfo({f"{key}_output_channel_order": order})

    def _destruct(self, images: Tensor, sample: Any, key: str) -> Tensor:
        scaled: Tensor = images.float() * self.std + self.mean
        # An overflow in half precision must not become a white pixel.
        floats = scaled.clamp(0, 255).where(scaled.isfinite(), torch.nan)
        if sample is None:
            return floats
        order = _order(sample, f"{key}_output", floats)
        return _reorder(floats, order, "BGR" if _is_mmagic_sample(sample) else "RGB")

    def _normalise(self, images: Tensor) -> Tensor:
        # Batches of `read_batch` are channels-last; losses are fastest on contiguous tensors.
        floats = images.to(torch.float32, memory_format=torch.contiguous_format)
        return (floats - self.mean) / self.std  # type: ignore[no-any-return]
