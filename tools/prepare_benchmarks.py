#!/usr/bin/env python
"""Make test sets in the layout GTmod12 and LRbicx4 from HR images; check existing ones.

python tools/prepare_benchmarks.py ~/Downloads/Set5 ~/Downloads/Set14 data/B100 data/Urban100
"""

import argparse
from pathlib import Path

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.parser import Parser
from srgan_plugin.cli.progress import progress_bar


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "hr_dirs",
        metavar="HR_DIR",
        nargs="+",
        help="HR images of a set, in a folder with its name (data/B100, or data/B100/HR)",
    )
    parser.add_argument("--data-root", help="default: $SRGAN_DATA, or data")
    parser.add_argument(
        "--scale", type=int, nargs="+", choices=(2, 3, 4), default=[2, 3, 4], help="default: 2 3 4"
    )
    parser.add_argument("--workers", type=int, help="processes (default: one for each processor)")
    args = parser.parse_args(argv)
    if args.workers is not None and args.workers < 1:
        parser.error(f"--workers: expected at least 1, got {args.workers}")
    return args


def dataset_name(hr_dir: Path) -> str:
    """Return the name of a set: that of its folder, or of the parent of a folder `HR`."""
    hr_dir = hr_dir.resolve()
    return hr_dir.parent.name if hr_dir.name in ("HR", "original") else hr_dir.name


@command
def main(argv: list[str] | None = None) -> None:
    """Write or check each set and print its number of images."""
    args = parse_args(argv)

    from srgan_plugin.data.benchmark_sets import data_root
    from srgan_plugin.data.prepare.benchmark_sets import prepare_test_set

    for hr_dir in map(Path, args.hr_dirs):
        name = dataset_name(hr_dir)
        out = Path(args.data_root or data_root()) / name
        with progress_bar(name) as show:
            images = prepare_test_set(
                hr_dir, out, scales=sorted(set(args.scale)), workers=args.workers, progress=show
            )
        print(f"ready: {out}, {images} images")


if __name__ == "__main__":
    main()
