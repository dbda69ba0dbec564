"""Training data that lives on the device: a loader with the face of torch's `DataLoader`."""

import logging
import os
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import torch
from torch.utils.data import BatchSampler, DataLoader

from srgan_plugin.data.gpu_dataset import GPUImagePairs, SampleStreamSpec, pixel_bytes
from srgan_plugin.errors import check_option

from .collate import stack_pairs, stacked_pairs
from .paired_datasets import PairedImageDataset
from .sampler import StreamSampler

logger = logging.getLogger(__name__)

Mode = Literal["auto"] | bool

# Of the free memory, what `auto` gives to the data; the rest is for the training step.
SHARE = 0.5


class GPUDataLoader:
    """Yields what a `DataLoader` with `stack_pairs` yields, bit for bit, on the device.

    Args:
        dataset: Of the usual pipeline: `dataset.augmentation` is not None.
        sampler: Numbers the samples; where it starts is read when the iteration begins.
        batch_size: Samples in a batch, of this rank.
        device: Where the images live.

    Raises:
        ValueError: If an image cannot be read, or is smaller than the crop.
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
            sampler.seed, sampler.shuffle, sampler.start, sampler.rank, sampler.world_size
        )
        for lr, gt, indices in self.images.batches(stream, self.batch_size):
            yield stacked_pairs(lr, gt, [keys[index] for index in indices])

    def __len__(self) -> int:
        return len(self.batch_sampler)


def cache_on_gpu(
    dataloader: DataLoader[Any], device: torch.device, mode: Mode = "auto"
) -> DataLoader[Any] | GPUDataLoader:
    """Move the training set to the device where that is possible and wanted, and log it.

    Args:
        dataloader: As the config has it.
        device: Of the training step.
        mode: `"auto"`: on a GPU, where the set takes at most half of the free memory. True: where
            it fits at all. False: never.

    Returns:
        A loader of the same batches: `dataloader` itself, or one whose batches are on the device.

    Raises:
        ValueError: If `mode` is something else.
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
            logger.info("the training set (%d pairs) lives on %s", len(dataset), device)  # type: ignore[arg-type]
            return loader
    say = logger.info if mode == "auto" else logger.warning
    say("the training set stays on the host: %s", reason)
    return dataloader


def _why_not_cached(dataloader: DataLoader[Any], device: torch.device, share: float) -> str | None:
    """Why the set cannot live on the device."""
    dataset, collate = dataloader.dataset, dataloader.collate_fn
    if isinstance(collate, partial):  # mmengine's registry gives one
        collate = collate.func
    if not isinstance(dataset, PairedImageDataset) or dataset.augmentation is None:
        return "its pipeline is not PairedRandomCrop, Flip, RandomTransposeHW, PackInputs"
    if not isinstance(dataloader.sampler, StreamSampler) or collate is not stack_pairs:
        return "its loader is not of StreamSampler and stack_pairs"
    needed = pixel_bytes(dataset.pairs)
    if needed is None:
        return "it is a folder; tools/create_store.py makes a store of it"
    free = _free_memory(device)
    if needed > share * free:
        return (
            f"it takes {needed / 2**30:.1f} GiB, and of the {free / 2**30:.1f} GiB that are free "
            f"on {device} it may take {share:.0%}"
        )
    return None


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"  # macOS
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
