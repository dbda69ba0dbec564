"""Transforms with the names and arguments of MMagic, and reproducible random numbers.

A sample is a dict with `img` (LR) and `gt`: RGB arrays (H, W, 3), uint8, or lazy images. Crops and
flips are derived from `sample_index`, which contains the seed and the sample's number. Samples of
other toolboxes have no `sample_index`; one is drawn from torch's random state, which mmengine
seeds in each worker.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from srgan_plugin.data.augment import AugmentationParams, crop_pair
from srgan_plugin.data.degradation import DegradationParams, check_degradation, degrade
from srgan_plugin.data.sampling import (
    HORIZONTAL_FLIP,
    TRANSPOSE,
    VERTICAL_FLIP,
    SampleIndex,
    counter_uniform,
    draw_sample_index,
)
from srgan_plugin.errors import UserError, check_option
from srgan_plugin.registry import TRANSFORMS

from .collate import element_type

META_KEYS = ("key", "gt_path", "img_path", "scale", "gt_channel_order", "img_channel_order")
# Axis of an array (H, W, 3), and random stream of the decision.
DIRECTIONS = {"horizontal": (1, HORIZONTAL_FLIP), "vertical": (0, VERTICAL_FLIP)}


def as_list(value: Any) -> list[Any]:
    """Return a value or a sequence of values as a list; empty for None."""
    if value is None:
        return []
    alone = isinstance(value, str) or not isinstance(value, Sequence)
    return [value] if alone else list(value)


def _ensure_sample_index(results: dict[str, Any]) -> SampleIndex:
    """Return `results["sample_index"]`; draw and store it if it is missing."""
    if "sample_index" not in results:
        results["sample_index"] = draw_sample_index()
    return results["sample_index"]  # type: ignore[no-any-return]


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UserError(f"{name}: expected a probability from 0 to 1, got {value}")


@TRANSFORMS.register_module()
class LoadPair:
    """Decode lazy images, for pipelines in which the next step needs arrays."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace `img` and `gt` by RGB arrays (H, W, 3), uint8."""
        return {**results, "img": np.asarray(results["img"]), "gt": np.asarray(results["gt"])}

    def __repr__(self) -> str:
        return "LoadPair()"


def _map_frames(value: Any, change: Callable[[Any], Any]) -> Any:
    """Apply `change` to an image, or to each of a list of frames."""
    return [change(frame) for frame in value] if isinstance(value, list) else change(value)


class _Transform:
    """Base class of transforms, with the method `transform` and the `repr` of MMagic."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return `transform(results)`."""
        return self.transform(results)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Change and return a sample."""
        raise NotImplementedError

    def __repr__(self) -> str:
        names = inspect.signature(type(self)).parameters
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)}' for n in names)})"


@TRANSFORMS.register_module()
class PairedRandomCrop(_Transform):
    """Crop LR and GT at the same random position.

    Args:
        gt_patch_size: Side of the GT crop in pixels, a multiple of the sample's scale.
        lq_key: Key of the LR image, or of a list of frames.
        gt_key: Key of the GT image, or of a list of frames.

    Raises:
        UserError: `gt_patch_size` is not a positive integer.
    """

    def __init__(self, gt_patch_size: int, lq_key: str = "img", gt_key: str = "gt") -> None:
        if type(gt_patch_size) is not int or gt_patch_size < 1:
            raise UserError(
                f"gt_patch_size: expected a positive number of pixels, got {gt_patch_size!r}"
            )
        self.gt_patch_size, self.lq_key, self.gt_key = gt_patch_size, lq_key, gt_key

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Crop LR and GT.

        Raises:
            UserError: `gt_patch_size` is not a multiple of the scale, the sizes of LR and GT do not
                match, or the image is smaller than the crop.
        """
        lr, gt = results[self.lq_key], results[self.gt_key]
        first_lr, first_gt = (v[0] if isinstance(v, list) else v for v in (lr, gt))
        ratio = first_gt.shape[0] // max(first_lr.shape[0], 1)
        scale = results.get("scale") or max(ratio, 1)  # 1 if both are swapped, which is an error
        name = str(results.get(f"{self.gt_key}_path") or results.get("key", "an image"))

        index = _ensure_sample_index(results)

        # The position depends only on the sample and the sizes, so all frames agree.
        def crop(low: Any, high: Any) -> Any:
            return crop_pair(low, high, self.gt_patch_size, scale, index, name)

        if lr is first_lr and gt is first_gt:
            results[self.lq_key], results[self.gt_key] = crop(lr, gt)
        else:
            results[self.lq_key] = _map_frames(lr, lambda frame: crop(frame, first_gt)[0])
            results[self.gt_key] = _map_frames(gt, lambda frame: crop(first_lr, frame)[1])
        return results


