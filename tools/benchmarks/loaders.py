"""Training loaders of this package and of the toolboxes: crop 128, batch 16, shuffled."""

import importlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from srgan_plugin.data.pairs import ImagePairs
from srgan_plugin.data.sampling import random_window, sample_index
from srgan_plugin.io.lmdb_store import map_pixels

from .files import GT_SUB, LIST, LR_SUB, SCALE, BenchmarkFiles
from .timing import Measurement, time_batches

Against = Literal["mmagic", "basicsr", "copy"]

CROP = 128
BATCH = 16
# BasicSR's configs make epochs this much longer, because starting one takes time.
ENLARGE_RATIO = 100


def plugin_loader(files: BenchmarkFiles, device: torch.device, workers: int) -> Any:
    """Return the published config's loader over the uncompressed store, cached on a GPU if any.

    Args:
        files: Images and stores of the benchmark.
        device: Device of the training.
        workers: Number of worker processes.
    """
    from srgan_plugin.hosts.mmengine.datasets.gpu_loader import cache_on_gpu

    loader = _build("srgan_plugin", {**plugin_loader_config(files, workers), "pin_memory": False})
    return cache_on_gpu(loader, device, "auto")


def plugin_loader_config(files: BenchmarkFiles, workers: int) -> dict[str, Any]:
    """Return `train_dataloader` of the published MSRResNet config, for these files."""
    cfg = plugin_config("msrresnet").train_dataloader
    cfg.dataset.update(gt=str(files.store), lr="")
    cfg.update(num_workers=workers, persistent_workers=workers > 0, batch_size=BATCH)
    return dict(cfg)


def plugin_config(model: str) -> Any:
    """Return the published config of `msrresnet` or `srgan`."""
    from mmengine.config import Config

    import srgan_plugin
    import srgan_plugin.hosts.mmengine

    return Config.fromfile(srgan_plugin.config_path(f"{model}_x4c64b16_g1_1000k_div2k.py"))


def mmagic_config(model: str) -> Any:
    """Return MMagic's published config of `msrresnet` or `srgan`."""
    from mmengine.config import Config

    importlib.import_module("srgan_plugin.hosts.mmagic")
    mmagic = importlib.import_module("mmagic")
    configs = Path(str(mmagic.__file__)).parent / ".mim" / "configs" / "srgan_resnet"
    return Config.fromfile(configs / f"{model}_x4c64b16_1xb16-1000k_div2k.py")


def mmagic_loader_config(files: BenchmarkFiles, workers: int) -> dict[str, Any]:
    """Return `train_dataloader` of MMagic's MSRResNet config, for these files."""
    cfg = mmagic_config("msrresnet").train_dataloader
    cfg.dataset.update(
        data_root=str(files.div2k), ann_file=LIST, data_prefix={"img": LR_SUB, "gt": GT_SUB}
    )
    cfg.update(num_workers=workers, batch_size=BATCH)
    return dict(cfg)


def mmagic_loader(files: BenchmarkFiles, workers: int) -> DataLoader[Any]:
    """Return MMagic's loader over 480x480 PNG sub-images."""
    return _build("mmagic", mmagic_loader_config(files, workers))


def _build(scope: str, cfg: dict[str, Any]) -> DataLoader[Any]:
    from mmengine.registry import DefaultScope
    from mmengine.runner import Runner

    with DefaultScope.overwrite_default_scope(scope):
        loader: DataLoader[Any] = Runner.build_dataloader(cfg, seed=0)
    return loader


