"""Limit the console of a run to warnings and errors; the complete log is in its file.

The flag `--verbose` of the tools keeps the whole log on the console.
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

# Warnings of mmengine about its own code, which a user cannot change.
_NOISE = (
    '"FileClient" will be deprecated in future',
    '"HardDiskBackend" is the alias of "LocalBackend"',
    "is not a meta file",
    "prefix is not set in metric class",
)


class _AboveBars:
    """Stream that writes above progress bars."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        """Write above progress bars."""
        from tqdm import tqdm

        tqdm.write(text, file=self.stream, end="")

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()


class _Formatter(logging.Formatter):
    """Logging formatter for one line that fits into the terminal, with the level of warnings."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream

    def format(self, record: logging.LogRecord) -> str:
        """Return the message in one line, after its level if that is WARNING or above."""
        level = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
        return fit_terminal(level + " ".join(record.getMessage().split()), self.stream)


def needs_attention(record: logging.LogRecord) -> bool:
    """Return whether a record is a warning or an error that a user can act upon."""
    message = record.getMessage()
    return record.levelno >= logging.WARNING and not any(noise in message for noise in _NOISE)


def log_to_file(
    logger: logging.Logger, shown: Callable[[logging.LogRecord], bool] = needs_attention
) -> None:
    """Show only some records of a logger on the console; its files keep all of them.

    Args:
        logger: Logger with its handlers.
        shown: Return whether a record is shown.
    """
    for handler in logger.handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream in (
            sys.stdout,
            sys.stderr,
        ):
            handler.addFilter(shown)
            handler.setFormatter(_Formatter(handler.stream))
            handler.setStream(_AboveBars(handler.stream))


def device_name() -> str:
    """Return the number and name of the GPUs, or the processor and its number of threads."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"CPU {cpu_name()}, threads: {torch.get_num_threads()}"


def code_version() -> str:
    """Return the version of this package, and the commit if it is run from a checkout."""
    checkout = Path(__file__).resolve().parents[2]
    describe = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40"]
    commit = ""
    if (checkout / ".git").exists():
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(describe, capture_output=True, text=True, timeout=5, check=False)
            commit = done.stdout.strip()
    return f"srgan_plugin {__version__}" + (f", commit {commit}" if commit else "")
