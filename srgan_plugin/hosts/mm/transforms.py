"""Pipeline steps with MMagic's names and arguments, drawn from the stream of samples.

They take single pictures, no lists of frames, and leave no notes (`flip_infos`) in the sample.

A sample is a dict with `img` (LR) and `gt`: uint8 HWC RGB arrays, or pictures that are read when
they are sliced. Crops and flips follow from the sample's `draw`, that is from the seed and the
sample's number alone; without one (a dataset of another toolbox) they follow from torch's random
state, which mmengine seeds per worker.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from mmengine.structures import BaseDataElement

from srgan_plugin.data.batches import Recipe
from srgan_plugin.data.patches import (
    HORIZONTAL_FLIP,
    TRANSPOSE,
    VERTICAL_FLIP,
    Draw,
    crop_pair,
    uniform,
)
from srgan_plugin.registry import FUNCTIONS, TRANSFORMS

from .fixed import as_tuple, check_fixed

# Axis of an HWC array, and which random number of the sample decides.
DIRECTIONS = {"horizontal": (1, HORIZONTAL_FLIP), "vertical": (0, VERTICAL_FLIP)}
META_KEYS = ("key", "gt_path", "img_path", "scale", "gt_channel_order", "img_channel_order")


def _draw_of(results: dict[str, Any]) -> Draw:
    if "draw" not in results:
        seed, number = torch.randint(2**31, (2,)).tolist()
        results["draw"] = Draw(0, seed=seed, number=number)
    return results["draw"]  # type: ignore[no-any-return]


@TRANSFORMS.register_module()
class LoadPair:
    """Reads both pictures whole, for pipelines whose next step wants arrays."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace `img` and `gt` by uint8 HWC RGB arrays."""
        return {**results, "img": np.asarray(results["img"]), "gt": np.asarray(results["gt"])}


@TRANSFORMS.register_module()
class PairedRandomCrop:
    """Cuts one random window out of LR and GT, aligned.

    Args:
        gt_patch_size: Edge of the GT patch in pixels; a multiple of the sample's scale.
        lq_key: Entry of the LR picture.
        gt_key: Entry of the GT picture.
    """

    def __init__(self, gt_patch_size: int, lq_key: str = "img", gt_key: str = "gt") -> None:
        if not isinstance(gt_patch_size, int) or gt_patch_size < 1:
            raise ValueError(
                f"gt_patch_size: expected a positive number of pixels, got {gt_patch_size!r}"
            )
        self.gt_patch_size, self.lq_key, self.gt_key = gt_patch_size, lq_key, gt_key

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop both pictures.

        Raises:
            ValueError: The scale does not divide the patch, LR and GT do not fit, or the picture is
                smaller than the patch.
        """
        lr, gt = results[self.lq_key], results[self.gt_key]
        results[self.lq_key], results[self.gt_key] = crop_pair(
            lr,
            gt,
            self.gt_patch_size,
            results.get("scale") or gt.shape[0] // lr.shape[0],
            _draw_of(results),
            str(results.get(f"{self.gt_key}_path") or results.get("key", "a picture")),
        )
        return results


@TRANSFORMS.register_module()
class Flip:
    """Mirrors all `keys` together, at random.

    Args:
        keys: Entries to mirror.
        flip_ratio: Probability.
        direction: `"horizontal"` (left becomes right) or `"vertical"`.
    """

    def __init__(
        self,
        keys: str | Sequence[str] = ("img", "gt"),
        flip_ratio: float = 0.5,
        direction: Literal["horizontal", "vertical"] = "horizontal",
    ) -> None:
        if direction not in DIRECTIONS:
            raise ValueError(f"direction is 'horizontal' or 'vertical', got {direction!r}")
        self.keys, self.flip_ratio = as_tuple(keys), flip_ratio
        self.axis, self.stream = DIRECTIONS[direction]

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mirror or leave `results[key]` for each key."""
        draw = _draw_of(results)
        if uniform(draw.seed, draw.number, self.stream) < self.flip_ratio:
            for key in self.keys:
                results[key] = np.flip(results[key], self.axis)
        return results


@TRANSFORMS.register_module()
class RandomTransposeHW:
    """Swaps height and width of all `keys` together, at random.

    Args:
        keys: Entries to transpose.
        transpose_ratio: Probability.
    """

    stream = TRANSPOSE

    def __init__(
        self, keys: str | Sequence[str] = ("img", "gt"), transpose_ratio: float = 0.5
    ) -> None:
        self.keys, self.transpose_ratio = as_tuple(keys), transpose_ratio

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Transpose or leave `results[key]` for each key."""
        draw = _draw_of(results)
        if uniform(draw.seed, draw.number, self.stream) < self.transpose_ratio:
            for key in self.keys:
                results[key] = results[key].transpose(1, 0, 2)
        return results


@TRANSFORMS.register_module()
class PackInputs:
    """Makes of `img` and `gt` what models take: uint8 3HW tensors, in MMagic's data contract.

    Args:
        keys: The entry that becomes `inputs`: `img`, alone or with MMagic's default `merged`.
        meta_keys: Entries that are noted beside the usual ones.
        data_keys: No further pictures are packed: none.
    """

    def __init__(
        self,
        keys: str | Sequence[str] = ("merged", "img"),
        meta_keys: str | Sequence[str] = (),
        data_keys: str | Sequence[str] = (),
    ) -> None:
        check_fixed("PackInputs", "keys", as_tuple(keys), [("merged", "img"), ("img",)])
        check_fixed("PackInputs", "data_keys", as_tuple(data_keys), [()])
        self.meta_keys = (*META_KEYS, *as_tuple(meta_keys))

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return `dict(inputs=<LR, uint8 3HW>, data_samples=<element with gt_img, uint8 3HW>)`."""
        noted = {key: results[key] for key in self.meta_keys if key in results}
        return _packed(_tensor(results["img"]), _tensor(results["gt"]), noted)


def recipe_of(steps: Sequence[Any], scale: int) -> Recipe | None:
    """What a pipeline does to a pair, where it is crop, flips, transpose and packing; else None.

    Args:
        steps: The pipeline.
        scale: GT is `scale` times LR.
    """
    crop, pack = (steps[0], steps[-1]) if len(steps) > 1 else (None, None)
    if type(crop) is not PairedRandomCrop or type(pack) is not PackInputs:
        return None
    if (crop.lq_key, crop.gt_key) != ("img", "gt") or set(pack.meta_keys) != set(META_KEYS):
        return None
    ratios: dict[int, float] = {}
    for step in steps[1:-1]:
        if type(step) not in (Flip, RandomTransposeHW) or set(step.keys) != {"img", "gt"}:
            return None
        # Streams are numbered in the order of the recipe's steps.
        if ratios and step.stream <= max(ratios):
            return None
        ratios[step.stream] = step.flip_ratio if type(step) is Flip else step.transpose_ratio
    order = (HORIZONTAL_FLIP, VERTICAL_FLIP, TRANSPOSE)
    return Recipe(crop.gt_patch_size, scale, *(ratios.get(stream, 0.0) for stream in order))


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
    return {"inputs": lr, "data_samples": _element()(metainfo=dict(metainfo), gt_img=gt)}


def _element() -> Any:
    """The class of a sample: MMagic's where it takes part, because its preprocessor insists."""
    structures = sys.modules.get("mmagic.structures")
    return structures.DataSample if structures else BaseDataElement


def _tensor(image: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)))


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
    return {"inputs": inputs, "data_samples": StackedPairs(metainfo={"key": keys}, gt_img=gt_img)}
