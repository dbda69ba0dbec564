"""`srgan-plugin report` and `srgan-plugin compare`: write pages that work without a network."""

import argparse
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srgan_plugin.errors import MissingFileError, UserError, check_at_least, check_option

from .errors import report_failure
from .options import (
    add_arch_option,
    add_upscale_options,
    check_output,
    named_folder,
    quality,
    unique_folders,
)
from .progress import progress_bar

if TYPE_CHECKING:
    from srgan_plugin.reports.gallery import Gallery
    from srgan_plugin.reports.run_page import Base
    from srgan_plugin.reports.runs import Run


_MODELS = "bicubic,msrresnet,srgan"


def add_report_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `report`."""
    parser.add_argument(
        "runs",
        nargs="*",
        type=Path,
        metavar="WORK_DIR",
        help="folders of runs, or their logs; their curves are overlaid",
    )
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE.html")
    parser.add_argument(
        "--images",
        nargs="+",
        default=[],
        type=named_folder,
        metavar="NAME=FOLDER",
        help="images of a method, such as the output of tools/test.py --save-images; name the "
        "folders of LR and HR images LR and HR",
    )
    parser.add_argument(
        "--results",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE.json",
        help="results of tools/test.py --out; files in a WORK_DIR need not be given",
    )
    parser.add_argument(
        "--base",
        metavar="CONFIG",
        help="config to compare with (default: the config of this package with the same name)",
    )
    parser.add_argument(
        "--reference",
        nargs="+",
        default=[],
        metavar="[RUN=]MODEL",
        help="published model to compare all runs or one run with (default: reference_model in "
        "the config)",
    )
    parser.add_argument("--title", help="default: names of the runs")
    _add_quality(parser)


def _add_quality(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quality",
        type=_parse_quality,
        metavar="auto|1…100",
        help="WebP quality of the images in the page; 100 is lossless (default: auto, lossless if "
        "all images fit into 2 MB)",
    )


def run_report(args: argparse.Namespace) -> None:
    """Write a page with the curves, results, images and configs of runs.

    Raises:
        UserError: An option is wrong, or a run or results file cannot be read.
    """
    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.metrics.reference_results import MODELS
    from srgan_plugin.reports.run_page import run_page
    from srgan_plugin.reports.runs import read_results, read_run

    check_output(args.out, ".html")
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
        base=_find_base(args.base, runs),
        results={path.stem: read_results(path) for path in args.results},
        reference=reference,
        images=images,
    )
    write_text(page, args.out)
    if images:
        _print_warnings(images)
    _print_size(args.out)


def _print_warnings(images: dict[str, Any]) -> None:
    for text in images["warnings"]:
        sys.stderr.write(f"WARNING: {text}\n")


def _folder_images(args: argparse.Namespace) -> dict[str, Any]:
    """Return the images of `report --images` as data for the page."""
    from srgan_plugin.reports.gallery import gallery_of_folders, viewer_data

    folders = unique_folders(args.images, "--images")
    with progress_bar("images") as show:
        return viewer_data(gallery_of_folders(folders), quality=args.quality, progress=show)


def _find_base(given: str | None, runs: Sequence["Run"]) -> "Base | None":
    """Return the config to compare the runs with.

    Args:
        given: Value of `--base`; None: the config of this package with the name of the runs'
            config, if there is one.
        runs: Runs on the page.
    """
    from srgan_plugin import config_path
    from srgan_plugin.reports.mmengine_configs import literal_config
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
    """Add the arguments of `compare`."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="IMAGE|NAME=FOLDER",
        help='images to upscale, folders, or "patterns/*.png"; with a NAME, images of a method to '
        "show as they are (name the folders of LR and HR images LR and HR)",
    )
    parser.add_argument(
        "--models",
        metavar="NAME,…",
        help="bicubic, msrresnet, srgan, photo, or checkpoint files (default: "
        "bicubic,msrresnet,srgan)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("comparison.html"),
        metavar="FILE",
        help="a page (.html), or a sheet with the images side by side (.png)",
    )
    parser.add_argument(
        "--hr", type=Path, metavar="FOLDER", help="HR images of the same names, for the metrics"
    )
    parser.add_argument(
        "--crop",
        type=int,
        metavar="N",
        help="upscale only the NxN pixels with the most detail of each image",
    )
    add_upscale_options(parser)
    add_arch_option(parser)
    parser.add_argument("--title", default="Comparison")
    _add_quality(parser)


