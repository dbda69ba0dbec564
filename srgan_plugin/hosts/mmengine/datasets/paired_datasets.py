"""Datasets of LR/GT pairs for training, and benchmark sets by name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import Compose
from torch.utils.data import Dataset

from srgan_plugin.data.augment import Names, read_batch
from srgan_plugin.data.benchmark_sets import data_root as default_data_root
from srgan_plugin.data.benchmark_sets import (
    find_benchmark,
    find_div2k_train,
    warn_of_validation_images,
)
from srgan_plugin.data.pairs import ImagePairs, Pair
from srgan_plugin.data.sampling import SampleIndex
from srgan_plugin.errors import UserError
from srgan_plugin.registry import DATASETS, SCOPE, TRANSFORMS

from .collate import PairBatch
from .transforms import find_augmentation

Config = dict[str, Any]


def _sample(pair: Pair, scale: int) -> dict[str, Any]:
    """Return a sample with the keys of MMagic's transforms and lazy images."""
    names = Names(pair.key, pair.lr.name, pair.gt.name)
    return {"img": pair.lr, "gt": pair.gt, **_metainfo(names, scale)}


def _metainfo(names: Names, scale: int) -> dict[str, Any]:
    return {
        "key": names.key,
        "img_path": names.lr,
        "gt_path": names.gt,
        "scale": scale,
        "img_channel_order": "RGB",
        "gt_channel_order": "RGB",
    }


def _changes(steps: Sequence[Config]) -> list[str]:
    """Return the types of the transforms that may change an image, so that scores differ."""
    unchanging = ("LoadPair", "PackInputs")
    types = (step["type"] for step in steps)
    names = [t.rpartition(".")[2] if isinstance(t, str) else t.__name__ for t in types]
    return [name for name in names if name not in unchanging]


def _pipeline(steps: Sequence[Config]) -> Compose:
    """Build the transforms; raise `UserError` for what is not a list of dicts."""
    is_list = isinstance(steps, list | tuple)
    if not is_list or not all(isinstance(step, Mapping) for step in steps):
        raise UserError(
            f"pipeline: expected a list of transforms such as dict(type='LoadPair'), got {steps!r}"
        )
    return Compose([TRANSFORMS.build({"_scope_": SCOPE, **step}) for step in steps])


@DATASETS.register_module()
class PairedImageDataset(Dataset[Any]):
    """LR and GT images for training, from folders or LMDB stores.

    Args:
        gt: Folder of images, LMDB store, or folder written by `tools/create_store.py`, which also
            contains `lr`. If empty, the DIV2K training set under `data_root` is used.
        lr: Folder or store of LR images. If empty, LR is computed from GT by MATLAB's bicubic.
        scale: GT size over LR size.
        ann_file: A `meta_info_*.txt` with the names of the GT images to use; empty for all.
        pipeline: Transforms of a sample, a dict with `img`, `gt`, `key`, `sample_index`, ….
        data_root: Folder that contains DIV2K; the default is `$SRGAN_DATA` or `data`.
        metainfo: Further metadata of the set, for hooks.

    Raises:
        MissingFileError: A path does not exist.
        UserError: LR and GT images are not pairs, `lr` or `ann_file` is given without `gt`, or
            `pipeline` is no list of dicts.
    """

    def __init__(
        self,
        gt: str = "",
        lr: str = "",
        scale: int = 4,
        ann_file: str = "",
        pipeline: Sequence[Config] = (),
        data_root: str = "",
        metainfo: Config | None = None,
    ) -> None:
        if not gt and (lr or ann_file):
            raise UserError(
                f"{'lr' if lr else 'ann_file'}: expected gt as well, got none, which means DIV2K; "
                "set gt to the folder or store of the GT images"
            )
        if not gt:
            gt, lr, ann_file = find_div2k_train(data_root or default_data_root(), scale)
        self.pairs = ImagePairs(gt, lr or None, scale=scale, ann_file=ann_file or None)
        if not ann_file:
            warn_of_validation_images(self.pairs)
        self.scale = scale
        self.pipeline = _pipeline(pipeline)
        self.augmentation = find_augmentation(self.pipeline.transforms, scale)
        self.metainfo = {"source": str(gt), "lr_origin": self.pairs.lr_origin, **(metainfo or {})}

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Any:
        results = _sample(self.pairs[index], self.scale)
        if isinstance(index, SampleIndex):
            results["sample_index"] = index
        return self.pipeline(results)

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Any]:
        """Return the samples of a batch; torch's loader calls this.

        With the pipeline of the configs (crop, flips, transpose, packing) the batch is read at
        once, which is bit-identical.
        """
        sample_indices = [index for index in indices if isinstance(index, SampleIndex)]
        if self.augmentation is None or len(sample_indices) < len(indices):
            return [self[index] for index in indices]
        lr, gt, names = read_batch(self.pairs, sample_indices, self.augmentation)
        metainfo = [_metainfo(one, self.scale) for one in names]
        return PairBatch(torch.from_numpy(lr), torch.from_numpy(gt), metainfo)


@DATASETS.register_module()
class BenchmarkDataset(Dataset[Any]):
    """Test set by name, in the folder layouts of BasicSR, MMagic and DIV2K.

    Args:
        name: `Set5`, `Set14`, `B100`, `Urban100`, `DIV2K`, or any folder under `data_root`.
        scale: GT size over LR size.
        pipeline: Transforms of a sample.
        data_root: Folder of all data; the default is `$SRGAN_DATA` or `data`.

    Raises:
        MissingFileError: The set does not exist; the message has the paths of all layouts.
        UserError: `pipeline` is no list of dicts.
    """

    def __init__(
        self,
        name: str,
        scale: int = 4,
        pipeline: Sequence[Config] = (),
        data_root: str = "",
    ) -> None:
        self.benchmark = find_benchmark(name, Path(data_root or default_data_root()), scale)
        self.scale = scale
        self.pipeline = _pipeline(pipeline)
        self.metainfo = {
            "dataset_name": name,
            "lr_origin": self.benchmark.lr_origin,
            "missing_images": self.benchmark.missing_images,
            "changed_by": ", ".join(_changes(pipeline)),
        }

    def __len__(self) -> int:
        return len(self.benchmark.pairs)

    def __getitem__(self, index: int) -> Any:
        sample = _sample(self.benchmark.pairs[index], self.scale)
        # Transforms with random numbers do the same to an image in every validation.
        return self.pipeline({**sample, "sample_index": SampleIndex(index, 0, index)})
