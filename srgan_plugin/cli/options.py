"""Options that several command lines share."""

import argparse
import ast
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from srgan_plugin.errors import UserError


def number(expected: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """Return a type of argparse: a finite number that fits."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and fits(value)):
            raise argparse.ArgumentTypeError(f"expected a number {expected}, got {text}")
        return value

    return read


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add what every tool that reads a network out of a checkpoint takes."""
    parser.add_argument(
        "source", metavar="SRC", help="a checkpoint of any layout, its URL or published name"
    )
    parser.add_argument(
        "--ema",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="take the averaged weights where there are both (default), or the trained ones",
    )
    parser.add_argument(
        "--network",
        choices=("generator", "discriminator"),
        default="generator",
        help="which network of a whole-training checkpoint (default: generator)",
    )
    add_arch_option(parser)


def add_arch_option(parser: argparse.ArgumentParser) -> None:
    """Add what every tool that builds a network out of a checkpoint takes."""
    parser.add_argument(
        "--arch-option",
        dest="arch_options",
        nargs="+",
        action="extend",
        type=_arch_option,
        default=[],
        metavar="KEY=VALUE",
        help='what the file does not state: output_range="(-1,1)" activate_after_shuffle=True',
    )


def add_upscale_options(parser: argparse.ArgumentParser) -> None:
    """Add what `upscale` and `compare` take of how a network is run."""
    parser.add_argument(
        "--scale",
        type=number("above 0", lambda scale: scale > 0),
        metavar="S",
        help="of the result (default: the network's)",
    )
    parser.add_argument(
        "--tta",
        action="store_true",
        help="mean over the flipped and transposed image (x8 self-ensemble), 8 times the time",
    )
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N|mps")


def add_half(parser: argparse.ArgumentParser) -> None:
    """Add what every tool that writes a network takes."""
    parser.add_argument(
        "--half", action="store_true", help="round the weights to half precision: half the size"
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add what every tool takes that writes weights to a name of the user's choice."""
    parser.add_argument("--overwrite", action="store_true", help="replace DST if it exists")


def check_free(target: Path, *, overwrite: bool) -> None:
    """Refuse to replace a file unless the user said so.

    Raises:
        UserError: The file exists and `overwrite` is false.
    """
    if target.exists() and not overwrite:
        raise UserError(
            f"{target}: expected no such file, got one that exists; give --overwrite to replace it"
        )


def network_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return those options as keyword arguments of the zoo's functions."""
    from srgan_plugin.checkpoints.hub import BUNDLED_ARGUMENTS, BUNDLED_MODELS

    known = BUNDLED_ARGUMENTS if args.source in BUNDLED_MODELS else {}
    arguments = {**known, **dict(args.arch_options)}
    return {"ema": args.ema, "role": args.network, "arguments": arguments}


def read_results(path: Path) -> dict[str, dict[str, float]]:
    """Read the measures by test set that `tools/test.py --out` wrote.

    The names of incomplete sets say so: what is published from here is no result of the whole set.
    """
    from srgan_plugin.io.text_files import read_json
    from srgan_plugin.metrics.results_files import incomplete_sets, split_counts

    results = read_json(path, "the results of tools/test.py --out")
    if not isinstance(results, dict) or not all(isinstance(m, dict) for m in results.values()):
        raise UserError(f"{path}: expected measures by test set, got {results!r:.80}")
    measures, counts = split_counts(results)
    missing = incomplete_sets(counts)
    return {f"{n} ({missing[n]})" if n in missing else n: row for n, row in measures.items()}


def _arch_option(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    if value.isidentifier() and value not in ("True", "False", "None"):
        return key, value
    try:
        return key, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        raise argparse.ArgumentTypeError(
            f'expected KEY=VALUE such as output_range="(-1,1)", got {text}'
        ) from None
