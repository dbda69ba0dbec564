"""Pairs of images as BasicSR's models take them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from basicsr.utils.registry import DATASET_REGISTRY
from torch import Tensor
from torch.utils.data import Dataset

from srgan_plugin.data.augment import augment, crop_pair, random_flips
from srgan_plugin.data.pairs import ImagePairs
from srgan_plugin.data.sampling import SampleIndex
from srgan_plugin.errors import UserError
from srgan_plugin.io.images import Image
from srgan_plugin.io.lazy_image import LazyImage

from .archs import SUFFIX


@DATASET_REGISTRY.register(suffix=SUFFIX)
class PairedImageDataset(Dataset[dict[str, Any]]):
    """LR and GT from folders or LMDB stores of either layout, with BasicSR's options.

    Args:
        opt: `dataroot_gt`; `dataroot_lq` (without it LR is made by MATLAB's bicubic, or comes from
            the store that `tools/create_store.py` made); `meta_info_file`; `scale`; `phase`; for
            training `gt_size`, `use_hflip`, `use_rot`. `io_backend` is told from the path, and
            `filename_tmpl` from the names, where DIV2K's `x4` is known.

    Raises:
        ValueError: An option that would change the images and is not supported.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        for name, accepted in (("color", (None, "rgb")), ("mean", (None,)), ("std", (None,))):
            if opt.get(name) not in accepted:
                raise UserError(
                    f"{name}: {opt[name]} is not supported by PairedImageDataset_{SUFFIX}; "
                    "remove the line or use BasicSR's PairedImageDataset"
                )
        self.opt = opt
        self.training = opt["phase"] == "train"
        self.pairs = ImagePairs(
            opt["dataroot_gt"],
            opt.get("dataroot_lq") or None,
            scale=opt["scale"],
            ann_file=opt.get("meta_info_file") or None,
            crop_gt=not self.training,
        )

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return `lq` and `gt`, float32 3HW RGB in [0, 1], and where they came from."""
        key, lr, gt = self.pairs[index]
        small, large = self._cut(lr, gt, key) if self.training else (lr, gt)
        # BasicSR names a result by the last part of this, without what follows a dot.
        path = f"{key.replace('/', '_')}.png"
        return {"lq": _tensor(small), "gt": _tensor(large), "lq_path": path, "gt_path": path}

    def _cut(self, lr: LazyImage, gt: LazyImage, key: str) -> tuple[Image, Image]:
        # BasicSR seeds Python's and NumPy's random numbers alike at each epoch, torch's it leaves.
        seed, number = torch.randint(2**31, (2,)).tolist()
        sample_index = SampleIndex(0, seed=seed, number=number)
        hflip, rot = (0.5 * bool(self.opt.get(name)) for name in ("use_hflip", "use_rot"))
        flips = random_flips(sample_index, hflip, rot, rot)
        small, large = crop_pair(lr, gt, self.opt["gt_size"], self.opt["scale"], sample_index, key)
        return augment(small, *flips), augment(large, *flips)


def _tensor(image: LazyImage | Image) -> Tensor:
    channels_first = np.asarray(image).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(channels_first)).float() / 255
