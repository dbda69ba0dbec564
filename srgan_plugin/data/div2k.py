"""Where the DIV2K training set lies: the layouts that people have, the preferred one first."""

from pathlib import Path

# GT, LR, list of pictures; relative to the data root. A store is read without decoding anything.
TRAIN_LAYOUTS = (
    ("DIV2K/train_x{scale}", "", ""),
    (
        "DIV2K/DIV2K_train_HR_sub",
        "DIV2K/DIV2K_train_LR_bicubic/X{scale}_sub",
        "DIV2K/meta_info_DIV2K800sub_GT.txt",
    ),
    ("DIV2K/DIV2K_train_HR", "DIV2K/DIV2K_train_LR_bicubic/X{scale}", ""),
)


def find_div2k_train(root: str | Path, scale: int) -> tuple[str, str, str]:
    """Return GT, LR and list of the DIV2K training set under `root`; LR and list may be empty.

    An empty LR says that it is in GT's store. A list that is not there is left out: all pictures of
    the folder are used then.

    Raises:
        FileNotFoundError: None of the layouts is there; the message names them.
    """
    layouts = [tuple(part.format(scale=scale) for part in layout) for layout in TRAIN_LAYOUTS]
    for gt, lr, ann_file in layouts:
        if (Path(root) / gt).is_dir() and (Path(root) / lr).is_dir():
            listed = ann_file and (Path(root) / ann_file).is_file()
            return (
                str(Path(root) / gt),
                str(Path(root) / lr) if lr else "",
                str(Path(root) / ann_file) if listed else "",
            )
    looked = "; ".join(" + ".join(filter(None, layout[:2])) for layout in layouts)
    raise FileNotFoundError(
        f"no DIV2K training set under {Path(root).resolve()}; looked for {looked}. Put one there, "
        "set SRGAN_DATA, or name any folder of photographs by "
        "--cfg-options train_dataloader.dataset.gt=FOLDER"
    )
