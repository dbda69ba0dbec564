"""`srgan-plugin mos`: create and score a study of opinions (MOS) as in the SRGAN paper."""

import argparse
from pathlib import Path

from srgan_plugin.errors import UserError, check_at_least

from .options import check_suffix, named_folder
from .progress import progress_bar
from .terminal import write_lines

_MINIMA = {
    "--scale": 2,
    "--crop": 16,
    "--max-images": 1,
    "--max-mb": 0,
    "--repeats": 0,
    "--calibration-images": 0,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands `make` and `score`, and their arguments."""
    commands = parser.add_subparsers(dest="mos_command", required=True)
    _add_make(commands.add_parser("make", help="write the page on which raters do the study"))
    _add_score(commands.add_parser("score", help="mean opinion scores from the raters' files"))


def _add_make(make: argparse.ArgumentParser) -> None:
    make.add_argument(
        "methods", nargs="+", type=named_folder, metavar="NAME=FOLDER", help="images of a method"
    )
    make.add_argument("--hr", required=True, metavar="DIR", help="folder of HR images")
    make.add_argument("--lr", metavar="DIR", help="LR images (default: MATLAB bicubic of HR)")
    make.add_argument("--out", required=True, type=Path, metavar="FILE.html")
    make.add_argument(
        "--scale", type=int, default=4, help="size of HR divided by that of LR (default: 4)"
    )
    make.add_argument("--bicubic", action="store_true", help="add bicubic of LR as a method")
    make.add_argument(
        "--dataset",
        choices=("Set5", "Set14", "BSD100"),
        default="",
        help="name of the HR images, to compare with the paper",
    )
    make.add_argument("--crop", type=int, metavar="N", help="show the central NxN pixels only")
    make.add_argument("--max-images", type=int, metavar="N", help="use N images, drawn at random")
    make.add_argument("--calibration", metavar="DIR", help="other HR images to calibrate raters")
    make.add_argument("--calibration-images", type=int, default=5, metavar="N")
    make.add_argument(
        "--repeats", type=int, default=10, metavar="N", help="versions shown twice (default: 10)"
    )
    make.add_argument("--max-mb", type=float, default=100, help="largest page (default: 100)")
    make.add_argument("--seed", type=int, default=0, help="seed of all draws (default: 0)")


def _add_score(score: argparse.ArgumentParser) -> None:
    score.add_argument("files", nargs="+", metavar="FILE.json", help="what raters saved")
    score.add_argument("--out", type=Path, metavar="FILE", help="also write a .html or .json")
    score.add_argument("--test-over", choices=("raters", "images"), default="raters")
    score.add_argument(
        "--tolerance",
        type=float,
        default=1.0,
        metavar="T",
        help="a rater fails with a mean of nearest above 1+T, or of HR below 5-T (default: 1)",
    )
    score.add_argument("--exclude-failed", action="store_true", help="exclude those raters")
    score.add_argument(
        "--resamples", type=int, default=10_000, help="bootstrap resamples (default: 10000)"
    )
    score.add_argument("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")


def run(args: argparse.Namespace) -> None:
    """Create a study, or score it."""
    _make(args) if args.mos_command == "make" else _score(args)


def _make(args: argparse.Namespace) -> None:
    """Write the page of a study."""
    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.reports.mos_page import study_page
    from srgan_plugin.reports.mos_study import StudyOptions, make_study

    for flag, minimum in _MINIMA.items():
        value = getattr(args, flag[2:].replace("-", "_"))
        if value is not None:
            check_at_least(minimum, **{flag: value})
    check_suffix(args.out, ".html")
    folders = dict(args.methods)
    if len(folders) < len(args.methods):
        raise UserError("NAME=FOLDER: expected a name for each method, got the same name twice")
    options = StudyOptions(**{name: getattr(args, name) for name in StudyOptions._fields})
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
        check_suffix(args.out, ".html", ".json")
    options = ("test_over", "tolerance", "exclude_failed", "resamples", "seed")
    scores = score(read_ratings(args.files), **{name: getattr(args, name) for name in options})
    write_lines(format_scores(scores).splitlines())
    if args.out:
        is_page = args.out.suffix.lower() == ".html"
        text = scores_page(scores) if is_page else json.dumps(scores.as_json(), indent=1) + "\n"
        write_text(text, args.out)
        write_lines([f"scores: {args.out}"])
