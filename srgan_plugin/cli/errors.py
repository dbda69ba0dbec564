"""How every tool ends: one line on standard error where the cause is the user's input.

Exit status 0 is success, 1 a failure, 2 a wrong command line (argparse's own), 130 an interrupt.
`SRGAN_DEBUG=1` shows the stack trace.
"""

import argparse
import ast
import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec

P = ParamSpec("P")

# mmengine's registry puts `class `X` in module.py: ` before the message of whatever a constructor
# raised; torch's loader puts a whole stack trace of the worker before it.
_REGISTRY_PREFIX = re.compile(r"^(class|function|method)? ?`[^`]+` in [\w./]+?(\.py)?: ")

# What mmengine imports of setuptools: at the start of a run, and for `_base_ = 'package::…'`.
_OF_SETUPTOOLS = ("distutils", "pkg_resources")


def command(main: Callable[P, None]) -> Callable[P, None]:
    """Make `main` end with a line and a status where it would end with a stack trace."""

    @functools.wraps(main)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            main(*args, **kwargs)
        except (ValueError, OSError, MemoryError, TypeError) as error:
            message = _wrong_argument(error) if isinstance(error, TypeError) else one_line(error)
            if os.environ.get("SRGAN_DEBUG") or message is None:
                raise
            sys.stderr.write(f"error: {message}\n")
            raise SystemExit(1) from None
        except ModuleNotFoundError as error:
            if os.environ.get("SRGAN_DEBUG") or error.name not in _OF_SETUPTOOLS:
                raise
            sys.stderr.write(
                f"error: mmengine imports {error.name}, which is missing; "
                'run: pip install "setuptools<82"\n'
            )
            raise SystemExit(1) from None
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            raise SystemExit(130) from None

    return wrapper


def _wrong_argument(error: TypeError) -> str | None:
    """The line for a config's argument that does not exist; None for a mistake of ours."""
    if "mmengine" not in sys.modules:
        return None
    from srgan_plugin.config_arguments import wrong_argument

    return wrong_argument(error)


def one_line(error: BaseException) -> str:
    """The cause of `error` in one line, without what mmengine and torch wrap around it."""
    text = str(error).strip() or type(error).__name__
    if "Original Traceback" in text:
        text = text.splitlines()[-1].partition(": ")[2] or text.splitlines()[-1]
    text = " ".join(text.split())
    while (shorter := _REGISTRY_PREFIX.sub("", text)) != text:
        text = shorter
    return text


@contextlib.contextmanager
def progress_bar(what: str, unit: str = "picture") -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal, nothing elsewhere; yields what is called with done and total.

    Args:
        what: Stands before the bar.
        unit: What is counted; "B" for bytes and "px" for pixels, in thousands and millions.
    """
    from tqdm import tqdm

    with tqdm(desc=what, unit=unit, unit_scale=unit in ("B", "px"), disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total or None
            bar.update(done - bar.n)

        yield show


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add what every tool that reads a network out of a checkpoint takes."""
    parser.add_argument("source", metavar="SRC", help="a checkpoint of any layout, or its URL")
    parser.add_argument(
        "--ema",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="take the averaged weights where there are both (default), or the trained ones",
    )
    parser.add_argument(
        "--part",
        choices=("generator", "discriminator"),
        default="generator",
        help="which network of a whole-training checkpoint (default: generator)",
    )
    add_arch_option(parser)


def add_arch_option(parser: argparse.ArgumentParser) -> None:
    """Add what every tool that builds a network out of a checkpoint takes."""
    parser.add_argument(
        "--arch-option",
        "--told",  # its first name
        dest="arch_options",
        nargs="+",
        action="extend",
        type=_arch_option,
        default=[],
        metavar="KEY=VALUE",
        help='what the file does not state: output_range="(-1,1)" activate_after_shuffle=True',
    )


def add_half(parser: argparse.ArgumentParser) -> None:
    """Add what every tool that writes a network takes."""
    parser.add_argument(
        "--half", action="store_true", help="round the weights to half precision: half the size"
    )


def network_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return those options as keyword arguments of the zoo's functions."""
    return {"ema": args.ema, "part": args.part, "arguments": dict(args.arch_options)}


def _arch_option(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, ast.literal_eval(value)
    except (SyntaxError, ValueError):
        raise argparse.ArgumentTypeError(
            f'expected KEY=VALUE such as output_range="(-1,1)", got {text}'
        ) from None
