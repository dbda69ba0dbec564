#!/usr/bin/env python
"""Make a training store from a folder of HR images.

python tools/create_store.py data/DIV2K/DIV2K_train_HR --out data/DIV2K/train_x4
"""

import argparse
from pathlib import Path

from srgan_plugin.cli.errors import command, one_line
from srgan_plugin.cli.parser import Parser
from srgan_plugin.cli.progress import progress_bar
from srgan_plugin.cli.terminal import write_note
from srgan_plugin.errors import UserError


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("hr_dir", metavar="HR_DIR", help="folder of HR images (nested or not)")
    parser.add_argument(
        "--lr",
        metavar="LR_DIR",
        help="folder of LR images (default: computed by MATLAB's bicubic)",
    )
    parser.add_argument("--out", metavar="STORE", required=True, help="folder to create")
    parser.add_argument(
        "--layout",
        choices=("raw", "png"),
        default="raw",
        help="raw: crops are copied without decoding; png: BasicSR's layout (default: raw)",
    )
    parser.add_argument("--scale", type=int, default=4, help="GT size over LR size (default: 4)")
    parser.add_argument("--workers", type=int, help="processes (default: one on each processor)")
    parser.add_argument(
        "--force", action="store_true", help="replace STORE once the new one is complete"
    )
    args = parser.parse_args(argv)
    for name in ("scale", "workers"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name}: expected at least 1, got {getattr(args, name)}")
    return args


@command
def main(argv: list[str] | None = None) -> None:
    """Create the store, showing progress."""
    args = parse_args(argv)

    from srgan_plugin.data.pairs import GT_STORE, ImageFolder, open_images
    from srgan_plugin.data.prepare.stores import create_store
    from srgan_plugin.io.image_files import skipped_files

    skipped = {
        folder: skipped_files(folder)
        for folder in filter(None, (args.hr_dir, args.lr))
        if not (Path(folder) / GT_STORE).exists() and isinstance(open_images(folder), ImageFolder)
    }
    with progress_bar("store") as show:
        create_store(
            args.hr_dir,
            args.out,
            lr_dir=args.lr,
            layout=args.layout,
            scale=args.scale,
            workers=args.workers,
            progress=show,
            replace=args.force,
            failed=lambda reason: write_note(f"error: {one_line(UserError(reason))}"),
        )
    store = open_images(Path(args.out) / GT_STORE)
    size = sum(file.stat().st_size for file in Path(args.out).rglob("*") if file.is_file())
    for folder, kinds in skipped.items():
        if kinds:
            listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            print(f"skipped in {folder}, not images by their names: {listed}")
    key = min(store.keys, key=lambda key: min(store[key].shape[:2]))
    height, width, _ = store[key].shape
    crop = min(height, width) // args.scale * args.scale
    print(
        f"{len(store.keys)} images, {size / 1e6:.0f} MB in {args.out}; the smallest is {key}, "
        f"{height}x{width}, so crops may have up to {crop} pixels (gt_patch_size)"
    )


if __name__ == "__main__":
    main()
