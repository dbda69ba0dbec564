"""DataLoader-compatible loader over a training set in GPU memory."""

import logging
import os
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import torch
from torch.utils.data import BatchSampler, DataLoader

from srgan_plugin.data.gpu_dataset import GPUImagePairs, SampleStreamSpec, pixel_bytes
from srgan_plugin.errors import check_option

from .collate import make_batch, stack_pairs
from .paired_datasets import PairedImageDataset
from .sampler import StreamSampler

logger = logging.getLogger(__name__)

Mode = Literal["auto"] | bool

# Share of the free memory that `auto` uses for the data; the rest is for the training step.
SHARE = 0.5


class GPUDataLoader:
    """Loader with bit-identical batches to a `DataLoader` with `stack_pairs`, but on the device.

    Args:
        dataset: Dataset with the default pipeline, so `dataset.augmentation` is not None.
        sampler: Sampler; its `start` is read when the iteration begins.
        batch_size: Samples in a batch of this rank.
        device: Device to keep the images on.

    Raises:
        UserError: An image cannot be read, or is smaller than the crop.
    """

    num_workers = 0
    collate_fn = staticmethod(stack_pairs)

    def __init__(
        self,
        dataset: PairedImageDataset,
        sampler: StreamSampler,
        batch_size: int,
        device: torch.device,
    ) -> None:
        assert dataset.augmentation is not None
        self.dataset, self.sampler, self.batch_size = dataset, sampler, batch_size
        self.batch_sampler = BatchSampler(sampler, batch_size, drop_last=False)
        self.images = GPUImagePairs(dataset.pairs, dataset.augmentation, device)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        sampler, keys = self.sampler, self.dataset.pairs.keys
        stream = SampleStreamSpec(
            seed=sampler.seed,
            shuffle=sampler.shuffle,
            start=sampler.start,
            rank=sampler.rank,
            world_size=sampler.world_size,
        )
        for lr, gt, indices in self.images.batches(stream, self.batch_size):
            yield make_batch(lr, gt, [keys[index] for index in indices])

    def __len__(self) -> int:
        return len(self.batch_sampler)


def cache_on_gpu(
    dataloader: DataLoader[Any], device: torch.device, mode: Mode = "auto"
) -> DataLoader[Any] | GPUDataLoader:
    """Copy the training set to the device if possible, and log the decision.

    Args:
        dataloader: Loader of the config.
        device: Device of the training step.
        mode: `"auto"` copies to a GPU if the set takes at most half of the free memory, True copies
            if the set fits, False does not.

    Returns:
        A `GPUDataLoader` with the same batches, or `dataloader`.

    Raises:
        UserError: `mode` has another value.
    """
    check_option("cache_dataset_on_gpu", mode, ("auto", True, False))
    if mode is False or (mode == "auto" and device.type != "cuda"):
        return dataloader
    reason = _why_not_cached(dataloader, device, SHARE if mode == "auto" else 1.0)
    if reason is None:
        dataset = dataloader.dataset
        try:
            loader = GPUDataLoader(dataset, dataloader.sampler, dataloader.batch_size, device)  # type: ignore[arg-type]
        except torch.OutOfMemoryError:
            reason = "the device ran out of memory"
        else:
            logger.info("training set (%d pairs) cached on %s", len(dataset), device)  # type: ignore[arg-type]
            return loader
    log = logger.info if mode == "auto" else logger.warning
    log("training set not cached on the device: %s", reason)
    return dataloader


def _why_not_cached(dataloader: DataLoader[Any], device: torch.device, share: float) -> str | None:
    """Return why the training set cannot be cached on the device, or None."""
    dataset, collate = dataloader.dataset, dataloader.collate_fn
    if isinstance(collate, partial):  # returned by mmengine's registry
        collate = collate.func
    if not isinstance(dataset, PairedImageDataset) or dataset.augmentation is None:
        return "its pipeline is not PairedRandomCrop, Flip, RandomTransposeHW, PackInputs"
    if not isinstance(dataloader.sampler, StreamSampler) or collate is not stack_pairs:
        return "its loader does not use StreamSampler and stack_pairs"
    needed = pixel_bytes(dataset.pairs)
    if needed is None:
        return "it is a folder; tools/create_store.py FOLDER --out STORE converts it to a store"
    free = _free_memory(device)
    if needed > share * free:
        return (
            f"it needs {needed / 2**30:.1f} GiB, more than {share:.0%} of the "
            f"{free / 2**30:.1f} GiB free on {device}"
        )
    return None


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"  # macOS
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
