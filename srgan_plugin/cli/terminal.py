"""The terminal: whether a stream is one, how wide it is, and lines that fit into it."""

import contextlib
import os
import sys
import textwrap
from collections.abc import Iterable
from typing import Any, TextIO


def terminal_width(stream: Any) -> int:
    """Return the columns of a stream's terminal; 0 where it is none, or one without a width."""
    # Not shutil's function: it believes COLUMNS, which a parent may have set for another terminal.
    return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0


def fit_terminal(text: str, stream: TextIO | None = None) -> str:
    """Break a line that is wider than the terminal; elsewhere lines stay as they are.

    Args:
        text: The line.
        stream: Where it is written; by default standard output.
    """
    if not (width := terminal_width(stream or sys.stdout)):
        return text
    return textwrap.fill(
        text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def write_note(line: str) -> None:
    """Write a line to standard error, above a progress bar if there is one."""
    tqdm = sys.modules.get("tqdm")  # without it there is no bar
    with tqdm.tqdm.external_write_mode(sys.stderr) if tqdm else contextlib.nullcontext():
        sys.stderr.write(f"{fit_terminal(line, sys.stderr)}\n")


def write_lines(lines: Iterable[str]) -> None:
    """Write lines to standard output at once, also where that is a pipe."""
    sys.stdout.write("".join(f"{fit_terminal(line)}\n" for line in lines))
    sys.stdout.flush()
