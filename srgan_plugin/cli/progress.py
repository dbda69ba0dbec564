"""Show progress: a bar on a terminal, otherwise lines, at most one in 30 seconds."""

import sys
from contextlib import AbstractContextManager, closing
from typing import Any, TextIO

from .terminal import terminal_width

_SECONDS_BETWEEN_LINES = 30
_LINE = "{desc}: {n_fmt}/{total_fmt}{unit}, {rate_fmt}, {remaining} left{postfix}"
_LINE_WITHOUT_TOTAL = "{desc}: {n_fmt}{unit}, {rate_fmt}{postfix}"


class _Lines:
    """Stream that writes each update of a tqdm bar as a separate line, for logs."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        """Write an update as a line, without the characters that move the cursor."""
        if line := text.strip("\r\n "):
            self.stream.write(f"{line}\n")

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()


class Progress:
    """Progress display on standard error: count, rate and remaining time.

    It is a bar that fits into the terminal. If standard error is not a terminal, changes are shown
    as lines, at most one in 30 seconds; the last count may be missing.

    Args:
        what: Name of the task, such as `"upscale"`, at the start of the line.
        total: Total count; None if it becomes known later.
        unit: Unit of the count. `"B"` and `"px"` are shown in thousands and millions.
        initial: Count that was done before.
    """

    def __init__(
        self, what: str, total: int | None = None, unit: str = "image", initial: int = 0
    ) -> None:
        from tqdm import tqdm

        stream = sys.stderr
        style: dict[str, Any] = {"dynamic_ncols": True}
        if not terminal_width(stream):
            style = {"file": _Lines(stream), "mininterval": _SECONDS_BETWEEN_LINES, "miniters": 1}
            line = _LINE if total else _LINE_WITHOUT_TOTAL
            style |= {"bar_format": line, "leave": False, "delay": _SECONDS_BETWEEN_LINES}
            style["position"] = 0  # otherwise tqdm moves the cursor below other open bars
        self._initial, self._is_line = initial, "bar_format" in style
        short = {"unit_scale": True} if unit in ("B", "px") else {"unit": f" {unit}"}
        self._bar = tqdm(
            desc=what, total=total, initial=initial, **({"unit": unit} | short | style)
        )

    def __call__(self, done: int, total: int) -> None:
        """Set the count, with the initial one, and the total; a total of 0 means it is unknown."""
        self._bar.total = total or None
        if self._is_line:
            self._bar.bar_format = _LINE if total else _LINE_WITHOUT_TOTAL
        self._bar.update(done - self._bar.n)

    def advance(self, count: int = 1) -> None:
        """Increase the count."""
        self._bar.update(count)

    def show(self, **values: object) -> None:
        """Set values that are shown at the end of the line, from the next update on."""
        self._bar.set_postfix(values, refresh=False)

    def write(self, text: str) -> None:
        """Write a line to standard output, above the bar."""
        self._bar.write(text)
        sys.stdout.flush()

    def close(self) -> None:
        """End the display; remove the bar if the count has not changed."""
        self._bar.leave = self._bar.leave and self._bar.n > self._initial
        self._bar.close()


def progress_bar(what: str, unit: str = "image") -> AbstractContextManager[Progress]:
    """Return a context manager that yields a `Progress` of unknown total, and closes it."""
    return closing(Progress(what, unit=unit))
