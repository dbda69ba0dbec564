"""Options that several command lines share."""

import argparse
import ast
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from srgan_plugin.errors import UserError


def number(expected: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """Return an argparse type for finite numbers that satisfy a condition.

    Args:
        expected: Description of the condition, such as `"above 0"`, for the error.
        fits: Function that returns whether a number satisfies the condition.
    """

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and fits(value)):
            raise argparse.ArgumentTypeError(f"expected a number {expected}, got {text}")
        return value

    return read


def named_folder(text: str) -> tuple[str, Path]:
    """Parse NAME=FOLDER; an argparse type."""
    name, sign, folder = text.partition("=")
    if not (name and sign and folder):
        raise argparse.ArgumentTypeError(
            f"expected NAME=FOLDER such as SRGAN=out/srgan, got {text}"
        )
    return name, Path(folder)


def unique_folders(pairs: Sequence[tuple[str, Path]], option: str) -> dict[str, Path]:
    """Return folders of `named_folder` by name.

    Raises:
        UserError: A name is given twice.
    """
    folders = dict(pairs)
    if len(folders) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{option}: expected a different NAME for each folder, got {twice} twice")
    return folders


def quality(text: str) -> int:
    """Parse a quality of JPEG or WebP; an argparse type."""
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"expected 1 to 100, got {text}")
    return int(text)


def check_output(path: str | os.PathLike[str], *suffixes: str) -> None:
    """Check, before the work, that its result can be written to a file.

    Args:
        path: Value of `--out`.
        suffixes: Suffixes that are supported; none for any.

    Raises:
        UserError: `path` has another suffix, is not a file, or its folder cannot be written to.
    """
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise UserError(f"--out: expected a name ending in {' or '.join(suffixes)}, got {path}")
    if path.exists() and not path.is_file():
        kind = "folder" if path.is_dir() else "device or pipe"
        raise UserError(f"--out: expected a file, got the {kind} {path}")
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        got = "a folder without permission to write" if existing.is_dir() else "a file"
        raise UserError(f"--out: expected a folder for {path.name}, got {got}, {existing}")


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of tools that read one network from a checkpoint."""
    parser.add_argument(
        "source",
        metavar="SRC",
        help="a checkpoint with any known layout, its URL or published name",
    )
    parser.add_argument(
        "--ema",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="use the EMA weights of a checkpoint with both (default), or the trained ones",
    )
    parser.add_argument(
        "--network",
        choices=("generator", "discriminator"),
        default="generator",
        help="network to read from a training checkpoint (default: generator)",
    )
    add_arch_option(parser)


def add_arch_option(parser: argparse.ArgumentParser) -> None:
    """Add `--arch-option`, for tools that build a network from a checkpoint."""
    parser.add_argument(
        "--arch-option",
        dest="arch_options",
        nargs="+",
        action="extend",
        type=_arch_option,
        default=[],
        metavar="KEY=VALUE",
        help="arguments of the network that the checkpoint does not record, such as "
        'output_range="(-1,1)" activate_after_shuffle=True',
    )


def add_upscale_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `upscale` and `compare` for running a network."""
    parser.add_argument(
        "--scale",
        type=number("above 0", lambda scale: scale > 0),
        metavar="S",
        help="upscaling factor of the result (default: the factor of the network)",
    )
    parser.add_argument(
        "--tta",
        action="store_true",
        help="average over the flipped and transposed image (x8 self-ensemble), in 8 times the "
        "time",
    )
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N|mps")


def add_half(parser: argparse.ArgumentParser) -> None:
    """Add `--half`, for tools that write a network."""
    parser.add_argument(
        "--half", action="store_true", help="write the weights in float16, in half the size"
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add `--overwrite`, for tools that write to a file named by the user."""
    parser.add_argument("--overwrite", action="store_true", help="replace DST if it exists")


def check_free(target: Path, *, overwrite: bool) -> None:
    """Check that a path is free for a file, or holds a file that may be replaced.

    Raises:
        UserError: `target` is a folder, or it exists and `overwrite` is false.
    """
    if target.is_dir():
        raise UserError(f"{target}: expected a file to write, got a folder; name a file in it")
    if target.exists() and not overwrite:
        raise UserError(f"{target}: expected a new file, got an existing one; give --overwrite")


def network_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `add_network_options` as arguments of functions in `checkpoints`."""
    from srgan_plugin.checkpoints.hub import network_arguments

    arguments = network_arguments(args.source, dict(args.arch_options))
    return {"ema": args.ema, "role": args.network, "arguments": arguments}


def read_marked_results(path: Path) -> dict[str, dict[str, float]]:
    """Read {test set: {metric: value}} from a file written by `tools/test.py --out`.

    The names of incomplete test sets are marked, because their metrics cannot be compared with
    published ones.

    Raises:
        MissingFileError: The file does not exist.
        OSError: The file cannot be read.
        UserError: The file has other content.
    """
    from srgan_plugin.metrics.results_files import incomplete_sets, split_counts
    from srgan_plugin.reports.runs import read_results

    metrics, counts = split_counts(read_results(path))
    missing = incomplete_sets(counts)
    return {f"{n} ({missing[n]})" if n in missing else n: row for n, row in metrics.items()}


def _arch_option(text: str) -> tuple[str, Any]:
    """Parse KEY=VALUE, where VALUE is a Python literal or a bare word."""
    key, _, value = text.partition("=")
    try:
        if key.isidentifier():
            is_word = value.isidentifier() and value not in ("True", "False", "None")
            return key, value if is_word else ast.literal_eval(value)
        raise ValueError
    except (SyntaxError, ValueError, TypeError):  # TypeError: a dict with a list as a key
        raise argparse.ArgumentTypeError(
            f'expected KEY=VALUE such as output_range="(-1,1)", got {text}'
        ) from None