@TRANSFORMS.register_module()
class Flip(_Transform):
    """Flip all `keys` together, at random.

    There is one decision per direction and sample: two transforms of one direction, on different
    keys, always agree, unlike those of MMagic, which draw independently.

    Args:
        keys: Keys of images, or of lists of frames.
        flip_ratio: Probability of a flip.
        direction: `"horizontal"` (left becomes right) or `"vertical"`.

    Raises:
        UserError: `direction` is another one, or `flip_ratio` is not in [0, 1].
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
        """Flip `results[key]` for each key, or none, and append to `flip_infos`."""
        index = _ensure_sample_index(results)
        flip = counter_uniform(index.seed, index.number, self.stream) < self.flip_ratio
        for key in self.keys if flip else ():
            results[key] = _map_frames(results[key], lambda image: np.flip(image, self.axis))
        options = {"keys": self.keys, "direction": self.direction, "ratio": self.flip_ratio}
        results.setdefault("flip_infos", []).append({**options, "flip": flip})
        return results


@TRANSFORMS.register_module()
class RandomTransposeHW(_Transform):
    """Swap height and width of all `keys` together, at random.

    There is one decision per sample: two of these transforms on different keys always agree, unlike
    those of MMagic, which draw independently.

    Args:
        keys: Keys of images, or of lists of frames.
        transpose_ratio: Probability of a transposition.
    """

    stream = TRANSPOSE

    def __init__(
        self, keys: str | Sequence[str] = ("img", "gt"), transpose_ratio: float = 0.5
    ) -> None:
        _check_probability("transpose_ratio", transpose_ratio)
        self.keys, self.transpose_ratio = as_list(keys), transpose_ratio

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Transpose `results[key]` for each key, or none, and set `transpose`."""
        index = _ensure_sample_index(results)
        transpose = counter_uniform(index.seed, index.number, self.stream) < self.transpose_ratio
        for key in self.keys if transpose else ():
            results[key] = _map_frames(results[key], lambda image: image.transpose(1, 0, 2))
        results["transpose"] = transpose
        return results


