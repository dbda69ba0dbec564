"""Making a training store out of a folder of photographs."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .lmdb_store import Layout
from .pairs import GT_STORE, ImagePairs, Picture, lr_store_name
from .store_writer import StoreWriter, encode, whole_folder


class Encoded(NamedTuple):
    """A picture as a store holds it."""

    value: bytes
    shape: tuple[int, ...]


class EncodedPair(NamedTuple):
    """A pair as the two stores hold it."""

    key: str
    lr: Encoded
    gt: Encoded


def create_store(
    hr_dir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    lr_dir: str | os.PathLike[str] | None = None,
    layout: Layout = "raw",
    scale: int = 4,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    replace: bool = False,
) -> None:
    """Makes a folder with `GT.lmdb` and `LRx4.lmdb` (for scale 4), which `ImagePairs` opens.

    The result is the same to the byte whatever the number of workers, and appears under its name
    only when it is whole.

    Args:
        hr_dir: Photographs: a folder, also a nested one, or a store.
        out: The folder to make.
        lr_dir: Their low-resolution pictures. None: made by MATLAB's bicubic (`make_lr`) from the
            photographs cropped to a multiple of the scale, which the store then holds.
        layout: `raw`, from which crops are copied without decoding, or `png`, BasicSR's.
        scale: How many times larger the photographs are than their low-resolution pictures.
        workers: Processes that read; 1 reads in this one. None: one for each processor.
        progress: Called with the numbers of pictures done and in all.
        replace: Whether a store of that name may be there and gives way once the new one is whole.

    Raises:
        FileNotFoundError: If a folder is missing.
        FileExistsError: If `out` exists, and `replace` is not set or it is not such a store.
        ValueError: If pictures cannot be read, do not pair up or do not fit.
        OSError: If the disk is full.
    """
    out = Path(out)
    if out.exists() and not (replace and (out / GT_STORE).is_dir()):
        raise FileExistsError(
            f"{out} exists already"
            + (" and is not a store of ours" if replace else "")
            + ": choose another name or remove it"
        )
    pairs = ImagePairs(hr_dir, lr_dir, scale=scale)
    with (
        whole_folder(out, replace=replace) as folder,
        StoreWriter(folder / GT_STORE, layout) as gt_store,
        StoreWriter(folder / lr_store_name(scale), layout) as lr_store,
    ):
        encoded = _encoded_pairs(pairs, layout, workers or os.cpu_count() or 1)
        for done, (key, lr, gt) in enumerate(encoded, start=1):
            gt_store.put_encoded(key, gt.value, gt.shape)
            lr_store.put_encoded(key, lr.value, lr.shape)
            if progress is not None:
                progress(done, len(pairs))


def _encoded_pairs(pairs: ImagePairs, layout: Layout, workers: int) -> Iterator[EncodedPair]:
    """Every pair in order, read by so many processes; few at a time are in memory."""
    workers = min(workers, len(pairs))
    if workers == 1:
        yield from (_encoded_pair(pairs, layout, index) for index in range(len(pairs)))
        return
    # Spawned, because a fork of a process with threads may hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (pairs, layout))
    jobs = (pool.submit(_work, index) for index in range(len(pairs)))
    waiting: deque[Future[EncodedPair]] = deque(islice(jobs, 2 * workers))
    try:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(islice(jobs, 1))
    except BrokenProcessPool:
        raise OSError("a reading process died, perhaps of memory: use fewer workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _encoded_pair(pairs: ImagePairs, layout: Layout, index: int) -> EncodedPair:
    key, lr, gt = pairs[index]
    return EncodedPair(key, _encoded(lr, layout), _encoded(gt, layout))


def _encoded(picture: Picture, layout: Layout) -> Encoded:
    return Encoded(encode(np.asarray(picture), layout), picture.shape)


_worker: Callable[[int], EncodedPair]


def _start_worker(pairs: ImagePairs, layout: Layout) -> None:
    """Sends what all jobs of a process share once, not with each of them."""
    global _worker  # noqa: PLW0603 - of a process that does nothing else
    _worker = partial(_encoded_pair, pairs, layout)


def _work(index: int) -> EncodedPair:
    return _worker(index)
