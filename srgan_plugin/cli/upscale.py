"""`srgan-plugin upscale`: upscale images with a trained network."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from srgan_plugin.errors import FileError, UserError

from .errors import one_line, report_failure
from .options import add_arch_option, add_upscale_options, number, quality
from .progress import progress_bar
from .terminal import write_note

if TYPE_CHECKING:
    from srgan_plugin.inference import Upscaler
    from srgan_plugin.inference.batch import Job, JobResult, OutputOptions
    from srgan_plugin.inference.precision import Precision

#: Bundled models that were trained on clean images, and the one for the others.
_CLEAN_MODELS: Final = ("msrresnet", "srgan")
_JPEG_MODEL: Final = "photo"
#: Quality up to which that one clearly has a higher PSNR (docs/upscale.md).
_JPEG_QUALITY: Final = 90


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help='images, folders, or "patterns/*.png"'
    )
    parser.add_argument("output", metavar="OUTPUT", help="a file for one image, else a folder")
    parser.add_argument(
        "--model",
        default="msrresnet",
        metavar="msrresnet|srgan|photo|NAME|FILE",
        help="bundled weights, name of a published model, or a checkpoint of any layout (default: "
        "msrresnet; photo is for JPEG blocks and noise)",
    )
    parser.add_argument(
        "--blend",
        type=number("from 0 to 1", lambda share: 0 <= share <= 1),
        metavar="A",
        help="interpolate the weights: 0 is --model, 1 is --blend-with",
    )
    parser.add_argument(
        "--blend-with",
        metavar="msrresnet|srgan|photo|FILE",
        help="second model for --blend (default: srgan; msrresnet if --model is srgan)",
    )
    add_arch_option(parser)
    parser.add_argument(
        "--tile",
        type=_parse_tile,
        default="auto",
        metavar="auto|N",
        help="largest side of a tile, in pixels of the input",
    )
    add_upscale_options(parser)
    parser.add_argument(
        "--backend",
        choices=("auto", "torch", "openvino", "onnxruntime", "ncnn"),
        default="torch",
        help="runtime of the network (default: torch); auto uses the fastest installed one",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="default: float32; auto uses bfloat16 if it is at least 1.25 times as fast "
        "on this device",
    )
    parser.add_argument("--half", action="store_true", help="same as --precision float16")
    _add_output_arguments(parser)


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--suffix", default="", help="added to each name in a folder, such as _x4")
    parser.add_argument(
        "--format",
        choices=("png", "jpg", "webp", "tif"),
        help="format of the files in a folder; if several inputs would get one name, such as x.jpg "
        "and x.png, their results are x.jpg.png and x.png.png, so the result x.png of an "
        "earlier run, in which only one of them was an input, is not used",
    )
    parser.add_argument(
        "--quality",
        type=quality,
        metavar="1-100",
        help="quality of JPEG and WebP (default: 95)",
    )
    parser.add_argument(
        "--metadata",
        choices=("keep", "copyright", "none"),
        default="keep",
        help="EXIF, DPI, XMP, texts and comments: all, author and copyright only (of XMP "
        "dc:creator, dc:rights and xmpRights), or none (default: keep)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")


def run(args: argparse.Namespace) -> None:
    """Upscale the images.

    A failed image is reported in one line on standard error; the others are upscaled, and the exit
    status is 1.

    Raises:
        UserError: Options contradict each other, or the network cannot be opened.
        FileError: The disk is full.
    """
    from srgan_plugin.inference.batch import (
        DEFAULT_OUTPUT,
        OutputOptions,
        ignored_files,
        plan_jobs,
        upscale_files,
    )

    precision = _choose_precision(args)
    if args.blend_with and args.blend is None:
        raise UserError("--blend-with: expected --blend A as well, the weight of that model")
    options = OutputOptions(
        suffix=args.suffix,
        format=args.format,
        quality=args.quality or DEFAULT_OUTPUT.quality,
        metadata=args.metadata,
    )
    jobs = plan_jobs(args.inputs, args.output, options)
    if args.quality is not None:
        _check_quality([target for _, target in jobs])
    _print_renamed(jobs, options)
    upscaler = _open_upscaler(args, precision)
    _print_choices(args.backend, precision, upscaler)
    _print_advice(args, jobs)
    counts: Counter[str] = Counter()
    unwritten: dict[str, list[Path]] = {}
    try:
        with progress_bar("upscale", unit="px") as show:
            results = upscale_files(
                upscaler,
                jobs,
                show,
                started=lambda file: show.show(file=file.name),
                options=options,
                overwrite=args.overwrite,
            )
            _count_and_report(results, counts, unwritten)
    except OSError as error:  # no further result can be written
        rest = (
            f"{counts['done']} of {len(jobs)} images are done; run the command again for the rest"
        )
        raise FileError(f"{one_line(error)}; {rest}") from error
    for part, targets in unwritten.items():
        more = f" and {len(targets) - 1} more" if len(targets) > 1 else ""
        write_note(
            f"metadata not kept, as the format does not support it: {part} ({targets[0]}{more})"
        )
    _print_summary(counts, ignored_files(args.inputs, args.output))
    if counts["failed"]:
        raise SystemExit(1)


def _open_upscaler(args: argparse.Namespace, precision: "Precision") -> "Upscaler":
    from srgan_plugin.inference import Upscaler, open_model
    from srgan_plugin.inference.upscaler import disable_malloc_trim

    disable_malloc_trim()
    network = open_model(
        args.model,
        blend=args.blend,
        blend_with=args.blend_with or ("msrresnet" if args.model == "srgan" else "srgan"),
        arch_options=dict(args.arch_options),
    )
    return Upscaler(
        network,
        scale=args.scale,
        device=args.device,
        tile=args.tile,
        precision=precision,
        backend=args.backend,
        tta=args.tta,
    )


def _count_and_report(
    results: Iterable["JobResult"], counts: Counter[str], unwritten: dict[str, list[Path]]
) -> None:
    """Count the results by state, as they are computed, and report each failure.

    Results without a part of their metadata are added to `unwritten`, {part: paths}.
    """
    for result in results:
        counts[result.state] += 1
        for part in result.unwritten:
            unwritten.setdefault(part, []).append(result.target)
        if result.error is not None:
            report_failure(result.source, result.error)


def _check_quality(targets: Sequence[Path]) -> None:
    """Raise `UserError` for `--quality` if no result is of a format that has it."""
    from srgan_plugin.io.writers import LOSSY_SUFFIXES

    if not any(target.suffix.lower() in LOSSY_SUFFIXES for target in targets):
        raise UserError(
            f"--quality: expected a JPEG or WebP file as result, got {targets[0]}; remove "
            "--quality, or write .jpg or .webp"
        )


def _print_renamed(jobs: "Sequence[Job]", options: "OutputOptions") -> None:
    """Print the results whose names contain the formats of their inputs."""
    renamed = [
        (source, target)
        for source, target in jobs
        if source.suffix and target.name.startswith(f"{source.name}{options.suffix}.")
    ]
    if renamed and len(jobs) > 1:  # the name of a single result is given
        shown = ", ".join(f"{source} -> {target}" for source, target in renamed[:4])
        more = f" and {len(renamed) - 4} more" if len(renamed) > 4 else ""
        write_note(f"images of one name in several formats: {shown}{more}")


def _print_choices(backend: str, precision: str, upscaler: "Upscaler") -> None:
    """Print the choice for each option that is `auto`."""
    if backend == "auto":
        chosen = upscaler.backend
        sys.stderr.write(f"backend: {chosen.name} on {chosen.device}, the fastest one here\n")
    if precision == "auto":
        name = str(upscaler.dtype).removeprefix("torch.")
        sys.stderr.write(f"precision: {name}, the faster one on this device\n")


def _print_advice(args: argparse.Namespace, jobs: "Sequence[Job]") -> None:
    """Print that there is a model for JPEG images, if some are compressed much."""
    from srgan_plugin.io.jpeg import estimate_quality

    if args.model not in _CLEAN_MODELS or args.blend_with == _JPEG_MODEL:
        return
    sources = [source for source, target in jobs if args.overwrite or not target.is_file()]
    qualities = ((source, estimate_quality(source)) for source in sources)
    blocky = [(source, found) for source, found in qualities if found and found <= _JPEG_QUALITY]
    if blocky:
        source, found = blocky[0][0], [quality for _, quality in blocky]
        more = f" and {len(blocky) - 1} more" if len(blocky) > 1 else ""
        quality = " to ".join(dict.fromkeys([str(min(found)), str(max(found))]))
        write_note(
            f"{source}{more}: JPEG of quality {quality}; {args.model} was trained on clean images "
            f"and sharpens the blocks, --model {_JPEG_MODEL} reduces them"
        )


def _print_summary(counts: Mapping[str, int], ignored: Sequence[Path]) -> None:
    if ignored:
        names = [f"  {path}\n" for path in ignored[:3]] + ["  …\n"] * (len(ignored) > 3)
        sys.stdout.write(f"skipped, not images by their names: {len(ignored)}\n{''.join(names)}")
    reason = " (they exist; --overwrite writes them again)" if counts["skipped"] else ""
    sys.stdout.write(
        f"{counts['done']} done, {counts['skipped']} skipped{reason}, {counts['failed']} failed\n"
    )


def _choose_precision(args: argparse.Namespace) -> "Precision":
    """Return the precision of `--precision` or `--half`."""
    if args.half and args.precision not in (None, "float16"):
        raise UserError(f"--half: expected no --precision, or float16, got {args.precision}")
    precision: Precision = args.precision or ("float16" if args.half else "float32")
    return precision


def _parse_tile(text: str) -> int | str:
    if text != "auto" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected auto or a number of pixels, got {text}")
    return text if text == "auto" else int(text)
