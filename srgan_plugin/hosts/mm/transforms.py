"""Pipeline steps with MMagic's names and arguments, drawn from the stream of samples.

A sample is a dict with `img` (LR) and `gt`: uint8 HWC RGB arrays, or pictures that are read when
they are sliced. Crops and flips follow from the sample's `draw`, that is from the seed and the
sample's number alone; without one (a dataset of another toolbox) they follow from torch's random
state, which mmengine seeds per worker.
"""

import sys
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from mmengine.structures import BaseDataElement

from srgan_plugin.data.patches import (
    HORIZONTAL_FLIP,
    TRANSPOSE,
    VERTICAL_FLIP,
    Draw,
    crop_pair,
    uniform,
)
from srgan_plugin.registry import FUNCTIONS, TRANSFORMS

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
    """

    def __init__(self, gt_patch_size: int) -> None:
        self.gt_patch_size = gt_patch_size

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop `img` and `gt`.

        Raises:
            ValueError: The scale does not divide the patch, LR and GT do not fit, or the picture is
                smaller than the patch.
        """
        lr, gt = results["img"], results["gt"]
        results["img"], results["gt"] = crop_pair(
            lr,
            gt,
            self.gt_patch_size,
            results.get("scale") or gt.shape[0] // lr.shape[0],
            _draw_of(results),
            str(results.get("gt_path") or results.get("key", "a picture")),
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
        keys: Sequence[str] = ("img", "gt"),
        flip_ratio: float = 0.5,
        direction: Literal["horizontal", "vertical"] = "horizontal",
    ) -> None:
        if direction not in DIRECTIONS:
            raise ValueError(f"direction is 'horizontal' or 'vertical', got {direction!r}")
        self.keys, self.flip_ratio = keys, flip_ratio
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

    def __init__(self, keys: Sequence[str] = ("img", "gt"), transpose_ratio: float = 0.5) -> None:
        self.keys, self.transpose_ratio = keys, transpose_ratio

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Transpose or leave `results[key]` for each key."""
        draw = _draw_of(results)
        if uniform(draw.seed, draw.number, TRANSPOSE) < self.transpose_ratio:
            for key in self.keys:
                results[key] = results[key].transpose(1, 0, 2)
        return results


@TRANSFORMS.register_module()
class PackInputs:
    """Makes of `img` and `gt` what models take: uint8 3HW tensors, in MMagic's data contract."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return `dict(inputs=<LR, uint8 3HW>, data_samples=<element with gt_img, uint8 3HW>)`."""
        sample = _element()(
            metainfo={key: results[key] for key in META_KEYS if key in results},
            gt_img=_tensor(results["gt"]),
        )
        return {"inputs": _tensor(results["img"]), "data_samples": sample}


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
    elements = [sample["data_samples"] for sample in samples]
    stacked = BaseDataElement(
        metainfo={"key": [element.metainfo.get("key") for element in elements]},
        gt_img=torch.stack([element.gt_img for element in elements]),
    )
    return {"inputs": torch.stack([s["inputs"] for s in samples]), "data_samples": stacked}
