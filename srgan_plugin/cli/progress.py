"""Progress on the console: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from .terminal import terminal_width

_SECONDS_BETWEEN_LINES = 30
_LINE = "{desc}: {n_fmt}/{total_fmt}{unit}, {rate_fmt}, {remaining} left{postfix}"


class _Lines:
    """Turn what tqdm writes over one line of a terminal into lines of a log."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        """Write what there is to see of an update as a line."""
        if shown := text.strip("\r\n "):
            self.stream.write(f"{shown}\n")

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()


class Progress:
    """Show how much is done, at what rate, and how long the rest takes.

    On standard error: a bar where that is a terminal, never wider than it; a line every 30 seconds
    elsewhere.

    Args:
        what: What is done, such as "upscale"; stands before the rest.
        total: How much there is; None where that is learnt later.
        unit: What is counted; "B" for bytes and "px" for pixels, in thousands and millions.
        initial: How much was done before.
    """

    def __init__(
        self, what: str, total: int | None = None, unit: str = "image", initial: int = 0
    ) -> None:
        from tqdm import tqdm

        stream = sys.stderr
        style: dict[str, Any] = {"dynamic_ncols": True}
        if not terminal_width(stream):
            style = {"file": _Lines(stream), "mininterval": _SECONDS_BETWEEN_LINES, "miniters": 1}
            style |= {"bar_format": _LINE, "leave": False, "delay": _SECONDS_BETWEEN_LINES}
            style["position"] = 0  # else tqdm moves the cursor below bars that others left open
        short = {"unit_scale": True} if unit in ("B", "px") else {"unit": f" {unit}"}
        self._bar = tqdm(
            desc=what, total=total, initial=initial, **({"unit": unit} | short | style)
        )

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done; 0 for an unknown total."""
        self._bar.total = total or None
        self._bar.update(done - self._bar.n)

    def advance(self, count: int = 1) -> None:
        """Show that so many more are done."""
        self._bar.update(count)

    def show(self, **values: object) -> None:
        """Show named values behind the rest, such as the latest loss, from the next update on."""
        self._bar.set_postfix(values, refresh=False)

    def write(self, text: str) -> None:
        """Write a line to standard output, above the bar."""
        self._bar.write(text)
        sys.stdout.flush()

    def close(self) -> None:
        """Leave the bar as it is, or remove it where nothing was done."""
        self._bar.leave = self._bar.leave and self._bar.n > self._bar.initial
        self._bar.close()


@contextlib.contextmanager
def progress_bar(what: str, unit: str = "image") -> Iterator[Progress]:
    """Show progress while a block runs; yields what is called with done and total."""
    progress = Progress(what, unit=unit)
    try:
        yield progress
    finally:
        progress.close()
