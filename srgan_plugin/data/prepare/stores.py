"""Making training stores out of photographs."""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from srgan_plugin.data.pairs import GT_STORE, ImagePairs, lr_store_name
from srgan_plugin.errors import FileError
from srgan_plugin.io.atomic import atomic_directory
from srgan_plugin.io.lmdb_store import StoreLayout
from srgan_plugin.io.lmdb_writer import StoreWriter, encode

from .div2k import DIV2KImage, read_div2k_image
from .parallel import Progress, ordered_map


def create_store(
    hr_dir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    lr_dir: str | os.PathLike[str] | None = None,
    layout: StoreLayout = "raw",
    scale: int = 4,
    workers: int | None = None,
    progress: Progress | None = None,
    replace: bool = False,
) -> None:
    """Create a folder with `GT.lmdb` and `LRx4.lmdb` (for scale 4), as `ImagePairs` opens it.

    The result is the same to the byte whatever the number of workers, and appears under its name
    only when it is whole.

    Args:
        hr_dir: Photographs: a folder, also a nested one, or a store.
        out: The folder to make.
        lr_dir: Their LR images. None: made by MATLAB's bicubic (`make_lr`) from the
            photographs cropped to a multiple of the scale, which the store then holds.
        layout: `raw`, from which crops are copied without decoding, or `png`, BasicSR's.
        scale: How many times larger the photographs are than their LR images.
        workers: Processes that read; 1 reads in this one. None: one for each processor.
        progress: Called with the numbers of images done and in all.
        replace: Whether a store of that name may be there and gives way once the new one is whole.

    Raises:
        FileNotFoundError: If a folder is missing.
        FileError: If `out` exists, and `replace` is not set or it is not such a store, or
            holds more than one.
        ValueError: If images cannot be read, do not pair up or do not fit.
        OSError: If the disk is full.
    """
    out = Path(out)
    if out.exists() and not (replace and (out / GT_STORE).is_dir()):
        raise FileError(
            f"{out} exists already"
            + (" and is not a store of ours" if replace else "")
            + ": choose another name or remove it"
        )
    ours = {GT_STORE, lr_store_name(scale)}
    if others := sorted({path.name for path in out.iterdir()} - ours) if out.exists() else []:
        raise FileError(
            f"{out} holds {others[0]} as well, which would be lost: choose another name, or move it"
        )
    pairs = ImagePairs(hr_dir, lr_dir, scale=scale)
    with (
        atomic_directory(out, replace=replace) as folder,
        StoreWriter(folder / GT_STORE, layout) as gt_store,
        StoreWriter(folder / lr_store_name(scale), layout) as lr_store,
    ):
        encode_pair = partial(_encode_pair, pairs, layout)
        for key, (lr, gt) in ordered_map(encode_pair, range(len(pairs)), workers, progress):
            gt_store.put_encoded(key, *gt)
            lr_store.put_encoded(key, *lr)


def create_div2k_stores(
    sources: Sequence[DIV2KImage],
    folder: str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Create uncompressed stores of HR images and all their LR images in one pass.

    Each store, `GT.lmdb`, `LRx2.lmdb` and so on, appears only when it is whole, and one that is
    there already is left alone: scales can be added later and share the photographs.

    Args:
        sources: The photographs, with the same scales each.
        folder: Where the stores go; made where it is missing.
        workers: Processes that read. None: one for each processor.
        progress: Called with the numbers of photographs done and in all.

    Raises:
        ValueError: If an image is broken or does not fit its photograph.
        OSError: If the disk is full.
    """
    folder = Path(folder)
    stores = {scale: folder / lr_store_name(scale) for scale in sources[0].lrs}
    stores[1] = folder / GT_STORE
    missing = {scale: path for scale, path in stores.items() if not path.exists()}
    if not missing:
        return
    with ExitStack() as writing:
        writers = {
            scale: writing.enter_context(StoreWriter(path, "raw"))
            for scale, path in missing.items()
        }
        images = ordered_map(read_div2k_image, sources, workers, progress)
        for source, by_scale in zip(sources, images, strict=True):
            for scale, writer in writers.items():
                writer.put(source.key, by_scale[scale])


def _encode_pair(
    pairs: ImagePairs, layout: StoreLayout, index: int
) -> tuple[str, list[tuple[bytes, tuple[int, ...]]]]:
    """Read a pair; return its key, and the stored bytes and the shape of LR and GT."""
    key, *images = pairs[index]
    return key, [(encode(np.asarray(image), layout), image.shape) for image in images]
