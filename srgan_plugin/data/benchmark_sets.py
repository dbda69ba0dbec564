"""Find benchmark sets, and DIV2K for training, in common folder layouts."""

import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from srgan_plugin.data.prepare.benchmark_sets import MULTIPLE
from srgan_plugin.errors import MissingFileError, PluginWarning, UserError
from srgan_plugin.io.image_files import SUFFIXES

from .pairs import ImagePairs

#: Number of images of the published sets.
SIZES = {"Set5": 5, "Set14": 14, "B100": 100, "Urban100": 100, "DIV2K": 100, "Kodak24": 24}


@dataclass(frozen=True)
class Benchmark:
    """A benchmark set on the disk.

    Attributes:
        name: Name in tables, such as "B100", also for a folder with another name.
        pairs: The images, read when used.
        lr_origin: Description of the origin of the LR images.
    """

    name: str
    pairs: ImagePairs
    lr_origin: str

    @property
    def missing_images(self) -> str:
        """Number of existing images of a known set, such as "4 of 5 images"; empty if complete."""
        return missing_images(self.name, len(self.pairs))


class IncompleteSetError(MissingFileError):
    """Error for a set whose folder exists and has no images, or none in the layout of the set."""


def missing_images(name: str, count: int) -> str:
    """Return the number of existing images, such as "4 of 5 images"; empty for a complete set."""
    size = SIZES.get(_known(name)[0], count)
    return "" if count == size else f"{count} of {size} images"


class DatasetLayout(NamedTuple):
    """Paths of a set relative to the data root, with `{name}` and `{scale}` to fill in."""

    gt: str
    lr: str = ""
    ann_file: str = ""


# In the order of preference; the last one is a folder of HR images.
_USUAL = (
    DatasetLayout("{name}/GTmod12", "{name}/LRbicx{scale}"),
    DatasetLayout("{name}/GTmod12"),
    DatasetLayout("{name}/HR"),
    DatasetLayout("{name}"),
)
_DIV2K = tuple(
    layout
    for folder in ("DIV2K/", "")
    for layout in (
        DatasetLayout(f"{folder}DIV2K_valid_HR", folder + "DIV2K_valid_LR_bicubic/X{scale}"),
        DatasetLayout(f"{folder}DIV2K_valid_HR"),
    )
)
_DIV2K_SUB = tuple(
    DatasetLayout(
        f"{folder}DIV2K_train_HR_sub",
        folder + "DIV2K_train_LR_bicubic/X{scale}_sub",
        f"{folder}meta_info_DIV2K100sub_GT.txt",
    )
    for folder in ("DIV2K/", "")
)
_SPECIAL = {"DIV2K": _DIV2K, "DIV2Ksub": _DIV2K_SUB}
# Names of folders by set; the first is the name in tables.
_FOLDERS = (
    ("Set5",),
    ("Set14",),
    ("B100", "BSD100", "BSDS100"),
    ("Urban100",),
    ("DIV2K",),
    ("DIV2Ksub",),
)

# The training set; stores come first because they are read without decoding.
_DIV2K_TRAIN = (
    DatasetLayout("DIV2K/train/GT.lmdb", "DIV2K/train/LRx{scale}.lmdb"),
    DatasetLayout("DIV2K/train_x{scale}"),
    DatasetLayout(
        "DIV2K/DIV2K_train_HR_sub",
        "DIV2K/DIV2K_train_LR_bicubic/X{scale}_sub",
        "DIV2K/meta_info_DIV2K800sub_GT.txt",
    ),
    DatasetLayout(
        "DIV2K/DIV2K_train_HR",
        "DIV2K/DIV2K_train_LR_bicubic/X{scale}",
        "DIV2K/meta_info_DIV2K800_GT.txt",
    ),
)
# MMagic's merged layout also contains the validation images; without a list of the training images
# they would be trained on.
_VALIDATION_NAMES = ("0801.png", "0801_s001.png")
_LAST_SUB = "0800_s001.png"  # first sub-image of the last training image


def data_root() -> Path:
    """Return the folder of all data: `$SRGAN_DATA`, or `data` in the working directory."""
    return Path(os.environ.get("SRGAN_DATA") or "data")


