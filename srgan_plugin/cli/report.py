"""`srgan-plugin report` and `srgan-plugin compare`: pages in one file that need no network."""

import argparse
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srgan_plugin.errors import MissingFileError, UserError, check_option

from .errors import report_failure
from .options import add_arch_option, add_upscale_options
from .progress import progress_bar

if TYPE_CHECKING:
    from srgan_plugin.reports.gallery import Gallery
    from srgan_plugin.reports.run_page import Base
    from srgan_plugin.reports.runs import Run


_MODELS = "bicubic,msrresnet,srgan"


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `report` takes."""
    parser.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="WORK_DIR",
        help="folders of runs, or logs of them, overlaid",
    )
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE.html")
    parser.add_argument(
        "--images",
        nargs="+",
        default=[],
        type=_named_folder,
        metavar="NAME=FOLDER",
        help="images of a method, such as what tools/test.py --save-images wrote; LR and HR are "
        "the names of those",
    )
    parser.add_argument(
        "--results",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE.json",
        help="what tools/test.py --out wrote; such files in a WORK_DIR are found",
    )
    parser.add_argument(
        "--base",
        metavar="CONFIG",
        help="config to compare with (default: the one of this package of the same name)",
    )
    parser.add_argument(
        "--reference",
        nargs="+",
        default=[],
        metavar="[RUN=]MODEL",
        help="published model to compare with, of all runs or of one (default: config's)",
    )
    parser.add_argument("--title", help="default: the runs' names")
    _add_quality(parser)


def _add_quality(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quality",
        type=_quality,
        metavar="auto|1…100",
        help="of the images in the page, as WebP, 100 is lossless (default: auto, lossless where "
        "all images fit into 2 MB)",
    )


def run_report(args: argparse.Namespace) -> None:
    """Write the page."""
    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.metrics.reference_results import MODELS
    from srgan_plugin.reports.run_page import run_page
    from srgan_plugin.reports.runs import read_results, read_run

    _check_suffix(args.out, ".html")
    reference = {text.rpartition("=")[0]: text.rpartition("=")[2] for text in args.reference}
    for model in reference.values():
        check_option("--reference", model, MODELS)
    if not (args.runs or args.images or args.results):
        raise UserError("expected WORK_DIR, --images or --results, got none of them")
    runs = [read_run(folder) for folder in args.runs]
    title = args.title or ", ".join(dict.fromkeys(run.name for run in runs)) or "Images"
    images = _folder_images(args) if args.images else None
    page = run_page(
        runs,
        title=title,
        base=_base(args.base, runs),
        results={path.stem: read_results(path) for path in args.results},
        reference=reference,
        images=images,
    )
    write_text(page, args.out)
    if images:
        _warn(images)
    _say(args.out)


def _warn(images: dict[str, Any]) -> None:
    for text in images["warnings"]:
        sys.stderr.write(f"WARNING: {text}\n")


def _folder_images(args: argparse.Namespace) -> dict[str, Any]:
    from srgan_plugin.reports.gallery import gallery_of_folders, viewer_data

    folders = _unique(args.images, "--images")
    with progress_bar("images") as show:
        return viewer_data(gallery_of_folders(folders), quality=args.quality, progress=show)


def _base(given: str | None, runs: Sequence["Run"]) -> "Base | None":
    """Return the config to compare with: the given one, or this package's of the runs' name."""
    from srgan_plugin import config_path
    from srgan_plugin.reports.mmengine_runs import literal_config
    from srgan_plugin.reports.run_page import Base
    from srgan_plugin.reports.runs import flatten

    names = {run.config_name for run in runs}
    if not given and (len(names) != 1 or not (name := names.pop()).endswith(".py")):
        return None
    try:
        path = Path(given) if given else Path(config_path(name))
    except FileNotFoundError:
        return None
    if not path.is_file():
        raise MissingFileError(f"{path}: expected a config, got no such file")
    from mmengine.config import Config

    text = Config.fromfile(path).pretty_text
    return Base(path.name, flatten(literal_config(text, path)))


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `compare` takes."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="IMAGE|NAME=FOLDER",
        help='images to upscale, folders, or "patterns/*.png"; with a NAME, images of a method, '
        "shown as they are (LR and HR are the names of those)",
    )
    parser.add_argument(
        "--models",
        metavar="NAME,…",
        help="bicubic, msrresnet, srgan, or checkpoint files (default: bicubic,msrresnet,srgan)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("comparison.html"),
        metavar="FILE",
        help="a page (.html) or a sheet side by side (.png)",
    )
    parser.add_argument(
        "--hr", type=Path, metavar="FOLDER", help="HR images of the same names, to measure against"
    )
    parser.add_argument(
        "--crop",
        type=int,
        metavar="N",
        help="upscale only the NxN pixels of the most detail of each image",
    )
    add_upscale_options(parser)
    add_arch_option(parser)
    parser.add_argument("--title", default="Comparison")
    _add_quality(parser)


def run_compare(args: argparse.Namespace) -> None:
    """Upscale by each model, and write the page or the sheet."""
    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.io.writers import write_image
    from srgan_plugin.reports.comparison import comparison_sheet
    from srgan_plugin.reports.gallery import gallery_of_folders, viewer_data
    from srgan_plugin.reports.run_page import run_page

    _check_suffix(args.out, ".html", ".png")
    failures: list[Path] = []
    folders = _folders_of_methods(args)
    gallery = gallery_of_folders(folders) if folders else _upscaled(args, failures)
    if args.out.suffix.lower() == ".png":
        write_image(args.out, comparison_sheet(gallery))
    else:
        with progress_bar("images") as show:
            images = viewer_data(gallery, quality=args.quality, progress=show)
        _warn(images)
        write_text(run_page((), title=args.title, images=images), args.out)
    _say(args.out)
    if failures:
        raise SystemExit(1)


def _upscaled(args: argparse.Namespace, failures: list[Path]) -> "Gallery":
    """Upscale the inputs; those that cannot be compared are reported and added to `failures`."""
    from srgan_plugin.reports.comparison import CompareOptions, upscaled_gallery

    def failed(path: Path, error: Exception) -> None:
        failures.append(path)
        report_failure(path, error)

    options = CompareOptions(
        hr=args.hr,
        crop=args.crop,
        scale=args.scale,
        tta=args.tta,
        device=args.device,
        arch_options=dict(args.arch_options),
    )
    names = _MODELS if args.models is None else args.models
    models = [name for name in names.split(",") if name]
    with progress_bar("upscale") as show:
        return upscaled_gallery(
            args.inputs, models, args.out, options, progress=show, failed=failed
        )


def _folders_of_methods(args: argparse.Namespace) -> dict[str, Path]:
    """Return the folders of `compare NAME=FOLDER …`; none where images are to be upscaled."""
    from srgan_plugin.reports.gallery import HR

    named = [text for text in args.inputs if "=" in text and not Path(text).exists()]
    if not named:
        _refuse_outputs([Path(text) for text in args.inputs if Path(text).is_dir()])
        return {}
    if len(named) < len(args.inputs):
        other = next(text for text in args.inputs if text not in named)
        raise UserError(f"{other}: expected NAME=FOLDER as {named[0]} is, got no NAME")
    if any((args.models, args.crop, args.scale, args.tta, args.arch_options)):
        raise UserError(
            "NAME=FOLDER: expected no --models, --crop, --scale, --tta or --arch-option, got one; "
            "these images are shown as they are"
        )
    pairs = [_named_folder(text) for text in named] + ([(HR, args.hr)] if args.hr else [])
    return _unique(pairs, "NAME=FOLDER")


def _refuse_outputs(folders: Sequence[Path]) -> None:
    """Refuse folders with versions of the same images, which are to be shown, not upscaled.

    Raises:
        UserError: Two folders have images of the same names.
    """
    from srgan_plugin.reports.image_names import match_names

    for one, other in combinations(folders, 2):
        try:
            found = match_names({str(path): path for path in (one, other)})
        except UserError:
            continue
        if set.intersection(*map(set, found.values())):
            names = f"{one.name}={one} {other.name}={other}"
            raise UserError(
                f"{one} and {other}: expected images to upscale, got two versions of the same; to "
                f"show them as they are: compare {names}"
            )


def _unique(pairs: Sequence[tuple[str, Path]], what: str) -> dict[str, Path]:
    folders = dict(pairs)
    if len(folders) < len(pairs):
        raise UserError(f"{what}: expected another NAME for each folder, got one twice")
    return folders


def _say(path: Path) -> None:
    sys.stdout.write(f"{path}: {path.stat().st_size / 1e6:.2f} MB\n")


def _check_suffix(path: Path, *suffixes: str) -> None:
    if path.suffix.lower() not in suffixes:
        raise UserError(f"--out: expected a name ending in {' or '.join(suffixes)}, got {path}")


def _named_folder(text: str) -> tuple[str, Path]:
    name, sign, folder = text.partition("=")
    if not (name and sign and folder):
        raise argparse.ArgumentTypeError(f"expected NAME=FOLDER, got {text}")
    return name, Path(folder)


def _quality(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"expected auto or 1 to 100, got {text}")
    return int(text)
