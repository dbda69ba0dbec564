"""Dataset of image pairs for BasicSR's models, and one-line errors of BasicSR's own dataset."""

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.data.paired_image_dataset import PairedImageDataset as BasicSRPairedImageDataset
from basicsr.utils.registry import DATASET_REGISTRY
from torch import Tensor
from torch.utils.data import Dataset

from srgan_plugin.data.augment import augment, crop_pair, random_flips
from srgan_plugin.data.degradation import check_degradation, degrade
from srgan_plugin.data.pairs import ImagePairs, size_advice
from srgan_plugin.data.sampling import SampleIndex, draw_sample_index
from srgan_plugin.errors import UserError, prefix_errors
from srgan_plugin.io.array_types import RGBArray
from srgan_plugin.io.lazy_image import LazyImage

from .archs import SUFFIX


@DATASET_REGISTRY.register(suffix=SUFFIX)
class PairedImageDataset(Dataset[dict[str, Any]]):
    """LR and GT images from folders or LMDB stores, of BasicSR or of `create_store`.

    Unlike BasicSR's dataset, it uses images in subfolders, too, and each line of `meta_info_file`
    once, sorted. LR images have the names of the GT images, or those with `x4`.

    Args:
        opt: Options of BasicSR: `dataroot_gt`; `dataroot_lq` (if missing or empty, LR is computed
            by MATLAB's bicubic, or read from the store written by `tools/create_store.py`);
            `meta_info_file` (if missing or empty, all images); `scale`; `phase`; for training
            `gt_size`, `use_hflip`, `use_rot` (both False if missing), `degradation` (arguments of
            `DegradationParams`; if missing, LR stays as it is). `io_backend` and `filename_tmpl`
            are ignored. In validation GT is cropped to a multiple of the scale.

    Raises:
        MissingFileError: A path does not exist.
        UserError: An option would change the images and is not supported, images are not pairs, or
            two results would have the same name.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        for name, accepted in (("color", (None, "rgb")), ("mean", (None,)), ("std", (None,))):
            if opt.get(name) not in accepted:
                raise UserError(
                    f"{name}: expected no such option of PairedImageDataset_{SUFFIX}, got "
                    f"{opt[name]}; remove the line or use BasicSR's PairedImageDataset"
                )
        self.opt = opt
        self.training = opt["phase"] == "train"
        self.degradation = None
        if (given := opt.get("degradation")) is not None:
            with prefix_errors("degradation"):
                self.degradation = check_degradation(given)
        self.pairs = ImagePairs(
            opt["dataroot_gt"],
            opt.get("dataroot_lq") or None,
            scale=opt["scale"],
            ann_file=opt.get("meta_info_file") or None,
            crop_gt=not self.training,
        )
        if not self.training:
            _check_names(self.pairs.keys)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a dict with `lq` and `gt`, RGB in [0, 1], (3, H, W), float32, and their names."""
        key, lr, gt = self.pairs[index]
        lq, hq = self._augment(lr, gt, key) if self.training else (lr, gt)
        if self.degradation and not self.training:  # an image in the same way in every validation
            lq = degrade(np.asarray(lq), self.degradation, SampleIndex(index, 0, index))
        path = _file_name(key)
        return {"lq": _to_tensor(lq), "gt": _to_tensor(hq), "lq_path": path, "gt_path": path}

    def _augment(self, lr: LazyImage, gt: LazyImage, key: str) -> tuple[RGBArray, RGBArray]:
        # BasicSR reseeds Python and NumPy in the same way in each epoch, but not torch.
        sample_index = draw_sample_index()
        hflip, rot = (0.5 * bool(self.opt.get(name)) for name in ("use_hflip", "use_rot"))
        flips = random_flips(sample_index, hflip, rot, rot)
        lq, hq = crop_pair(lr, gt, self.opt["gt_size"], self.opt["scale"], sample_index, key)
        if self.degradation:
            lq = degrade(lq, self.degradation, sample_index)
        return augment(lq, *flips), augment(hq, *flips)


def _check_names(keys: Iterable[str]) -> None:
    name, count = Counter(map(_file_name, keys)).most_common(1)[0]
    if count > 1:
        raise UserError(f"dataroot_gt: expected different names, got two images named {name}")


def _file_name(key: str) -> str:
    """Return the file name of a result, which BasicSR writes without the suffix."""
    return f"{key.replace('/', '_')}.png"


def _to_tensor(image: LazyImage | RGBArray) -> Tensor:
    channels_first = np.asarray(image).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(channels_first)).float() / 255


_get_pair = BasicSRPairedImageDataset.__getitem__


@functools.wraps(_get_pair)
def _get_checked_pair(dataset: Any, index: int) -> dict[str, Any]:
    """Return a pair of BasicSR's dataset, or raise a `UserError` that names the images."""
    names = dataset.paths[index]
    try:
        pair: dict[str, Any] = _get_pair(dataset, index)
    except (AttributeError, cv2.error) as error:
        # OpenCV returns None, which has no `astype`; for an empty file it raises an error.
        if isinstance(error, AttributeError) and (error.name, error.obj) != ("astype", None):
            raise
        raise UserError(
            f"{names['gt_path']}, {names['lq_path']}: expected two images, got one that OpenCV "
            "cannot decode; replace it"
        ) from None
    except ValueError as error:  # sizes that do not match, or are smaller than `gt_size`
        text = " ".join(map(str, error.args))
        raise UserError(f"{names['gt_path']}: {' '.join(text.split())}") from None
    (height, width), (gt_height, gt_width) = (pair[key].shape[-2:] for key in ("lq", "gt"))
    scale = dataset.opt["scale"]
    if (gt_height, gt_width) != (height * scale, width * scale):
        raise UserError(
            f"{names['gt_path']}: expected at least {scale} times the {height}x{width} of "
            f"{names['lq_path']}, got {gt_height}x{gt_width} (height x width); "
            f"{size_advice(height, gt_height)}"
        )
    return pair


BasicSRPairedImageDataset.__getitem__ = _get_checked_pair
