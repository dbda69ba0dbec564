"""Pipeline steps with MMagic's names and arguments, drawn from the stream of samples.

A sample is a dict with `img` (LR) and `gt`: uint8 HWC RGB arrays, or images that are read when
they are sliced. Crops and flips follow from the sample's `sample_index`, that is from the seed and
the sample's number alone; without one (a dataset of another toolbox) they follow from torch's
random state, which mmengine seeds per worker.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from srgan_plugin.data.augment import AugmentationParams, crop_pair
from srgan_plugin.data.sampling import (
    HORIZONTAL_FLIP,
    TRANSPOSE,
    VERTICAL_FLIP,
    SampleIndex,
    counter_uniform,
)
from srgan_plugin.errors import UserError, check_option
from srgan_plugin.registry import TRANSFORMS

from .collate import element_type

META_KEYS = ("key", "gt_path", "img_path", "scale", "gt_channel_order", "img_channel_order")
# Axis of an HWC array, and which random number of the sample decides.
DIRECTIONS = {"horizontal": (1, HORIZONTAL_FLIP), "vertical": (0, VERTICAL_FLIP)}


def as_list(value: Any) -> list[Any]:
    """Return MMagic's "one or a list of them" as a list; empty for None."""
    if value is None:
        return []
    alone = isinstance(value, str) or not isinstance(value, Sequence)
    return [value] if alone else list(value)


def _sample_index_of(results: dict[str, Any]) -> SampleIndex:
    if "sample_index" not in results:
        seed, number = torch.randint(2**31, (2,)).tolist()
        results["sample_index"] = SampleIndex(0, seed=seed, number=number)
    return results["sample_index"]  # type: ignore[no-any-return]


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"{name}: expected a probability from 0 to 1, got {value}")


@TRANSFORMS.register_module()
class LoadPair:
    """Reads both images whole, for pipelines whose next step wants arrays."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace `img` and `gt` by uint8 HWC RGB arrays."""
        return {**results, "img": np.asarray(results["img"]), "gt": np.asarray(results["gt"])}


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """Change an image, or each of a list of frames."""
    return [change(frame) for frame in value] if isinstance(value, list) else change(value)


class _Transform:
    """What MMagic's transforms have in common: `transform`, and arguments that can be read."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """See `transform`."""
        return self.transform(results)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change a sample."""
        raise NotImplementedError

    def __repr__(self) -> str:
        names = inspect.signature(type(self)).parameters
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)}' for n in names)})"


@TRANSFORMS.register_module()
class PairedRandomCrop(_Transform):
    """Cuts one random window out of LR and GT, aligned.

    Args:
        gt_patch_size: Edge of the GT patch in pixels; a multiple of the sample's scale.
        lq_key: Entry of the LR image, or of a list of frames.
        gt_key: Entry of the GT image, or of a list of frames.
    """

    def __init__(self, gt_patch_size: int, lq_key: str = "img", gt_key: str = "gt") -> None:
        if not isinstance(gt_patch_size, int) or gt_patch_size < 1:
            raise UserError(
                f"gt_patch_size: expected a positive number of pixels, got {gt_patch_size!r}"
            )
        self.gt_patch_size, self.lq_key, self.gt_key = gt_patch_size, lq_key, gt_key

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop LR and GT.

        Raises:
            ValueError: The scale does not divide the patch, LR and GT do not fit, or the image is
                smaller than the patch.
        """
        lr, gt = results[self.lq_key], results[self.gt_key]
        first_lr, first_gt = (v[0] if isinstance(v, list) else v for v in (lr, gt))
        scale = results.get("scale") or first_gt.shape[0] // first_lr.shape[0]
        name = str(results.get(f"{self.gt_key}_path") or results.get("key", "an image"))

        def crop(low: Any, high: Any) -> Any:
            return crop_pair(low, high, self.gt_patch_size, scale, _sample_index_of(results), name)

        if lr is first_lr and gt is first_gt:
            results[self.lq_key], results[self.gt_key] = crop(lr, gt)
        else:
            results[self.lq_key] = _each(lr, lambda frame: crop(frame, first_gt)[0])
            results[self.gt_key] = _each(gt, lambda frame: crop(first_lr, frame)[1])
        return results


@TRANSFORMS.register_module()
class Flip(_Transform):
    """Mirrors all `keys` together, at random.

    Args:
        keys: Entries to mirror: images, or lists of frames.
        flip_ratio: Probability.
        direction: `"horizontal"` (left becomes right) or `"vertical"`.
    """

    def __init__(
        self,
        keys: str | Sequence[str] = ("img", "gt"),
        flip_ratio: float = 0.5,
        direction: Literal["horizontal", "vertical"] = "horizontal",
    ) -> None:
        check_option("direction", direction, DIRECTIONS)
        _check_probability("flip_ratio", flip_ratio)
        self.keys, self.flip_ratio, self.direction = as_list(keys), flip_ratio, direction
        self.axis, self.stream = DIRECTIONS[direction]

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Mirror or leave `results[key]` for each key; note which in `flip_infos`."""
        index = _sample_index_of(results)
        flip = counter_uniform(index.seed, index.number, self.stream) < self.flip_ratio
        for key in self.keys if flip else ():
            results[key] = _each(results[key], lambda image: np.flip(image, self.axis))
        options = {"keys": self.keys, "direction": self.direction, "ratio": self.flip_ratio}
        results.setdefault("flip_infos", []).append({**options, "flip": flip})
        return results


@TRANSFORMS.register_module()
class RandomTransposeHW(_Transform):
    """Swaps height and width of all `keys` together, at random.

    Args:
        keys: Entries to transpose: images, or lists of frames.
        transpose_ratio: Probability.
    """

    stream = TRANSPOSE

    def __init__(
        self, keys: str | Sequence[str] = ("img", "gt"), transpose_ratio: float = 0.5
    ) -> None:
        _check_probability("transpose_ratio", transpose_ratio)
        self.keys, self.transpose_ratio = as_list(keys), transpose_ratio

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Transpose or leave `results[key]` for each key; note which in `transpose`."""
        index = _sample_index_of(results)
        transpose = counter_uniform(index.seed, index.number, self.stream) < self.transpose_ratio
        for key in self.keys if transpose else ():
            results[key] = _each(results[key], lambda image: image.transpose(1, 0, 2))
        results["transpose"] = transpose
        return results


@TRANSFORMS.register_module()
class PackInputs(_Transform):
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


def augmentation_of(steps: Sequence[Any], scale: int) -> AugmentationParams | None:
    """Return the parameters of a pipeline of crop, flips, transpose and packing, else None.

    Args:
        steps: The pipeline.
        scale: GT is `scale` times LR.
    """
    crop, pack = (steps[0], steps[-1]) if len(steps) > 1 else (None, None)
    if type(crop) is not PairedRandomCrop or type(pack) is not PackInputs:
        return None
    if (crop.lq_key, crop.gt_key) != ("img", "gt") or not pack.usual:
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
    return AugmentationParams(
        crop.gt_patch_size, scale, *(ratios.get(stream, 0.0) for stream in order)
    )
