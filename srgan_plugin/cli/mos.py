"""`srgan-plugin mos`: create and score a mean-opinion-score (MOS) study as in the SRGAN paper."""

import argparse
from pathlib import Path

from srgan_plugin.errors import check_at_least

from .options import check_output, named_folder, unique_folders
from .progress import progress_bar
from .terminal import write_lines

# Smallest values of options of `make`.
_MINIMA = {
    "--scale": 2,
    "--crop": 16,
    "--max-images": 1,
    "--max-mb": 0,
    "--repeats": 0,
    "--calibration-images": 0,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the `make` and `score` subcommands and their arguments."""
    commands = parser.add_subparsers(dest="mos_command", required=True)
    _add_make(commands.add_parser("make", help="write the page on which raters do the study"))
    _add_score(commands.add_parser("score", help="compute scores from the files of the raters"))


def _add_make(make: argparse.ArgumentParser) -> None:
    make.add_argument(
        "methods", nargs="+", type=named_folder, metavar="NAME=FOLDER", help="images of a method"
    )
    make.add_argument("--hr", required=True, metavar="DIR", help="folder of HR images")
    make.add_argument("--lr", metavar="DIR", help="LR images (default: MATLAB bicubic of HR)")
    make.add_argument("--out", required=True, type=Path, metavar="FILE.html", help="page to write")
    make.add_argument("--scale", type=int, default=4, help="ratio of HR to LR size (default: 4)")
    make.add_argument("--bicubic", action="store_true", help="add bicubic of LR as a method")
    make.add_argument(
        "--dataset",
        choices=("Set5", "Set14", "BSD100"),
        default="",
        help="name of the test set, for comparison with the paper's table",
    )
    make.add_argument("--crop", type=int, metavar="N", help="show the central NxN pixels only")
    make.add_argument("--max-images", type=int, metavar="N", help="use a random sample of N images")
    make.add_argument("--calibration", metavar="DIR", help="other HR images to calibrate raters")
    make.add_argument(
        "--calibration-images",
        type=int,
        default=5,
        metavar="N",
        help="number of images to calibrate raters (default: 5)",
    )
    make.add_argument(
        "--repeats", type=int, default=10, metavar="N", help="versions shown twice (default: 10)"
    )
    make.add_argument(
        "--max-mb", type=float, default=100, help="maximum page size in MB (default: 100)"
    )
    make.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")


def _add_score(score: argparse.ArgumentParser) -> None:
    score.add_argument("files", nargs="+", metavar="FILE.json", help="files from the raters")
    score.add_argument("--out", type=Path, metavar="FILE", help="also write a .html or .json")
    score.add_argument(
        "--test-over",
        choices=("raters", "images"),
        default="raters",
        help="unit of the paired tests (default: raters)",
    )
    score.add_argument(
        "--tolerance",
        type=float,
        default=1.0,
        metavar="T",
        help="a rater fails whose mean score of nearest-neighbour images is above 1+T, or of HR "
        "images below 5-T (default: 1)",
    )
    score.add_argument("--exclude-failed", action="store_true", help="exclude raters who fail")
    score.add_argument(
        "--resamples",
        type=int,
        default=10_000,
        help="bootstrap resamples, at least 100 (default: 10000)",
    )
    score.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")


def run(args: argparse.Namespace) -> None:
    """Create a study, or score it."""
    if args.mos_command == "make":
        _make(args)
    else:
        _score(args)


def _make(args: argparse.Namespace) -> None:
    """Write the page of a study."""
    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.reports.mos_page import study_page
    from srgan_plugin.reports.mos_study import StudyOptions, make_study

    for flag, minimum in _MINIMA.items():
        value = getattr(args, flag[2:].replace("-", "_"))
        if value is not None:
            check_at_least(minimum, **{flag: value})
    check_output(args.out, ".html")
    folders = unique_folders(args.methods, "NAME=FOLDER")
    options = StudyOptions(
        scale=args.scale,
        bicubic=args.bicubic,
        crop=args.crop,
        max_images=args.max_images,
        repeats=args.repeats,
        calibration_images=args.calibration_images,
        dataset=args.dataset,
        seed=args.seed,
    )
    study = make_study(args.hr, args.lr, folders, options, args.calibration)
    with progress_bar("encode") as show:
        page = study_page(study, max_mb=args.max_mb, progress=show)
    size = len(page.html.encode()) / 1e6
    counts = (
        f"study {page.study_id}: {len(study.images)} images, {len(study.methods)} versions of each "
        f"({', '.join(study.methods)}), {len(study.repeats)} shown twice; {size:.1f} MB"
    )
    write_lines([counts])
    write_text(page.html, args.out)
    write_lines([f"{args.out}: send it to the raters; each sends back a .json file"])


def _score(args: argparse.Namespace) -> None:
    """Print the scores, and write them to `--out`."""
    import json

    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.reports.mos_ratings import read_ratings
    from srgan_plugin.reports.mos_scores import score
    from srgan_plugin.reports.mos_tables import format_scores, scores_page

    if args.out:
        check_output(args.out, ".html", ".json")
    scores = score(
        read_ratings(args.files),
        test_over=args.test_over,
        tolerance=args.tolerance,
        exclude_failed=args.exclude_failed,
        resamples=args.resamples,
        seed=args.seed,
    )
    write_lines(format_scores(scores).splitlines())
    if args.out:
        is_page = args.out.suffix.lower() == ".html"
        text = scores_page(scores) if is_page else json.dumps(scores.as_json(), indent=1) + "\n"
        write_text(text, args.out)
        write_lines([f"scores: {args.out}"])