@TRANSFORMS.register_module()
class DegradeLR(_Transform):
    """Blur the LR image, add noise, and compress it as JPEG, each with a random strength.

    For real-world (blind) super-resolution. Put it after `PairedRandomCrop`, because it degrades
    the whole image otherwise. The blocks of JPEG begin at a random pixel of the crop. Two of them
    in a pipeline draw the same random numbers. A `BenchmarkDataset` degrades each image in the same
    way at every validation.

    Args:
        blur_sigma: Lowest and highest standard deviation of a Gaussian blur, in pixels of LR.
        noise_sigma: Lowest and highest standard deviation of Gaussian noise, in grey levels (0 to
            255).
        jpeg_quality: Lowest and highest quality of JPEG compression, 1 to 100; None leaves it out.
            Chroma has half the resolution, also with 100.
        clean_ratio: Share of the samples that stay as they are, 0 to 1.
        key: Key of the LR image.

    Raises:
        UserError: An argument is not of this form.
    """

    def __init__(
        self,
        blur_sigma: Sequence[float] = (0.0, 0.8),
        noise_sigma: Sequence[float] = (0.0, 4.0),
        jpeg_quality: Sequence[int] | None = (40, 95),
        clean_ratio: float = 0.25,
        key: str = "img",
    ) -> None:
        names = DegradationParams._fields
        values = (blur_sigma, noise_sigma, jpeg_quality, clean_ratio)
        self.params = check_degradation(dict(zip(names, values, strict=True)))
        self.blur_sigma, self.noise_sigma, self.jpeg_quality, self.clean_ratio = self.params
        self.key = key

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Degrade `results[key]`, (H, W, 3), uint8; RGB, or BGR by `results[key_channel_order]`.

        Raises:
            UserError: `results[key]` is missing, another image, or a list of frames.
        """
        if self.key not in results:
            raise UserError(
                f"DegradeLR: key: expected a key of the sample ({', '.join(results)}), got "
                f"{self.key!r}"
            )
        image = results[self.key]
        lr = np.asarray(image) if not isinstance(image, list) else image
        if isinstance(lr, list) or lr.ndim != 3 or lr.shape[2] != 3 or lr.dtype != np.uint8:
            got = "a list" if isinstance(lr, list) else f"{lr.dtype} of shape {lr.shape}"
            raise UserError(
                f"DegradeLR: {self.key}: expected an RGB image (H, W, 3), uint8, got {got}"
            )
        # JPEG's luma and chroma are of RGB; MMagic's loaders give BGR.
        bgr = str(results.get(f"{self.key}_channel_order")).upper() == "BGR"
        rgb = np.ascontiguousarray(lr[..., ::-1]) if bgr else lr
        degraded = degrade(rgb, self.params, _ensure_sample_index(results))
        results[self.key] = np.ascontiguousarray(degraded[..., ::-1]) if bgr else degraded
        return results


@TRANSFORMS.register_module()
class PackInputs(_Transform):
    """Convert a sample to the input of models, as in MMagic.

    An image (H, W, C) becomes a tensor (C, H, W), grey (H, W) becomes (1, H, W), and a list of T
    frames becomes (T, C, H, W), or (C, H, W) if T is 1. The dtype is kept, such as uint8.

    Args:
        keys: Keys of the images in `inputs`: a tensor if exactly one of them exists in the sample,
            else a dict of tensors, which is empty if none exists.
        meta_keys: Keys of metadata in addition to `META_KEYS`.
        data_keys: Keys of further images in `data_samples`, which keep their names. `gt` is packed
            as `gt_img`, unless it is in `data_keys` or `meta_keys`.
    """

    def __init__(
        self,
        keys: str | Sequence[str] = ("merged", "img"),
        meta_keys: str | Sequence[str] = (),
        data_keys: str | Sequence[str] = (),
    ) -> None:
        self.keys, self.data_keys, self.meta_keys = map(as_list, (keys, data_keys, meta_keys))

    @property
    def packs_default_keys(self) -> bool:
        """Whether only the default keys are packed."""
        keys = {*self.keys} - {"merged"}  # samples of this package have no `merged`
        return keys == {"img"} and not self.data_keys and {*self.meta_keys} <= {*META_KEYS}

    def __repr__(self) -> str:
        return type(self).__name__  # without arguments, as in MMagic

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Return a dict with `inputs`, a tensor or a dict of tensors, and `data_samples`.

        `data_samples` has the images `gt_img` and `data_keys`, and the metadata.
        """
        inputs = {k: _to_tensor(results[k]) for k in self.keys if results.get(k) is not None}
        sample = element_type()()
        extra = {*self.meta_keys, *self.data_keys}
        if hasattr(sample, "set_predefined_data"):  # a DataSample of MMagic
            handled = {"gt", *META_KEYS, *extra}
            sample.set_predefined_data({k: v for k, v in results.items() if k not in handled})
        meta_keys = (*META_KEYS, *self.meta_keys)
        sample.set_metainfo({k: results[k] for k in meta_keys if k in results})
        fields = {} if "gt" in extra else {"gt_img": "gt"}
        fields |= {key: key for key in self.data_keys}
        found = {n: _to_tensor(results[k]) for n, k in fields.items() if results.get(k) is not None}
        # MMagic's `DataSample` converts values to tensors; mmengine's element has only `set_data`.
        getattr(sample, "set_tensor_data", sample.set_data)(found)
        only = next(iter(inputs.values())) if len(inputs) == 1 else inputs
        return {"inputs": only, "data_samples": sample}


def _to_tensor(image: Any) -> Any:
    """Convert an image (H, W, C) or (H, W) to a tensor (C, H, W), and T frames to (T, C, H, W).

    A single frame becomes (C, H, W). Tensors, scalars and one-dimensional values are returned
    unchanged.
    """
    if isinstance(image, (list, tuple)) and image and not np.isscalar(image[0]):
        frames = [_to_tensor(frame) for frame in image]
        return frames[0] if len(frames) == 1 else torch.stack(frames)
    if isinstance(image, torch.Tensor) or np.ndim(image) < 2:
        return image
    array = np.asarray(image)
    planes = array[..., None] if array.ndim == 2 else array
    return torch.from_numpy(np.ascontiguousarray(planes.transpose(2, 0, 1)))


def find_augmentation(steps: Sequence[Any], scale: int) -> AugmentationParams | None:
    """Return the parameters of a pipeline of crop, flips, transpose and packing, else None.

    Args:
        steps: Transforms of the pipeline.
        scale: GT size over LR size.
    """
    crop, pack = (steps[0], steps[-1]) if len(steps) > 1 else (None, None)
    if type(crop) is not PairedRandomCrop or type(pack) is not PackInputs:
        return None
    if (crop.lq_key, crop.gt_key) != ("img", "gt") or not pack.packs_default_keys:
        return None
    ratios: dict[int, float] = {}
    for step in steps[1:-1]:
        if type(step) not in (Flip, RandomTransposeHW) or set(step.keys) != {"img", "gt"}:
            return None
        # Flips must precede the transpose, as in `data.augment`; the numbers of streams do as well.
        if ratios and step.stream <= max(ratios):
            return None
        ratios[step.stream] = step.flip_ratio if type(step) is Flip else step.transpose_ratio
    order = (HORIZONTAL_FLIP, VERTICAL_FLIP, TRANSPOSE)
    return AugmentationParams(
        crop.gt_patch_size, scale, *(ratios.get(stream, 0.0) for stream in order)
    )
