#!/usr/bin/env python
"""Makes DIV2K ready for training, out of its official archives or folders.

python tools/prepare_div2k.py --download
"""

import argparse
from pathlib import Path

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.progress import progress_bar

EPILOG = """\
Looks in DIV2K below the data root for DIV2K_train_HR.zip, DIV2K_train_LR_bicubic_X4.zip and so on,
or for the folders in them, and makes there

  store      train/GT.lmdb and train/LRx4.lmdb, uncompressed: the fastest to train from
  subimages  480x480 pieces in DIV2K_train_HR_sub and DIV2K_train_LR_bicubic/X4_sub, and their list
             meta_info_DIV2K800sub_GT.txt, as published
  whole      only the list meta_info_DIV2K800_GT.txt, after reading and checking every image

What is there and whole already is not made again: run it again after an interruption.
"""


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data-root", help="default: $SRGAN_DATA, or data")
    parser.add_argument(
        "--scale", type=int, nargs="+", choices=(2, 3, 4), default=[4], help="default: 4"
    )
    parser.add_argument(
        "--layout", choices=("store", "subimages", "whole"), default="store", help="default: store"
    )
    parser.add_argument(
        "--merged",
        action="store_true",
        help="cut the validation images too, into the same folders, with the list "
        "meta_info_DIV2K100sub_GT.txt on which MMagic 1.x tests",
    )
    parser.add_argument(
        "--download", action="store_true", help="fetch the archives that are needed"
    )
    parser.add_argument("--url", help="a mirror of the archives (default: the official place)")
    parser.add_argument("--workers", type=int, help="processes (default: one for each processor)")
    args = parser.parse_args(argv)
    if args.workers is not None and args.workers < 1:
        parser.error("--workers must be at least 1")
    if args.merged and args.layout != "subimages":
        parser.error("--merged is about sub-images: add --layout subimages")
    return args


def obtain(args: argparse.Namespace, root: Path) -> None:
    """Download and unpack the archives whose images are missing."""
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
    """Obtain the images, prepare what was requested, and print where it is."""
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
    # Before the long work: what is missing should be said at once.
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
