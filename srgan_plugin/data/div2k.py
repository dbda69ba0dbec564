"""Where the DIV2K training set lies: the layouts that people have, the preferred one first."""

from pathlib import Path

from srgan_plugin.errors import MissingFileError, UserError

# GT, LR, list of pictures; relative to the data root. A store is read without decoding anything.
TRAIN_LAYOUTS = (
    ("DIV2K/train/GT.lmdb", "DIV2K/train/LRx{scale}.lmdb", ""),
    ("DIV2K/train_x{scale}", "", ""),
    (
        "DIV2K/DIV2K_train_HR_sub",
        "DIV2K/DIV2K_train_LR_bicubic/X{scale}_sub",
        "DIV2K/meta_info_DIV2K800sub_GT.txt",
    ),
    (
        "DIV2K/DIV2K_train_HR",
        "DIV2K/DIV2K_train_LR_bicubic/X{scale}",
        "DIV2K/meta_info_DIV2K800_GT.txt",
    ),
)
# In MMagic's merged layout the validation pictures lie among the others: without a list of the
# training pictures one would train on them.
_VALIDATION_NAMES = ("0801.png", "0801_s001.png")
_LAST_SUB = "0800_s001.png"  # of the last photograph that is trained on


def find_div2k_train(root: str | Path, scale: int) -> tuple[str, str, str]:
    """Return GT, LR and list of the DIV2K training set under `root`; LR and list may be empty.

    An empty LR says that it is in GT's store. A list that is not there is left out: all pictures of
    the folder are used then, unless the validation pictures are among them.

    Raises:
        ValueError: The validation pictures are there too, and no list tells them apart.
        FileNotFoundError: None of the layouts is there; the message names them.
    """
    layouts = [tuple(part.format(scale=scale) for part in layout) for layout in TRAIN_LAYOUTS]
    for gt, lr, ann_file in layouts:
        if (Path(root) / gt).is_dir() and (Path(root) / lr).is_dir():
            listed = ann_file and (Path(root) / ann_file).is_file()
            if not listed and any((Path(root) / gt / name).exists() for name in _VALIDATION_NAMES):
                raise UserError(
                    f"{Path(root) / gt} holds DIV2K's validation pictures too, and there is no "
                    f"{ann_file} to leave them out: tools/prepare_div2k.py makes it"
                )
            if not listed and gt.endswith("_sub") and not (Path(root) / gt / _LAST_SUB).exists():
                raise UserError(
                    f"{Path(root) / gt} holds a part of DIV2K only, without {_LAST_SUB}: run "
                    "tools/prepare_div2k.py again, or remove it"
                )
            return (
                str(Path(root) / gt),
                str(Path(root) / lr) if lr else "",
                str(Path(root) / ann_file) if listed else "",
            )
    looked = "; ".join(" + ".join(filter(None, layout[:2])) for layout in layouts)
    scales = "" if scale == 4 else f" --scale {scale}"
    raise MissingFileError(
        f"no DIV2K training set under {Path(root).resolve()}; looked for {looked}. Put one there "
        f"(tools/prepare_div2k.py --download{scales}), set SRGAN_DATA, or name any folder of "
        "photographs by --cfg-options train_dataloader.dataset.gt=FOLDER"
    )
