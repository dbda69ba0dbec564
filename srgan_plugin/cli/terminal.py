"""Write lines that fit into the terminal."""

import contextlib
import os
import sys
import textwrap
from collections.abc import Iterable
from typing import Any, TextIO


def terminal_width(stream: Any) -> int:
    """Return the number of columns of a terminal; 0 if the stream is not a terminal."""
    # shutil.get_terminal_size() prefers COLUMNS, which may be set for another terminal.
    return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0


def fit_terminal(text: str, stream: TextIO | None = None) -> str:
    """Break a line that is wider than the terminal.

    Args:
        text: Line without a newline.
        stream: Stream of the line, by default standard output. If it is not a terminal, `text` is
            returned unchanged.

    Returns:
        The line, broken between words; further lines are indented by two spaces.
    """
    if not (width := terminal_width(stream or sys.stdout)):
        return text
    return textwrap.fill(
        text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def write_note(line: str) -> None:
    """Write a line to standard error, above a progress bar if there is one."""
    tqdm = sys.modules.get("tqdm")  # if it is not imported, there is no bar
    with tqdm.tqdm.external_write_mode(sys.stderr) if tqdm else contextlib.nullcontext():
        sys.stderr.write(f"{fit_terminal(line, sys.stderr)}\n")


def write_lines(lines: Iterable[str]) -> None:
    """Write lines to standard output and flush it, so that they appear at once in a pipe."""
    sys.stdout.write("".join(f"{fit_terminal(line)}\n" for line in lines))
    sys.stdout.flush()
