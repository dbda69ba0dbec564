"""`srgan-plugin upscale`: upscale images by a trained network."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from srgan_plugin.errors import FileError, UserError

from .errors import one_line, report_failure
from .options import add_arch_option, add_upscale_options, number
from .progress import progress_bar

if TYPE_CHECKING:
    from srgan_plugin.inference import Upscaler
    from srgan_plugin.inference.precision import Precision


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help='images, folders, or "patterns/*.png"'
    )
    parser.add_argument("output", metavar="OUTPUT", help="a file for one image, else a folder")
    parser.add_argument(
        "--model",
        default="msrresnet",
        metavar="msrresnet|srgan|NAME|FILE",
        help="bundled weights, a published model by its name, or a checkpoint of any layout "
        "(default: msrresnet)",
    )
    parser.add_argument(
        "--blend",
        type=number("from 0 to 1", lambda share: 0 <= share <= 1),
        metavar="A",
        help="mix weights: 0 is --model, 1 is --blend-with",
    )
    parser.add_argument(
        "--blend-with", metavar="msrresnet|srgan|FILE", help="default: srgan, or msrresnet with it"
    )
    add_arch_option(parser)
    parser.add_argument(
        "--tile", type=_tile, default="auto", metavar="auto|N", help="largest tile of the input"
    )
    add_upscale_options(parser)
    parser.add_argument(
        "--backend",
        choices=("auto", "torch", "openvino", "onnxruntime", "ncnn"),
        default="torch",
        help="runtime (default: torch); auto takes the fastest here of those that are installed",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="float32 (default); auto takes bfloat16 where it is faster on this device",
    )
    parser.add_argument("--half", action="store_true", help="--precision float16")
    parser.add_argument("--suffix", default="", help="behind each name in a folder, such as _x4")
    parser.add_argument(
        "--format", choices=("png", "jpg", "webp", "tif"), help="of all files in a folder"
    )
    parser.add_argument(
        "--quality", type=_quality, default=95, metavar="1-100", help="of JPEG and WebP (95)"
    )
    parser.add_argument(
        "--metadata",
        choices=("keep", "copyright", "none"),
        default="keep",
        help="EXIF and DPI: all, author and copyright alone, or nothing (default: keep)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="write results again that exist already"
    )


def run(args: argparse.Namespace) -> None:
    """Upscale; write a line on standard error for each image that fails, and end with status 1."""
    from srgan_plugin.inference import Upscaler, open_model
    from srgan_plugin.inference.batch import (
        OutputOptions,
        ignored_files,
        plan_jobs,
        upscale_files,
    )
    from srgan_plugin.inference.upscaler import disable_malloc_trim

    precision = _precision(args)
    if args.blend_with and args.blend is None:
        raise UserError("--blend-with says with what, and --blend A how much of it: give both")
    other = args.blend_with or ("msrresnet" if args.model == "srgan" else "srgan")
    options = OutputOptions(
        suffix=args.suffix, format=args.format, quality=args.quality, metadata=args.metadata
    )
    jobs = plan_jobs(args.inputs, args.output, options)
    disable_malloc_trim()
    network = open_model(
        args.model, blend=args.blend, blend_with=other, arch_options=dict(args.arch_options)
    )
    upscaler = Upscaler(
        network,
        scale=args.scale,
        device=args.device,
        tile=args.tile,
        precision=precision,
        backend=args.backend,
        tta=args.tta,
    )
    _print_choices(args.backend, precision, upscaler)
    count = {"done": 0, "skipped": 0, "failed": 0}
    try:
        with progress_bar("upscale", unit="px") as show:
            outcomes = upscale_files(
                upscaler,
                jobs,
                show,
                started=lambda file: show.show(file=file.name),
                options=options,
                overwrite=args.overwrite,
            )
            for outcome in outcomes:
                count[outcome.state] += 1
                if outcome.error is not None:
                    report_failure(outcome.source, outcome.error)
    except OSError as error:  # nothing more can be written
        rest = f"{count['done']} of {len(jobs)} images are done; the same command does the others"
        raise FileError(f"{one_line(error)}; {rest}") from error
    _print_result(count, ignored_files(args.inputs, args.output))
    if count["failed"]:
        raise SystemExit(1)


def _print_choices(backend: str, precision: str, upscaler: "Upscaler") -> None:
    """Print what `auto` stands for."""
    if backend == "auto":
        taken = upscaler.backend
        sys.stderr.write(f"backend: {taken.name} on {taken.device}, the fastest one here\n")
    if precision == "auto":
        name = str(upscaler.dtype).removeprefix("torch.")
        sys.stderr.write(f"precision: {name}, the faster one on this device\n")


def _print_result(count: Mapping[str, int], ignored: Sequence[Path]) -> None:
    if ignored:
        names = [f"  {path}\n" for path in ignored[:3]] + ["  …\n"] * (len(ignored) > 3)
        sys.stdout.write(f"skipped, not images by their names: {len(ignored)}\n{''.join(names)}")
    why = " (they exist; --overwrite writes them again)" if count["skipped"] else ""
    sys.stdout.write(
        "{done} done, {skipped} skipped{why}, {failed} failed\n".format(**count, why=why)
    )


def _precision(args: argparse.Namespace) -> "Precision":
    if args.half and args.precision not in (None, "float16"):
        raise UserError(f"--half is --precision float16, got --precision {args.precision} as well")
    precision: Precision = args.precision or ("float16" if args.half else "float32")
    return precision


def _quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"expected 1 to 100, got {text}")
    return int(text)


def _tile(text: str) -> int | str:
    if text != "auto" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected auto or a number of pixels, got {text}")
    return text if text == "auto" else int(text)
