"""Make training stores from HR images."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np

from srgan_plugin.data.pairs import GT_STORE, ImagePairs, lr_store_name
from srgan_plugin.errors import FileError, UserError, check_count, check_option
from srgan_plugin.io.atomic import atomic_directory
from srgan_plugin.io.lmdb_store import DATA, StoreLayout
from srgan_plugin.io.lmdb_writer import StoreWriter, encode

from .div2k import DIV2KImage, read_div2k_image
from .parallel import Progress, ordered_map

#: Key of a pair, and bytes and shape of LR and of GT.
Encoded = tuple[str, list[tuple[bytes, tuple[int, ...]]]]

_MOST_BAD = 20  # images that are reported
# Other errors of the system, such as too many open files, do not concern the image.
_BAD = (UserError, FileNotFoundError)


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
    failed: Callable[[str], object] | None = None,
) -> None:
    """Create a folder with `GT.lmdb` and `LRx4.lmdb` (for scale 4), for `ImagePairs`.

    The bytes do not depend on the number of workers. The folder appears under its name when it is
    complete.

    Args:
        hr_dir: Folder, also a nested one, or store of HR images.
        out: Folder to create.
        lr_dir: Folder or store of LR images. If None, LR is that of `hr_dir` if `create_store`
            wrote it; else the HR images are cropped to a multiple of the scale and LR is computed
            by MATLAB's bicubic (`make_lr`).
        layout: `raw`, from which crops are read without decoding, or `png`, as in BasicSR.
        scale: HR size over LR size.
        workers: Number of reading processes; 1 reads in this process, None starts one on each
            processor.
        progress: Called with the number of images done and the total.
        replace: Whether to replace an existing store once the new one is complete.
        failed: Called with the reason for each image that cannot be used, if there are several (at
            most 20 are looked for), before the error is raised.

    Raises:
        MissingFileError: A folder does not exist.
        FileError: `out` exists, and `replace` is false or `out` contains anything but this store.
        UserError: Images cannot be read, LR and HR images are not pairs, or `layout` or `scale` has
            a wrong value; nothing was written.
        OSError: The disk is full, or a file cannot be read.
    """
    check_option("layout", layout, get_args(StoreLayout))
    check_count(1, scale=scale)
    out = Path(out)
    _check_target(out, scale, replace=replace)
    pairs = ImagePairs(hr_dir, lr_dir, scale=scale)
    with (
        atomic_directory(out, replace=replace) as folder,
        StoreWriter(folder / GT_STORE, layout) as gt_store,
        StoreWriter(folder / lr_store_name(scale), layout) as lr_store,
    ):
        encode_pair = partial(_encode_pair, pairs, layout)
        count, reason = _write_pairs(
            ordered_map(encode_pair, range(len(pairs)), workers, progress), gt_store, lr_store
        )
        if reason:
            bad = [reason, *_bad_images(pairs, count + 1, workers, progress)]
            if failed is not None and len(bad) > 1:
                for line in bad:
                    failed(line)
            raise UserError(_refusal(hr_dir, bad, len(pairs), named=failed is not None))


def _check_target(out: Path, scale: int, *, replace: bool) -> None:
    """Raise `FileError` if a folder exists and is not a store that may be replaced."""
    if not out.exists():
        return
    if not (replace and (out / GT_STORE / DATA).is_file()):
        kind = "folder" if out.is_dir() else "file"
        raise FileError(
            f"{out}: expected {'a store' if replace else f'no such {kind}'}, got an existing "
            f"{kind}{' which is not a store' if replace else ''}; choose another name or remove it"
        )
    names = {GT_STORE, lr_store_name(scale)}
    if others := sorted({path.name for path in out.iterdir()} - names):
        raise FileError(
            f"{out}: expected only {' and '.join(sorted(names))}, got {others[0]} as well, which "
            "would be lost; choose another name or move it"
        )


def _write_pairs(
    encoded: Iterable[Encoded | str], gt_store: StoreWriter, lr_store: StoreWriter
) -> tuple[int, str]:
    """Write pairs until one cannot be used; return their number, and why that one cannot."""
    count = 0
    for pair in encoded:
        if isinstance(pair, str):
            return count, pair
        key, (lr, gt) = pair
        gt_store.put_encoded(key, *gt)
        lr_store.put_encoded(key, *lr)
        count += 1
    return count, ""


def _bad_images(
    pairs: ImagePairs, start: int, workers: int | None, progress: Progress | None
) -> Iterator[str]:
    """Yield the reasons why images from `start` on cannot be used, at most 19; encode nothing."""

    def show(done: int, _: int) -> None:
        if progress is not None:
            progress(start + done, len(pairs))

    check = partial(_why_bad, pairs)
    reasons = ordered_map(check, range(start, len(pairs)), workers, show)
    return islice(filter(None, reasons), _MOST_BAD - 1)


def _refusal(hr_dir: str | os.PathLike[str], bad: Sequence[str], total: int, *, named: bool) -> str:
    """Return the message on images that cannot be used; `named` if each has its own line."""
    if len(bad) == 1:
        return bad[0]
    reasons = "" if named else f" ({'; '.join(bad)})"
    more = "or more " if len(bad) == _MOST_BAD < total else ""
    return (
        f"{hr_dir}: expected images that can be used, got {len(bad)} {more}of {total} that cannot"
        f"{reasons}; nothing was written: repair or remove them"
    )


def create_div2k_stores(
    sources: Sequence[DIV2KImage],
    folder: str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Create uncompressed stores of HR images and all their LR images in one pass.

    Each store (`GT.lmdb`, `LRx2.lmdb`, …) appears when it is complete. Existing stores are skipped,
    so scales can be added later, of the same images: they are not compared.

    Args:
        sources: HR images with their LR images, each with the same scales.
        folder: Folder of the stores; created if it does not exist.
        workers: Number of reading processes; None for one on each processor.
        progress: Called with the number of HR images done and the total.

    Raises:
        UserError: `sources` is empty or has different scales, an image is damaged, or an LR image
            does not match its HR image.
        OSError: The disk is full.
    """
    if len({frozenset(source.lrs) for source in sources}) != 1:
        raise UserError("sources: expected HR images with LR images of the same scales, got others")
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


def _encode_pair(pairs: ImagePairs, layout: StoreLayout, index: int) -> Encoded | str:
    """Read and encode a pair; return the message of the error if it cannot be used."""
    try:
        key, *images = pairs[index]
        return key, [(encode(np.asarray(image), layout), image.shape) for image in images]
    except _BAD as error:
        return str(error)


def _why_bad(pairs: ImagePairs, index: int) -> str:
    """Read a pair; return why it is refused, or an empty string."""
    try:
        for image in pairs[index][1:]:
            np.asarray(image)
    except _BAD as error:
        return str(error)
    return ""
