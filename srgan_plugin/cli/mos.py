"""`srgan-plugin mos`: a study of opinions as in the SRGAN paper, made and scored."""

import argparse
from pathlib import Path
from typing import Any

from srgan_plugin.errors import UserError, check_at_least

from .progress import progress_bar
from .terminal import write_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two commands and what they take."""
    commands = parser.add_subparsers(dest="mos_command", required=True)
    make = commands.add_parser("make", help="write the page on which raters do the study")
    make.add_argument(
        "methods", nargs="+", type=_named_folder, metavar="NAME=FOLDER", help="images of a method"
    )
    make.add_argument("--hr", required=True, metavar="DIR", help="folder of HR images")
    make.add_argument("--lr", metavar="DIR", help="LR images (default: MATLAB bicubic of HR)")
    make.add_argument("--out", required=True, type=Path, metavar="FILE.html")
    make.add_argument(
        "--scale", type=int, default=4, help="HR is so many times larger (default: 4)"
    )
    make.add_argument("--bicubic", action="store_true", help="rate bicubic of LR, too")
    make.add_argument(
        "--dataset",
        choices=("Set5", "Set14", "BSD100"),
        default="",
        help="the set that HR is, to compare with the paper",
    )
    make.add_argument("--crop", type=int, metavar="N", help="show the central NxN pixels only")
    make.add_argument("--max-images", type=int, metavar="N", help="draw N images of more")
    make.add_argument("--calibration", metavar="DIR", help="other HR images to calibrate raters on")
    make.add_argument("--calibration-images", type=int, default=5, metavar="N")
    make.add_argument(
        "--repeats", type=int, default=10, metavar="N", help="versions shown twice (default: 10)"
    )
    make.add_argument("--max-mb", type=float, default=100, help="largest page (default: 100)")
    make.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")

    score = commands.add_parser("score", help="mean opinion scores from the raters' files")
    score.add_argument("files", nargs="+", metavar="FILE.json", help="what raters saved")
    score.add_argument("--out", type=Path, metavar="FILE", help="write a .html or .json, too")
    score.add_argument("--test-over", choices=("raters", "images"), default="raters")
    score.add_argument(
        "--tolerance",
        type=float,
        default=1.0,
        metavar="T",
        help="a rater fails whose mean of nearest is above 1+T, or of HR below 5-T (default: 1)",
    )
    score.add_argument("--exclude-failed", action="store_true", help="leave those raters out")
    score.add_argument("--resamples", type=int, default=10_000, help="of the bootstrap")
    score.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")


def run(args: argparse.Namespace) -> None:
    """Make a study, or score it."""
    _make(args) if args.mos_command == "make" else _score(args)


def _named_folder(text: str) -> tuple[str, str]:
    name, sign, folder = text.partition("=")
    if not sign or not name or not folder:
        raise argparse.ArgumentTypeError(
            f"expected NAME=FOLDER such as SRGAN=out/srgan, got {text}"
        )
    return name, folder


def _make(args: argparse.Namespace) -> None:
    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.reports.mos_page import study_page
    from srgan_plugin.reports.mos_study import StudyOptions, make_study

    minima: dict[str, Any] = {"--scale": 2, "--crop": 16, "--max-images": 1, "--max-mb": 0}
    minima |= {"--repeats": 0, "--calibration-images": 0}
    for flag, least in minima.items():
        value = getattr(args, flag[2:].replace("-", "_"))
        if value is not None:
            check_at_least(least, **{flag: value})
    if args.out.suffix.lower() != ".html":
        raise UserError(f"--out: expected a name that ends in .html, got {args.out}")
    folders = dict(args.methods)
    if len(folders) < len(args.methods):
        raise UserError("NAME=FOLDER: expected a name for each method, got the same name twice")
    options = StudyOptions(**{name: getattr(args, name) for name in StudyOptions._fields})
    study = make_study(args.hr, args.lr, folders, options, args.calibration)
    with progress_bar("encode") as show:
        made = study_page(study, max_mb=args.max_mb, progress=show)
    size = len(made.html.encode()) / 1e6
    counts = (
        f"study {made.study_id}: {len(study.images)} images, {len(study.methods)} versions of each "
        f"({', '.join(study.methods)}), {len(study.repeats)} shown twice; {size:.1f} MB"
    )
    write_lines([counts])
    write_text(made.html, args.out)
    write_lines([f"{args.out}: send it to the raters; each sends back a .json file"])


def _score(args: argparse.Namespace) -> None:
    import json

    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.reports.mos_ratings import read_ratings
    from srgan_plugin.reports.mos_scores import score
    from srgan_plugin.reports.mos_tables import format_scores, scores_page

    suffix = args.out.suffix.lower() if args.out else None
    if suffix not in (None, ".html", ".json"):
        raise UserError(f"--out: expected a name that ends in .html or .json, got {args.out}")
    options = ("test_over", "tolerance", "exclude_failed", "resamples", "seed")
    scores = score(read_ratings(args.files), **{name: getattr(args, name) for name in options})
    write_lines(format_scores(scores).splitlines())
    if suffix == ".html":
        write_text(scores_page(scores), args.out)
    elif suffix == ".json":
        write_text(json.dumps(scores.as_json(), indent=1) + "\n", args.out)
    if suffix:
        write_lines([f"scores: {args.out}"])
