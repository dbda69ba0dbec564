"""What models take: single samples packed as tensors, and batches stacked before they travel."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement

from srgan_plugin.registry import FUNCTIONS, TRANSFORMS

META_KEYS = ("key", "gt_path", "img_path", "scale", "gt_channel_order", "img_channel_order")


def as_list(value: Any) -> list[Any]:
    """Return MMagic's "one or a list of them" as a list; empty for None."""
    if value is None:
        return []
    alone = isinstance(value, str) or not isinstance(value, Sequence)
    return [value] if alone else list(value)


@TRANSFORMS.register_module()
class PackInputs:
    """Makes of `img` and `gt` what models take: uint8 3HW tensors, in MMagic's data contract.

    Args:
        keys: Entries that become `inputs`: the tensor where one of them is there, else a dict.
        meta_keys: Entries that are noted beside the usual ones.
        data_keys: Further images of the sample, under their own names; `gt` becomes `gt_img`.
    """

    def __init__(
        self,
        keys: str | Sequence[str] = ("merged", "img"),
        meta_keys: str | Sequence[str] = (),
        data_keys: str | Sequence[str] = (),
    ) -> None:
        self.keys, self.data_keys, self.meta_keys = map(as_list, (keys, data_keys, meta_keys))

    @property
    def usual(self) -> bool:
        """Whether it packs what all samples of ours have, and nothing else."""
        keys = {*self.keys} - {"merged"}  # which ours do not have
        return keys == {"img"} and not self.data_keys and {*self.meta_keys} <= {*META_KEYS}

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """See `transform`."""
        return self.transform(results)

    def __repr__(self) -> str:
        return type(self).__name__

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return `dict(inputs=<LR, uint8 3HW>, data_samples=<element with gt_img, uint8 3HW>)`."""
        inputs = {k: _tensor(results[k]) for k in self.keys if results.get(k) is not None}
        sample = element_type()()
        own = {*self.meta_keys, *self.data_keys}
        if hasattr(sample, "set_predefined_data"):  # MMagic's, which knows more names
            known = ("gt", *META_KEYS)
            sample.set_predefined_data(
                {k: v for k, v in results.items() if k not in own and k not in known}
            )
        noted = (*META_KEYS, *self.meta_keys)
        sample.set_metainfo({k: results[k] for k in noted if k in results})
        fields = {} if "gt" in own else {"gt_img": "gt"}
        fields |= {key: key for key in self.data_keys}
        found = {n: _tensor(results[k]) for n, k in fields.items() if results.get(k) is not None}
        getattr(sample, "set_tensor_data", sample.set_data)(found)
        only = next(iter(inputs.values())) if len(inputs) == 1 else inputs
        return {"inputs": only, "data_samples": sample}


class PairBatch(Sequence[dict[str, Any]]):
    """Samples that were read as one batch: `stack_pairs` takes it whole, others one by one.

    Args:
        inputs: uint8 N3hw.
        gt_img: uint8 N3HW.
        metainfo: What `PackInputs` notes of each sample.
    """

    def __init__(
        self, inputs: torch.Tensor, gt_img: torch.Tensor, metainfo: Sequence[dict[str, Any]]
    ) -> None:
        self.inputs, self.gt_img, self.metainfo = inputs, gt_img, metainfo

    def __len__(self) -> int:
        return len(self.metainfo)

    def __getitem__(self, index: Any) -> Any:
        return _packed(self.inputs[index], self.gt_img[index], self.metainfo[index])

    def stacked(self) -> dict[str, Any]:
        """Return what `stack_pairs` makes of the samples."""
        return stacked_pairs(self.inputs, self.gt_img, [meta["key"] for meta in self.metainfo])


def _packed(lr: torch.Tensor, gt: torch.Tensor, metainfo: Mapping[str, Any]) -> dict[str, Any]:
    return {"inputs": lr, "data_samples": element_type()(metainfo=dict(metainfo), gt_img=gt)}


def element_type() -> Any:
    """The class of a sample: MMagic's where it takes part, because its preprocessor insists."""
    structures = sys.modules.get("mmagic.structures")
    return structures.DataSample if structures else BaseDataElement


def _tensor(image: Any) -> Any:
    """Return an image HWC as a tensor CHW, frames as TCHW; anything else as it is."""
    if isinstance(image, (list, tuple)) and image and not np.isscalar(image[0]):
        frames = [_tensor(frame) for frame in image]
        return frames[0] if len(frames) == 1 else torch.stack(frames)
    if isinstance(image, torch.Tensor) or np.ndim(image) < 2:
        return image
    array = np.asarray(image)
    planes = array[..., None] if array.ndim == 2 else array
    return torch.from_numpy(np.ascontiguousarray(planes.transpose(2, 0, 1)))


@FUNCTIONS.register_module()
def stack_pairs(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples of one size in the worker: two tensors travel to the trainer, not 2 N.

    Returns:
        `inputs`, uint8 N3hw, and `data_samples`, one element with `gt_img`, uint8 N3HW.
    """
    if isinstance(samples, PairBatch):
        return samples.stacked()
    elements = [sample["data_samples"] for sample in samples]
    return stacked_pairs(
        torch.stack([sample["inputs"] for sample in samples]),
        torch.stack([element.gt_img for element in elements]),
        [element.metainfo.get("key") for element in elements],
    )


class StackedPairs(BaseDataElement):
    """The ground truth of a batch, `gt_img`, uint8 N3HW, and the `key` of each of its pictures."""

    def pin_memory(self) -> "StackedPairs":
        """Return it in memory from which a device copies without the processor's help.

        torch's loader calls this; mmengine's element has no such method and stays behind.
        """
        pinned: StackedPairs = self.new(gt_img=self.gt_img.pin_memory())
        return pinned


def stacked_pairs(inputs: torch.Tensor, gt_img: torch.Tensor, keys: list[Any]) -> dict[str, Any]:
    """A batch as our models take it: two tensors, uint8, and the names of its pictures."""
    element = StackedPairs(gt_img=gt_img)
    element.set_field(keys, "key", field_type="metainfo")  # `metainfo=` would copy it deeply
    return {"inputs": inputs, "data_samples": element}
