"""Pairs of low-resolution and GT images, from folders, stores or photographs alone."""

import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.io.image_files import list_images
from srgan_plugin.io.images import Image, read_image, read_source_image
from srgan_plugin.io.lazy_image import CroppedImage, DecodedImage, LazyImage
from srgan_plugin.io.lmdb_store import ImageStore
from srgan_plugin.io.text_files import read_text

from .resize import DownscaledImage

GT_STORE: Final = "GT.lmdb"
_SIZE: Final = re.compile(r" \(\d+, ?\d+(, ?\d+)?\)(\s.*)?$")  # (h,w,c) in a list of images


class ImageSource(Protocol):
    """Images by key: a folder or a store."""

    @property
    def path(self) -> Path:
        """Where they lie."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys, sorted."""

    def __getitem__(self, key: str, /) -> LazyImage:
        """Return the image of a key as a lazy image."""


class ImageFolder:
    """The images of a folder; for keys and errors see `list_images`.

    The first time that a process reads a JPEG file, it looks whether all pixels are in it, as it
    compares the checksum of an image in a store. That decodes the file three times.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._files = list_images(path)
        self._read_before: set[str] = set()

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys, sorted."""
        return tuple(self._files)

    def __getitem__(self, key: str) -> LazyImage:
        """Return the image of a key as a lazy image."""
        return DecodedImage(str(self._files[key]), partial(self._read, key))

    def _read(self, key: str) -> Image:
        if key in self._read_before:
            return read_image(self._files[key])
        image = read_source_image(self._files[key])
        self._read_before.add(key)
        return image


class Pair(NamedTuple):
    """One LR image and its ground truth, `scale` times as large."""

    key: str
    lr: LazyImage
    gt: LazyImage