def find_benchmark(name: str, root: str | os.PathLike[str], scale: int = 4) -> Benchmark:
    """Find a test set in any of the known folder layouts.

    Existing LR images are used as they are. If there are none, GT is cropped to multiples of 12
    and LR computed by MATLAB's bicubic in floating point, rounded once.

    Args:
        name: "Set5", "Set14", "B100" (or "BSD100", "BSDS100"), "Urban100", "DIV2K" (the 100
            validation images), "DIV2Ksub" (their 480x480 sub-images in a merged training folder,
            as MMagic 1.x evaluates), or any folder of images in `root`.
        root: Folder of all data.
        scale: GT size over LR size.

    Returns:
        The pairs of LR and GT images, with the name of the set and the origin of the LR images.

    Raises:
        IncompleteSetError: A folder of the set exists without all that its layout needs.
        MissingFileError: The set does not exist in any layout; the messages have the paths.
        UserError: LR and GT images are not pairs.
    """
    name, folders = _known(name)
    layouts = list(_layouts(name, folders, Path(root), scale))
    for gt, lr, ann_file in layouts:
        if all(_is_usable(path) for path in (gt, lr, ann_file) if path):
            # Without LR, folders below are skipped: they may contain LR images of another layout.
            pairs = ImagePairs(
                gt, lr, scale=scale, ann_file=ann_file, crop_multiple=MULTIPLE, nested=bool(lr)
            )
            cropped = "" if lr else f" cropped to mod {MULTIPLE}"
            return Benchmark(name, pairs, pairs.lr_origin + cropped)
    looked_for = ", ".join(" + ".join(str(path) for path in row if path) for row in layouts)
    for row in layouts:
        if row[0].is_dir():
            path = next(path for path in row if path and not _is_usable(path))
            got = "a folder without images directly inside" if path.is_dir() else "no such path"
            raise IncompleteSetError(
                f"test set {name} (x{scale}): expected its images at {path}, got {got}; put them "
                f"there, or use one of these layouts: {looked_for}"
            )
    raise MissingFileError(
        f"test set {name} (x{scale}): expected one of {looked_for}, got none of them; put it into "
        "one of these folders or set SRGAN_DATA to the folder of all data"
    )


def warn_of_validation_images(pairs: ImagePairs) -> None:
    """Warn of a training set that contains the validation images of DIV2K.

    Their sub-images are together with those for training in the folders and LMDB files that the
    scripts of MMagic 1.x make, which name those for training in an annotation file.
    """
    keys = set(pairs.keys)
    for name in _VALIDATION_NAMES:
        key = Path(name).stem
        if {key, key.replace("0801", "0001")} <= keys and len(keys) == sum(map(_is_of_div2k, keys)):
            warnings.warn(
                f"gt: expected training images, got those of DIV2K's validation set too, such as "
                f"{key} of {pairs.gt.path}; set ann_file to meta_info_DIV2K800sub_GT.txt",
                PluginWarning,
                stacklevel=3,
            )


def _is_of_div2k(key: str) -> bool:
    """Return whether a key is one of DIV2K's 900 images or of their sub-images."""
    found = re.fullmatch(r"(\d{4})(_s\d{3})?", key)
    return found is not None and 1 <= int(found[1]) <= 900


def find_div2k_train(root: str | Path, scale: int) -> tuple[str, str, str]:
    """Find the DIV2K training set under `root`.

    Returns:
        Paths of GT, LR and annotation file. LR is empty if it is in the store of GT; the annotation
        file is empty if it is missing, then all images are used.

    Raises:
        UserError: The folder contains the validation images but no annotation file, or only a
            part of the training set.
        MissingFileError: No layout exists; the message has their paths.
    """
    layouts = [tuple(part.format(scale=scale) for part in layout) for layout in _DIV2K_TRAIN]
    for gt, lr, ann_file in layouts:
        if (Path(root) / gt).is_dir() and (Path(root) / lr).is_dir():
            listed = ann_file and (Path(root) / ann_file).is_file()
            layout = "subimages" if gt.endswith("_sub") else "whole"
            if not listed and any((Path(root) / gt / name).exists() for name in _VALIDATION_NAMES):
                raise UserError(
                    f"{Path(root) / gt}: expected {ann_file}, because the folder contains the "
                    "validation images too, got no such file; run tools/prepare_div2k.py "
                    f"--layout {layout}"
                )
            if not listed and gt.endswith("_sub") and not (Path(root) / gt / _LAST_SUB).exists():
                raise UserError(
                    f"{Path(root) / gt}: expected all of DIV2K, got a part without {_LAST_SUB}; "
                    f"run tools/prepare_div2k.py --layout {layout} again, or remove the folder"
                )
            return (
                str(Path(root) / gt),
                str(Path(root) / lr) if lr else "",
                str(Path(root) / ann_file) if listed else "",
            )
    looked = "; ".join(" + ".join(filter(None, layout[:2])) for layout in layouts)
    scales = "" if scale == 4 else f" --scale {scale}"
    raise MissingFileError(
        f"{Path(root).resolve()}: expected a DIV2K training set ({looked}), got none; get it by "
        f"tools/prepare_div2k.py --download{scales}, set SRGAN_DATA, or use any folder of images "
        "by --cfg-options train_dataloader.dataset.gt=FOLDER"
    )


def _known(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the set's name in tables, and its possible folder names."""
    for folders in _FOLDERS:
        if name.lower() in map(str.lower, folders):
            return folders[0], folders
    return name, (name,)


def _layouts(
    name: str, folders: tuple[str, ...], root: Path, scale: int
) -> Iterator[tuple[Path, Path | None, Path | None]]:
    for folder in folders:
        for layout in _SPECIAL.get(name, _USUAL):
            gt, *rest = (part.format(name=folder, scale=scale) for part in layout)
            lr, ann_file = (root / part if part else None for part in rest)
            yield root / gt, lr, ann_file


def _is_usable(path: Path) -> bool:
    """Return whether the path is a file, or a folder with images directly inside."""
    if not path.is_dir():
        return path.is_file()
    return any(entry.suffix.lower() in SUFFIXES for entry in path.iterdir())