def run_compare(args: argparse.Namespace) -> None:
    """Upscale images with each model, and write a page or a sheet that compares the results.

    Raises:
        UserError: An option is wrong, or an input cannot be read.
    """
    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.io.writers import write_image
    from srgan_plugin.reports.comparison import comparison_sheet
    from srgan_plugin.reports.gallery import gallery_of_folders, viewer_data
    from srgan_plugin.reports.run_page import run_page

    check_output(args.out, ".html", ".png")
    if args.quality is not None and args.out.suffix.lower() == ".png":
        raise UserError(
            f"--quality: expected a page (.html) as --out, got {args.out}, which is lossless; "
            "remove --quality"
        )
    if args.crop is not None:
        check_at_least(1, **{"--crop": args.crop})
    failures: list[Path] = []
    folders = _read_method_folders(args)
    gallery = gallery_of_folders(folders) if folders else _upscale(args, failures)
    if args.out.suffix.lower() == ".png":
        write_image(args.out, comparison_sheet(gallery))
    else:
        with progress_bar("images") as show:
            images = viewer_data(gallery, quality=args.quality, progress=show)
        _print_warnings(images)
        write_text(run_page((), title=args.title, images=images), args.out)
    _print_size(args.out)
    if failures:
        raise SystemExit(1)


def _upscale(args: argparse.Namespace, failures: list[Path]) -> "Gallery":
    """Upscale the inputs; report images that cannot be compared and add them to `failures`."""
    from srgan_plugin.reports.comparison import CompareOptions, upscaled_gallery

    def add_failure(path: Path, error: Exception) -> None:
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
            args.inputs, models, args.out, options, progress=show, failed=add_failure
        )


def _read_method_folders(args: argparse.Namespace) -> dict[str, Path]:
    """Return {name: folder} of `compare NAME=FOLDER …`; empty if the inputs are images."""
    from srgan_plugin.reports.gallery import HR

    named = [text for text in args.inputs if "=" in text and not Path(text).exists()]
    if not named:
        _check_inputs([Path(text) for text in args.inputs if Path(text).is_dir()])
        return {}
    if len(named) < len(args.inputs):
        other = next(text for text in args.inputs if text not in named)
        raise UserError(f"{other}: expected NAME=FOLDER, as in {named[0]}, got no NAME")
    given = (args.models, args.scale, args.tta, args.arch_options, args.device != "auto")
    if any(given) or args.crop is not None:
        raise UserError(
            "NAME=FOLDER: expected no --models, --crop, --scale, --tta, --device or --arch-option, "
            "got one; "
            "these images are shown as they are"
        )
    try:
        pairs = [named_folder(text) for text in named]
    except argparse.ArgumentTypeError as error:
        raise UserError(str(error)) from None
    if args.hr:
        pairs.append((HR, args.hr))
    return unique_folders(pairs, "NAME=FOLDER")


def _check_inputs(folders: Sequence[Path]) -> None:
    """Check that folders contain inputs, not several results for the same inputs.

    Raises:
        UserError: Two folders have images with the same names.
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
                f"{one} and {other}: expected images to upscale, got two versions of the same "
                f"images; to show them as they are, run: compare {names}"
            )


def _print_size(path: Path) -> None:
    sys.stdout.write(f"{path}: {path.stat().st_size / 1e6:.2f} MB\n")


def _parse_quality(text: str) -> int | None:
    """Parse `--quality`; None for auto."""
    return None if text == "auto" else quality(text)