def basicsr_loader(files: BenchmarkFiles, workers: int) -> DataLoader[Any]:
    """Return BasicSR's loader over sub-images in LMDB."""
    importlib.import_module("srgan_plugin.hosts.basicsr")
    data = importlib.import_module("basicsr.data")
    sampler = importlib.import_module("basicsr.data.data_sampler").EnlargedSampler
    options = {
        "name": "benchmark",
        "type": "PairedImageDataset",
        "phase": "train",
        "scale": SCALE,
        "dataroot_gt": str(files.lmdb / "GT.lmdb"),
        "dataroot_lq": str(files.lmdb / f"LRx{SCALE}.lmdb"),
        "io_backend": {"type": "lmdb"},
        "gt_size": CROP,
        "use_hflip": True,
        "use_rot": True,
        "num_worker_per_gpu": workers,
        "batch_size_per_gpu": BATCH,
    }
    dataset = data.build_dataset(options)
    loader: DataLoader[Any] = data.build_dataloader(
        dataset, options, num_gpu=0, sampler=sampler(dataset, 1, 0, ENLARGE_RATIO), seed=0
    )
    return loader


def copy_crops(files: BenchmarkFiles) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches of our loader's crops, copied and nothing else: the least that reading takes.

    The stream chooses them before the clock starts, 4096 batches, which are repeated.
    """
    pairs, size = ImagePairs(files.store, scale=SCALE), CROP // SCALE
    windows = []
    for number in range(4096 * BATCH):
        sample = sample_index(number, seed=0, length=len(pairs))
        pair = pairs[sample]
        lr, gt = (np.asarray(map_pixels(image)) for image in (pair.lr, pair.gt))
        height, width, _ = lr.shape
        windows.append((lr, gt, *random_window(sample, height, width, size)))
    while True:
        for start in range(0, len(windows), BATCH):
            small = np.empty((BATCH, size, size, 3), np.uint8)
            large = np.empty((BATCH, CROP, CROP, 3), np.uint8)
            for n, (lr, gt, top, left) in enumerate(windows[start : start + BATCH]):
                small[n] = lr[top : top + size, left : left + size]
                y, x = top * SCALE, left * SCALE
                large[n] = gt[y : y + CROP, x : x + CROP]
            yield {"lr": torch.from_numpy(small), "gt": torch.from_numpy(large)}


def loader_sides(
    files: BenchmarkFiles,
    against: Against | None,
    *,
    device: torch.device,
    workers: int,
    seconds: float,
) -> dict[str, Callable[[], Measurement]]:
    """Return the sides for `interleave`: each takes batches for `seconds`, with one thread.

    Each side has one process, in which its loader stays warm from round to round.

    Args:
        files: Training images in the layout of each side.
        against: The other side, or None.
        device: Device of the batches.
        workers: Reading processes of each side.
        seconds: Duration of a round.
    """

    def side(name: str) -> Callable[[], Measurement]:
        process = ProcessPoolExecutor(1, get_context("spawn"))
        work = partial(_take, name, files, device, workers, seconds)
        return lambda: process.submit(work).result()

    return {name: side(name) for name in ("srgan_plugin", against) if name}


# The loader of this process, once it is built.
_streams: dict[str, Iterator[Any]] = {}


def _take(
    name: str, files: BenchmarkFiles, device: torch.device, workers: int, seconds: float
) -> Measurement:
    if name not in _streams:
        torch.set_num_threads(1)  # as in a worker of a training
        cv2.setNumThreads(0)
        endless = name == "copy"
        loader = copy_crops(files) if endless else _loader(name, files, device, workers)
        _streams[name] = loader if endless else _endless(loader)
        time_batches(_streams[name], seconds, device)
    for _ in range(2 * workers):  # batches that were prefetched while the other side was timed
        next(_streams[name])
    return time_batches(_streams[name], seconds, device)


def _loader(name: str, files: BenchmarkFiles, device: torch.device, workers: int) -> Any:
    if name == "srgan_plugin":
        return plugin_loader(files, device, workers)
    return {"mmagic": mmagic_loader, "basicsr": basicsr_loader}[name](files, workers)


def _endless(loader: Any) -> Iterator[Any]:
    """Yield batches without end; BasicSR's sampler ends, and needs the number of the epoch."""
    for epoch in count():
        if hasattr(loader.sampler, "set_epoch"):
            loader.sampler.set_epoch(epoch)
        yield from loader
