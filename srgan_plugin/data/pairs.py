"""Pairs of LR and GT images from folders or stores; LR can be computed from GT."""

import math
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.io.array_types import RGBArray
from srgan_plugin.io.image_files import list_images
from srgan_plugin.io.images import read_image, read_source_image
from srgan_plugin.io.lazy_image import CroppedImage, DecodedImage, LazyImage
from srgan_plugin.io.lmdb_store import ImageStore
from srgan_plugin.io.text_files import read_text

from .resize import DownscaledImage

GT_STORE: Final = "GT.lmdb"
_SIZE: Final = re.compile(r" \(\d+, ?\d+(, ?\d+)?\)(\s.*)?$")  # (h,w,c) in an annotation file


class ImageSource(Protocol):
    """Images by key: a folder or a store."""

    @property
    def path(self) -> Path:
        """Path of the folder or store."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys, sorted."""

    def __getitem__(self, key: str, /) -> LazyImage:
        """Return the image of a key as a lazy image.

        Raises:
            KeyError: The key is unknown.
        """


class ImageFolder:
    """The images of a folder; for keys and errors see `list_images`.

    When a process first reads a JPEG file, it checks that the file is not truncated, as it checks
    the checksum of an image in a store. This decodes the file three times.
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

    def _read(self, key: str) -> RGBArray:
        if key in self._read_before:
            return read_image(self._files[key])
        image = read_source_image(self._files[key])
        self._read_before.add(key)
        return image


class Pair(NamedTuple):
    """LR image and GT image, `scale` times as large."""

    key: str
    lr: LazyImage
    gt: LazyImage


def open_images(path: str | os.PathLike[str]) -> ImageSource:
    """Open a folder of images or an LMDB store.

    Raises:
        MissingFileError: `path` does not exist.
        UserError: `path` contains no images.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"{path}: expected a folder or store of images, got no such path")
    if path.suffix == ".lmdb" or (path / "data.mdb").exists():
        return ImageStore(path)
    return ImageFolder(path)


class ImagePairs:
    """Pairs of images, sorted by key; cheap to send to worker processes.

    Args:
        gt: Folder or store of GT images, or a folder written by `create_store` (`GT.lmdb` and
            `LRx4.lmdb`), which contains both.
        lr: Folder or store of LR images, with the names of the GT images or those of DIV2K
            (`0801x4` for `0801`). If None, LR windows are computed by MATLAB's bicubic when they
            are read, from GT cropped to a multiple of the scale.
        scale: GT size over LR size.
        ann_file: Text file that selects images, one name in a line. A size after the name, and
            anything after that, is ignored (`0001_s001.png (480,480,3)`, as in MMagic and BasicSR).
            Suffixes may be omitted.
        crop_gt: Whether to crop GT to a multiple of the scale even if `lr` is given, as BasicSR
            does in validation.
        crop_multiple: Number of which height and width of cropped GT are multiples, besides the
            scale. Unused if GT is not cropped: with `lr`, unless `crop_gt`.
        nested: Whether to use images in folders below `gt` and `lr`, whose keys contain a slash.

    Raises:
        MissingFileError: A path does not exist.
        UserError: An image of one side has no counterpart, or their sizes do not match; a folder
            has no images, or no LR store of this scale; `ann_file` has no names, or unknown ones.
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
        self.keys = self.gt.keys if ann_file is None else _read_keys(Path(ann_file), self.gt)
        self.keys = self._lr_keys = _direct(self.keys, nested=nested)
        if not self.keys:
            raise UserError(f"{self.gt.path}: expected images directly inside, got folders only")
        if self.lr is not None:
            every = ann_file is None
            self._lr_keys = _partners(
                self.keys, self.gt, self.lr, scale, nested=nested, all_lr=every
            )
        sources = (self.gt, self.lr or self.gt)
        #: Whether shapes are available without decoding, as they are in stores.
        self.shapes_known = all(isinstance(source, ImageStore) for source in sources)
        if self.shapes_known and self.lr is not None:
            for pair in self:
                check_sizes(pair.gt, pair.lr, scale)

    @property
    def lr_origin(self) -> str:
        """Description of the origin of the LR images."""
        return "MATLAB bicubic of GT" if self.lr is None else "given"

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Pair]:
        return map(self._pair, range(len(self)))

    def __getitem__(self, index: int) -> Pair:
        """Return the pair at an index, as lazy images.

        Raises:
            UserError: An image cannot be read, or the sizes do not match.
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
    """Raise `UserError` unless GT is exactly `scale` times as large as LR.

    Args:
        gt: GT image.
        lr: LR image.
        scale: GT size over LR size.

    Raises:
        UserError: The sizes do not match; the message has both names and sizes.
    """
    (gt_height, gt_width, _), (lr_height, lr_width, _) = gt.shape, lr.shape
    if (gt_height, gt_width) != (scale * lr_height, scale * lr_width):
        raise UserError(
            f"{gt.name}: expected {scale} times the {lr_height}x{lr_width} of {lr.name}, got "
            f"{gt_height}x{gt_width} (height x width); {size_advice(lr_height, gt_height)}"
        )


