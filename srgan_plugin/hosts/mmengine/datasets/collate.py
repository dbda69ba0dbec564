"""Collate samples to batches in the worker process."""

import sys
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.structures import BaseDataElement

from srgan_plugin.registry import FUNCTIONS


class PairBatch(Sequence[dict[str, Any]]):
    """Samples that were read as one batch; `stack_pairs` takes the tensors unchanged.

    Args:
        inputs: LR images, RGB, (N, 3, h, w), uint8.
        gt_img: GT images, RGB, (N, 3, H, W), uint8.
        metainfo: Metadata of each sample, as set by `PackInputs`.
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

    def collate(self) -> dict[str, Any]:
        """Return the batch for `stack_pairs`."""
        return make_batch(self.inputs, self.gt_img, [meta["key"] for meta in self.metainfo])


def element_type() -> Any:
    """Return the class of samples: MMagic's DataSample if MMagic is loaded, for its models."""
    structures = sys.modules.get("mmagic.structures")
    return structures.DataSample if structures else BaseDataElement


@FUNCTIONS.register_module()
def stack_pairs(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples of one size, so a worker sends two tensors and not 2 N.

    Returns:
        `inputs`, (N, 3, h, w), uint8, and `data_samples`, one element with `gt_img`, (N, 3, H, W),
        uint8.
    """
    if isinstance(samples, PairBatch):
        return samples.collate()
    elements = [sample["data_samples"] for sample in samples]
    return make_batch(
        torch.stack([sample["inputs"] for sample in samples]),
        torch.stack([element.gt_img for element in elements]),
        [element.metainfo.get("key") for element in elements],
    )


class StackedPairs(BaseDataElement):
    """GT images of a batch, `gt_img`, (N, 3, H, W), uint8, and the `key` of each image."""

    def pin_memory(self) -> "StackedPairs":
        """Return a copy in pinned memory; torch's loader calls this."""
        pinned: StackedPairs = self.new(gt_img=self.gt_img.pin_memory())
        return pinned


def make_batch(inputs: torch.Tensor, gt_img: torch.Tensor, keys: list[Any]) -> dict[str, Any]:
    """Return the batch for `DataPreprocessor`.

    Args:
        inputs: LR images, RGB, (N, 3, h, w), uint8.
        gt_img: GT images, RGB, (N, 3, H, W), uint8.
        keys: Key of each image.
    """
    element = StackedPairs(gt_img=gt_img)
    element.set_field(keys, "key", field_type="metainfo")  # `metainfo=` would make a deep copy
    return {"inputs": inputs, "data_samples": element}