def open_images(path: str | os.PathLike[str]) -> ImageSource:
    """Open a folder of images, or an LMDB store, whichever `path` is.

    Raises:
        FileNotFoundError: If `path` does not exist.
        ValueError: If it holds no images.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"expected a folder or store of images, but {path} does not exist")
    if path.suffix == ".lmdb" or (path / "data.mdb").exists():
        return ImageStore(path)
    return ImageFolder(path)


class ImagePairs:
    """Pairs of images, sorted by key; cheap to send to worker processes.

    Args:
        gt: Folder or store of ground truth, or what `create_store` makes (`GT.lmdb` and
            `LRx4.lmdb` in one folder), which gives both.
        lr: Folder or store of LR images, called like the ground truth or like
            DIV2K's (`0801x4` for `0801`). None: they are made by MATLAB's bicubic, as far as their
            pixels are asked for, from the ground truth cropped to a multiple of the scale.
        scale: How many times larger the ground truth is.
        ann_file: A text file that chooses the images: a name per line; a size behind it, and what
            follows that, is ignored (`0001_s001.png (480,480,3)`, as MMagic and BasicSR have it).
        crop_gt: Whether ground truth is cropped to a multiple of the scale also where `lr` is
            given, as BasicSR does in validation.
        crop_multiple: Where it is cropped, its sizes are multiples of this number, too.
        nested: Whether images in folders below `gt` are used.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If the images do not pair up.
    """

    def __init__(
        self,
        gt: str | os.PathLike[str],
        lr: str | os.PathLike[str] | None = None,
        *,
        scale: int = 4,
        ann_file: str | os.PathLike[str] | None = None,
        crop_gt: bool = False,
        crop_multiple: int = 1,
        nested: bool = True,
    ) -> None:
        if lr is None and (Path(gt) / GT_STORE).exists():
            gt, lr = Path(gt) / GT_STORE, _lr_store(Path(gt), scale)
        self.scale, self.crop_gt = scale, crop_gt
        self.crop_multiple = math.lcm(crop_multiple, scale)
        self.gt = open_images(gt)
        self.lr = None if lr is None else open_images(lr)
        self.keys = self.gt.keys if ann_file is None else _chosen(Path(ann_file), self.gt)
        self.keys = self._lr_keys = tuple(key for key in self.keys if nested or "/" not in key)
        if self.lr is not None:
            self._lr_keys = _partners(self.keys, self.gt, self.lr, scale, whole=ann_file is None)
        sources = (self.gt, self.lr or self.gt)
        #: Whether all shapes are known without decoding an image, as those in stores are.
        self.shapes_known = all(isinstance(source, ImageStore) for source in sources)
        if self.shapes_known and self.lr is not None:
            for pair in self:
                check_sizes(pair.gt, pair.lr, scale)

    @property
    def lr_origin(self) -> str:
        """Where the LR images come from, in words."""
        return "MATLAB bicubic of GT" if self.lr is None else "given"

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Pair]:
        return map(self._pair, range(len(self)))

    def __getitem__(self, index: int) -> Pair:
        """Return the pair at an index, its images read lazily where their format allows it.

        Raises:
            ValueError: If an image cannot be read, or the sizes do not fit.
        """
        pair = self._pair(index)
        if self.lr is not None and not self.shapes_known:
            check_sizes(pair.gt, pair.lr, self.scale)
        return pair

    def _pair(self, index: int) -> Pair:
        key = self.keys[index]
        gt = self.gt[key]
        if self.crop_gt or self.lr is None:
            gt = CroppedImage(gt, self.crop_multiple)
        if self.lr is not None:
            return Pair(key, self.lr[self._lr_keys[index]], gt)
        return Pair(key, DownscaledImage(gt, self.scale), gt)


def check_sizes(gt: LazyImage, lr: LazyImage, scale: int) -> None:
    """Refuses an LR image that is not exactly `scale` times smaller.

    Raises:
        ValueError: With both names and sizes.
    """
    (gt_height, gt_width, _), (lr_height, lr_width, _) = gt.shape, lr.shape
    if (gt_height, gt_width) != (scale * lr_height, scale * lr_width):
        raise UserError(
            f"{gt.name} is {gt_height}x{gt_width}, which is not {scale} times the "
            f"{lr_height}x{lr_width} of {lr.name}: remake the LR or change the scale"
        )


def lr_store_name(scale: int) -> str:
    """Return the name that `create_store` gives the LR store of a scale."""
    return f"LRx{scale}.lmdb"


def _lr_store(folder: Path, scale: int) -> Path:
    wanted = folder / lr_store_name(scale)
    if not wanted.exists():
        others = ", ".join(path.name for path in sorted(folder.glob("LRx*.lmdb"))) or "none"
        raise UserError(
            f"{folder} has no {wanted.name} (low-resolution stores there: {others}): change the "
            f"scale, or give {folder / GT_STORE} to have the LR made on the fly"
        )
    return wanted


def _chosen(ann_file: Path, gt: ImageSource) -> tuple[str, ...]:
    """Return the keys in an annotation file, sorted."""
    if not ann_file.is_file():
        raise MissingFileError(f"expected a list of images, but {ann_file} does not exist")
    lines = read_text(ann_file, "a list of images").splitlines()
    # A name may have spaces and brackets of its own: `photo (1).png`.
    names = (_SIZE.sub("", line).strip() for line in lines)
    keys = tuple(sorted({Path(name).with_suffix("").as_posix() for name in names if name}))
    missing = sorted(set(keys) - set(gt.keys))
    if missing or not keys:
        raise UserError(
            f"{ann_file} names {_some(missing) if missing else 'no images'}, "
            f"but {gt.path} does not hold that: correct the list or the folder"
        )
    return keys


def _partners(
    keys: tuple[str, ...], gt: ImageSource, lr: ImageSource, scale: int, *, whole: bool
) -> tuple[str, ...]:
    """Return the LR key of each GT key; `whole`: no LR key may be left over."""
    partners = _match(keys, set(lr.keys), scale)
    alone = [key for key in keys if key not in partners]
    left_over = sorted(set(lr.keys) - set(partners.values())) if whole else []
    if alone or left_over:
        complaints = (
            f"{_some(names)} of {there.path} {'has' if len(names) == 1 else 'have'} "
            f"no counterpart in {elsewhere.path}"
            for names, there, elsewhere in ((alone, gt, lr), (left_over, lr, gt))
            if names
        )
        raise UserError(f"LR and GT do not pair up: {'; '.join(complaints)}")
    return tuple(partners[key] for key in keys)


def _match(keys: Iterable[str], lr_keys: set[str], scale: int) -> Mapping[str, str]:
    named = ((key, (key, f"{key}x{scale}")) for key in keys)
    return {
        key: next(name for name in names if name in lr_keys)
        for key, names in named
        if not lr_keys.isdisjoint(names)
    }


def _some(names: list[str]) -> str:
    """Format the first names of a list and the number of the others."""
    shown = ", ".join(itertools.islice(names, 3))
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
