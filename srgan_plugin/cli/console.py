"""The console of a run: what a toolbox logs goes to its file, what needs attention to both.

`--verbose` of the tools leaves the toolboxes' logs on the console.
"""

import contextlib
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import torch

from srgan_plugin import __version__

from .doctor import cpu_name
from .terminal import fit_terminal

# Warnings of mmengine's about what its own configs and code do, and no user can change.
_NOISE = ("deprecated", "is not a meta file", "prefix is not set in metric class")


class _AboveBars:
    """A stream for lines that do not tear a progress bar."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        """Write above the bars."""
        from tqdm import tqdm

        tqdm.write(text, file=self.stream, end="")

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()


class _Formatter(logging.Formatter):
    """A record's message in one line, after its level where that is a warning or worse."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        level = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
        return fit_terminal(level + " ".join(record.getMessage().split()), self.stream)


def needs_attention(record: logging.LogRecord) -> bool:
    """Whether a record is a warning or an error that a user can do something about."""
    message = record.getMessage()
    return record.levelno >= logging.WARNING and not any(noise in message for noise in _NOISE)


def log_to_file(
    logger: logging.Logger, shown: Callable[[logging.LogRecord], bool] = needs_attention
) -> None:
    """Leave on the console only those records of a logger that `shown` accepts."""
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream in (
            sys.stdout,
            sys.stderr,
        ):
            handler.addFilter(shown)
            handler.setFormatter(_Formatter(handler.stream))
            handler.setStream(_AboveBars(handler.stream))


def device_name() -> str:
    """Return the name of the GPUs, or of the processor where there is none."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"CPU {cpu_name()}, threads: {torch.get_num_threads()}"


def code_version() -> str:
    """Return this package's version, and the commit where it runs from a checkout."""
    checkout = Path(__file__).resolve().parents[2]
    line = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40"]
    commit = ""
    if (checkout / ".git").exists():
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(line, capture_output=True, text=True, timeout=5, check=False)
            commit = done.stdout.strip()
    return f"srgan_plugin {__version__}" + (f", commit {commit}" if commit else "")
