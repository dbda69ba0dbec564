"""How every tool ends: one line on standard error where the cause is the user's input.

Exit status 0 is success, 1 a failure, 2 a wrong command line (argparse's own), 130 an interrupt.
`SRGAN_DEBUG=1` shows the stack trace.
"""

import errno
import functools
import gc
import io
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec
from urllib.error import URLError

from srgan_plugin.errors import PluginWarning, UserError

from .terminal import write_note

P = ParamSpec("P")

_LONGEST_LINE = 2000  # characters
_SECONDS_TO_END = 5  # of a loader's worker
_EXTRAS = ("wandb",)  # which a setting of BasicSR's or mmengine's makes them import
_NOT_ITS_WEIGHTS = "Error(s) in loading state_dict for "
# What mmengine imports of setuptools: at the start of a run, and for `_base_ = 'package::…'`.
_OF_SETUPTOOLS = ("distutils", "pkg_resources")


def command(main: Callable[P, None]) -> Callable[P, None]:
    """Convert an error that the user can correct into one line and status 1.

    Any other error is a bug and keeps its stack trace.
    """

    @functools.wraps(main)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        # A log that cannot be written, such as on a full disk, prints no stack trace for each line.
        logging.raiseExceptions = bool(os.environ.get("SRGAN_DEBUG"))
        _show_warnings_as_notes()
        given = args[0] if args and isinstance(args[0], list) else sys.argv[1:]
        try:
            with warnings.catch_warnings():
                if "--verbose" not in given:
                    hide_foreign_warnings()
                main(*args, **kwargs)
            return
        except KeyboardInterrupt:
            line, status = "interrupted", 130
        except Exception as error:
            _expect_no_more_of_workers()
            reason = explain(error)
            if os.environ.get("SRGAN_DEBUG") or reason is None:
                raise
            line, status = f"error: {reason}", 1
        # Outside the handler, whose error keeps the run alive: a loader's workers end with it now,
        # and not at the exit of the process, where torch takes their end for a crash.
        gc.collect()
        for worker in multiprocessing.active_children():
            worker.terminate()
            worker.join(_SECONDS_TO_END)
        write_note(line)
        raise SystemExit(status)

    return wrapper


class _NoteHandler(logging.Handler):
    """Write records as `write_note` does: within the terminal, above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        write_note(self.format(record))


def _show_warnings_as_notes() -> None:
    logger = logging.getLogger("srgan_plugin")
    if not logger.hasHandlers():
        logger.addHandler(_NoteHandler(logging.WARNING))


def hide_foreign_warnings() -> None:
    """Show only this package's warnings from now on.

    What is given by `python -W` and PYTHONWARNINGS holds.
    """
    if sys.warnoptions:
        return
    warnings.simplefilter("ignore")
    warnings.simplefilter("default", PluginWarning)
    # Both log in every process that they have no folder for a cache where HOME cannot be written.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def _expect_no_more_of_workers() -> None:
    """Keep torch's handler from raising, at the end of another worker, in the handling of an error.

    The process is about to end.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and hasattr(signal, "SIGCHLD") and multiprocessing.active_children():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def explain(error: Exception) -> str | None:
    """Return the line for an error that the user can correct; None for any other error."""
    if isinstance(error, ModuleNotFoundError) and error.name in _OF_SETUPTOOLS:
        return f'mmengine imports {error.name}, which is missing; run: pip install "setuptools<82"'
    if isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
        return f'{error.name}: missing; run: pip install "srgan_plugin[{error.name}]"'
    if isinstance(error, RuntimeError) and str(error).startswith(_NOT_ITS_WEIGHTS):
        return f"{one_line(error)}; name the checkpoint of a network with these options"
    if isinstance(error, ImportError) and error.name is None:  # raised by code that needs a package
        return one_line(error)
    # A worker that dies while it hands over a batch is a broken connection first.
    of_worker = isinstance(error, RuntimeError) and "DataLoader worker" in str(error)
    if of_worker or isinstance(error, ConnectionError | EOFError):
        line = _explain_dead_worker()
        if line or of_worker:
            return line
    if isinstance(error, URLError) and (line := _explain_download(error)):
        return line
    from_system = isinstance(error, OSError) and "[Errno " in str(error)
    out_of_memory = type(error).__name__ in ("MemoryError", "OutOfMemoryError")  # torch has its own
    named = isinstance(error, UserError) or getattr(error, "filename", None) is not None
    if isinstance(error, OSError) and from_system and not named:
        return one_line(OSError(f"{error}{_open_file(error)}"))
    if isinstance(error, UserError) or from_system or out_of_memory:
        return one_line(error)
    if not {"mmengine", "basicsr"} & sys.modules.keys():
        return None
    from .config_errors import explain_refusal

    line = explain_refusal(error)
    return line and " ".join(line.split())


def _open_file(error: OSError) -> str:
    """Return the file that was written when an error without a name occurred, and what to do."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        for value in frame.f_locals.values():
            writes = {*"wax+"} & {*str(getattr(value, "mode", ""))}
            if isinstance(value, io.IOBase) and writes:
                hint = "; make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
                return f": {getattr(value, 'name', '')}{hint}"
    return ""


def _explain_download(error: URLError) -> str | None:
    """Return the line for a file that torch or mmengine could not download: where to put it."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        url, target = (frame.f_locals.get(name) for name in ("url", "dst"))
        if isinstance(url, str) and isinstance(target, str | Path):
            reason = one_line(OSError(error.reason))
            return f"{url}: could not be downloaded ({reason}); put the file at {target}"
    return None


def _explain_dead_worker() -> str | None:
    """Return the line for a loader's worker that read a store whose file became shorter."""
    if store := sys.modules.get("srgan_plugin.io.lmdb_store"):
        try:
            store.check_lengths()
        except UserError as error:
            return one_line(error)
    return None


def one_line(error: BaseException) -> str:
    """Return the cause of an error in one line, also where it comes from a loader's worker.

    What a damaged or hostile file is cited with may hold anything, such as commands of a terminal,
    and be as long as the file.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if any(line.startswith("Original Traceback") for line in lines):
        lines = [lines[-1].partition(": ")[2] or lines[-1]]
    line = " ".join(" ".join(lines).split())
    if len(line) > _LONGEST_LINE:
        line = f"{line[: _LONGEST_LINE // 2]} … {line[-_LONGEST_LINE // 2 :]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def report_failure(source: Path, error: Exception) -> None:
    """Write the line for one file of several that failed, on standard error."""
    line = one_line(error)
    named = "" if str(source) in line else f"{source}: "
    write_note(f"error: {named}{line}")
