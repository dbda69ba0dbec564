"""Files that both sides read: a store of images, and sub-images in the layouts of the toolboxes."""

from pathlib import Path
from typing import Final

from srgan_plugin.data.pairs import ImagePairs, open_images
from srgan_plugin.data.prepare.div2k import CROP, crop_offsets
from srgan_plugin.data.prepare.stores import create_store
from srgan_plugin.errors import UserError
from srgan_plugin.io.atomic import write_text
from srgan_plugin.io.writers import write_image

SCALE: Final = 4
# Names of the training set in MMagic, relative to `DIV2K`.
GT_SUB: Final = "DIV2K_train_HR_sub"
LR_SUB: Final = "DIV2K_train_LR_bicubic/X4_sub"
LIST: Final = "meta_info_DIV2K800sub_GT.txt"


class BenchmarkFiles:
    """The same images in the layout of each side, created if they do not exist.

    Args:
        source: Folder or store of images.
        folder: Folder to write to.
        photographs: Number of images to use, evenly spaced in the source.

    Raises:
        MissingFileError: The source does not exist.
        UserError: No image is as large as a sub-image.
    """

    def __init__(self, source: Path, folder: Path, photographs: int) -> None:
        self.folder = folder
        #: For this package: an uncompressed store of complete images and their LR.
        self.store = folder / "store"
        #: For MMagic, `data_root`: 480x480 PNG sub-images, their LR, and the annotation file.
        self.div2k = folder / "DIV2K"
        #: For BasicSR: the sub-images in LMDB, encoded.
        self.lmdb = folder / "lmdb"
        if not self.store.exists():
            _copy_photographs(source, folder / "HR", photographs)
            create_store(folder / "HR", self.store, layout="raw")
        if not (self.div2k / LIST).exists():
            _cut(self.store, self.div2k)
        if not self.lmdb.exists():
            create_store(self.div2k / GT_SUB, self.lmdb, lr_dir=self.div2k / LR_SUB, layout="png")


def _copy_photographs(source: Path, folder: Path, photographs: int) -> None:
    images = open_images(source)
    large = [key for key in images.keys if min(images[key].shape[:2]) >= CROP]
    if not large:
        raise UserError(
            f"{source}: expected images of at least {CROP}x{CROP}, got none; use another folder"
        )
    for key in large[:: max(len(large) // photographs, 1)][:photographs]:
        write_image(folder / f"{key.replace('/', '_')}.png", images[key][:, :])


def _cut(store: Path, root: Path) -> None:
    names = []
    for key, lr, gt in ImagePairs(store, scale=SCALE):
        # Sub-images overlap less than the published ones.
        windows = [
            (top, left)
            for top in crop_offsets(gt.shape[0], step=CROP)
            for left in crop_offsets(gt.shape[1], step=CROP)
        ]
        for number, (top, left) in enumerate(windows, start=1):
            names.append(f"{key}_s{number:03d}.png")
            for image, where, by in ((gt, GT_SUB, 1), (lr, LR_SUB, SCALE)):
                rows = slice(top // by, (top + CROP) // by)
                columns = slice(left // by, (left + CROP) // by)
                write_image(root / where / names[-1], image[rows, columns])
    write_text("".join(f"{name} ({CROP},{CROP},3)\n" for name in names), root / LIST)
