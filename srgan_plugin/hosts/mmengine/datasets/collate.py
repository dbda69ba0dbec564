"""Batches that are stacked in the worker, before they travel to the trainer."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import BaseDataElement

from srgan_plugin.registry import FUNCTIONS


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
        sample = element_type()(metainfo=dict(self.metainfo[index]), gt_img=self.gt_img[index])
        return {"inputs": self.inputs[index], "data_samples": sample}

    def stacked(self) -> dict[str, Any]:
        """Return what `stack_pairs` makes of the samples."""
        return stacked_pairs(self.inputs, self.gt_img, [meta["key"] for meta in self.metainfo])


def element_type() -> Any:
    """Return the class of a sample: MMagic's if MMagic is loaded, for its preprocessor."""
    structures = sys.modules.get("mmagic.structures")
    return structures.DataSample if structures else BaseDataElement


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
    """The ground truth of a batch, `gt_img`, uint8 N3HW, and the `key` of each of its images."""

    def pin_memory(self) -> "StackedPairs":
        """Return it in memory from which a device copies without the processor's help.

        torch's loader calls this; mmengine's element has no such method and stays behind.
        """
        pinned: StackedPairs = self.new(gt_img=self.gt_img.pin_memory())
        return pinned


def stacked_pairs(inputs: torch.Tensor, gt_img: torch.Tensor, keys: list[Any]) -> dict[str, Any]:
    """Collate samples into the batch of our models: two uint8 tensors and the images' keys."""
    element = StackedPairs(gt_img=gt_img)
    element.set_field(keys, "key", field_type="metainfo")  # `metainfo=` would copy it deeply
    return {"inputs": inputs, "data_samples": element}