def size_advice(lr_height: int, gt_height: int) -> str:
    """Return what to do about a pair whose sizes do not match."""
    if gt_height < lr_height:
        return "LR and GT may be swapped"
    return "remake the LR or change the scale"


def lr_store_name(scale: int | str) -> str:
    """Return the file name of an LR store of `create_store`; for the scale `"*"`, a glob."""
    return f"LRx{scale}.lmdb"


def _lr_store(folder: Path, scale: int) -> Path:
    path = folder / lr_store_name(scale)
    if not path.exists():
        others = ", ".join(path.name for path in sorted(folder.glob(lr_store_name("*")))) or "none"
        raise UserError(
            f"{folder}: expected {path.name}, got these LR stores: {others}; change the scale, or "
            f"set gt to {folder / GT_STORE} to compute LR on the fly"
        )
    return path


def _read_keys(ann_file: Path, gt: ImageSource) -> tuple[str, ...]:
    """Return the keys in an annotation file, sorted."""
    if not ann_file.is_file():
        raise MissingFileError(f"{ann_file}: expected a list of images, got no such file")
    lines = read_text(ann_file, "a list of images").splitlines()
    # Names may contain spaces and brackets: `photo (1).png`.
    names = (_SIZE.sub("", line).strip() for line in lines)
    known = set(gt.keys)
    # A name without its suffix may contain a dot, which does not begin a suffix: `a.b`.
    stems = (name if name in known else Path(name).with_suffix("") for name in names if name)
    keys = tuple(sorted({Path(stem).as_posix() for stem in stems}))
    missing = sorted(set(keys) - known)
    if missing or not keys:
        raise UserError(
            f"{ann_file}: expected names of images in {gt.path}, got "
            f"{_some(missing) if missing else 'none'}; correct the list or the folder"
        )
    return keys


def _direct(keys: tuple[str, ...], *, nested: bool) -> tuple[str, ...]:
    """Return the keys, without those in subfolders unless `nested`."""
    return tuple(key for key in keys if nested or "/" not in key)


def _partners(
    keys: tuple[str, ...],
    gt: ImageSource,
    lr: ImageSource,
    scale: int,
    *,
    nested: bool,
    all_lr: bool,
) -> tuple[str, ...]:
    """Return the LR key of each GT key; with `all_lr`, every LR image must have a GT image."""
    lr_keys = set(_direct(lr.keys, nested=nested))
    # A name as that of GT comes last, because it takes precedence.
    partners = {key: name for key in keys for name in (f"{key}x{scale}", key) if name in lr_keys}
    gt_only = [key for key in keys if key not in partners]
    lr_only = sorted(lr_keys - set(partners.values())) if all_lr else []
    if gt_only or lr_only:
        differences = (
            f"{_some(names)} of {source.path} that are not in {other.path}"
            for names, source, other in ((gt_only, gt, lr), (lr_only, lr, gt))
            if names
        )
        raise UserError(f"images: expected pairs of LR and GT, got {' and '.join(differences)}")
    return tuple(partners[key] for key in keys)


def _some(names: list[str]) -> str:
    """Format the first names of a list and the number of others."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
