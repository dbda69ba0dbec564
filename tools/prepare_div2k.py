#!/usr/bin/env python
"""Prepare DIV2K for training from its official archives or folders.

python tools/prepare_div2k.py --download
"""

import argparse
from pathlib import Path

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.parser import Parser
from srgan_plugin.cli.progress import progress_bar

EPILOG = """\
Reads DIV2K_train_HR.zip, DIV2K_train_LR_bicubic_X4.zip etc., or the folders in
them, in the folder DIV2K of the data root, and writes one of these layouts:

  store      train/GT.lmdb and train/LRx4.lmdb, uncompressed: the fastest to
             train from
  subimages  480x480 sub-images in DIV2K_train_HR_sub and
             DIV2K_train_LR_bicubic/X4_sub, and their annotation file
             meta_info_DIV2K800sub_GT.txt, as published
  whole      only the annotation file meta_info_DIV2K800_GT.txt, after checking
             every image

Complete files are not written again; run it again after an interruption.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(
        description=(__doc__ or "").splitlines()[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-root", help="default: $SRGAN_DATA, or data")
    parser.add_argument(
        "--scale", type=int, nargs="+", default=[4], help="2, 3, 4 or several; default: 4"
    )
    parser.add_argument(
        "--layout", choices=("store", "subimages", "whole"), default="store", help="default: store"
    )
    parser.add_argument(
        "--merged",
        action="store_true",
        help="also cut the validation images into the same folders, with the annotation file "
        "meta_info_DIV2K100sub_GT.txt for tests in MMagic 1.x",
    )
    parser.add_argument("--download", action="store_true", help="download the necessary archives")
    parser.add_argument("--url", help="URL of a mirror of the archives (default: the official one)")
    parser.add_argument("--workers", type=int, help="processes (default: one for each processor)")
    args = parser.parse_args(argv)
    if args.workers is not None and args.workers < 1:
        parser.error(f"--workers: expected at least 1, got {args.workers}")
    if args.merged and args.layout != "subimages":
        parser.error(f"--merged: expected --layout subimages, got --layout {args.layout}")
    return args


def obtain(args: argparse.Namespace, root: Path) -> None:
    """Download and unpack archives with missing images."""
    from srgan_plugin.data.prepare.div2k import OFFICIAL_URL, archives, fetch, unpack

    for archive in archives(args.scale):
        if archive.is_unpacked(root):
            continue
        if args.download:
            with progress_bar(f"fetch {archive.name}", unit="B") as show:
                fetch(archive, root, url=args.url or OFFICIAL_URL, progress=show)
        if (root / f"{archive.name}.zip").is_file():
            with progress_bar(f"unpack {archive.name}") as show:
                unpack(archive, root, progress=show)


@command
def main(argv: list[str] | None = None) -> None:
    """Download and unpack the images, write the layout, and print its path."""
    args = parse_args(argv)

    from srgan_plugin.data.benchmark_sets import data_root
    from srgan_plugin.data.prepare.div2k import (
        TRAIN,
        VALIDATION,
        check_div2k_images,
        cut_subimages,
        find_div2k_images,
    )
    from srgan_plugin.data.prepare.stores import create_div2k_stores

    root = Path(args.data_root or data_root()) / "DIV2K"
    scales = sorted(set(args.scale))
    obtain(args, root)
    train = find_div2k_images(root, TRAIN, scales)
    # Checked before the long work.
    validation = find_div2k_images(root, VALIDATION, scales) if args.merged else []
    with progress_bar(args.layout) as show:
        if args.layout == "store":
            create_div2k_stores(train, root / "train", workers=args.workers, progress=show)
            made = str(root / "train")
        elif args.layout == "whole":
            made = str(root / "meta_info_DIV2K800_GT.txt")
            check_div2k_images(train, made, workers=args.workers, progress=show)
        else:
            name = "meta_info_DIV2K800sub_GT.txt"
            pieces = cut_subimages(train, root, name, workers=args.workers, progress=show)
            made = f"{pieces} pieces, listed in {root / name}"
    if validation:
        with progress_bar("validation") as show:
            name = "meta_info_DIV2K100sub_GT.txt"
            pieces = cut_subimages(validation, root, name, workers=args.workers, progress=show)
            made += f", and {pieces} in {root / name}"
    print(f"ready: {made}")


if __name__ == "__main__":
    main()
