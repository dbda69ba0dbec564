"""Convert errors that the user can correct into one line on standard error and an exit status.

The exit status is 0 for success, 1 for a failure, 2 for a wrong command line (set by argparse) and
130 for an interrupt. With `SRGAN_DEBUG=1` the stack trace is shown instead.
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
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec
from urllib.error import URLError

from srgan_plugin.errors import PluginWarning, UserError

from .parser import Parser
from .terminal import write_note

P = ParamSpec("P")

_MAX_LINE = 2000  # characters
_WORKER_GRACE_SECONDS = 5  # seconds for a worker of a data loader to terminate
_EXTRAS = ("wandb",)  # packages that mmengine or BasicSR import if a setting needs them
_STATE_DICT_MISMATCH = "Error(s) in loading state_dict for "  # start of torch's message
_SHAPES_DIFFER = "Image shapes are different"  # of PSNR and SSIM of MMagic and BasicSR
# Parts of setuptools that mmengine imports: at the start of a run, and for `_base_ = 'package::…'`.
_SETUPTOOLS_MODULES = ("distutils", "pkg_resources")


def command(main: Callable[P, None]) -> Callable[P, None]:
    """Convert an error that the user can correct into one line and status 1.

    Any other error is a bug and keeps its stack trace.
    """

    @functools.wraps(main)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        # Without this, logging prints a stack trace for each line that a full disk cannot take.
        logging.raiseExceptions = bool(os.environ.get("SRGAN_DEBUG"))
        _show_warnings_as_notes()
        Parser.given_as.clear()
        given = args[0] if args and isinstance(args[0], list) else sys.argv[1:]
        try:
            with warnings.catch_warnings():
                warnings.showwarning = partial(_show_warning, warnings.showwarning)
                if "--verbose" not in given:
                    hide_foreign_warnings()
                main(*args, **kwargs)
            return
        except KeyboardInterrupt:
            line, status = "interrupted", 130
        except Exception as error:
            _ignore_worker_signals()
            interrupted = _caused_by_interrupt(error)
            reason = "" if interrupted else explain(error)
            if os.environ.get("SRGAN_DEBUG") or reason is None:
                raise
            line, status = ("interrupted", 130) if interrupted else (f"error: {reason}", 1)
        # Workers of data loaders are ended before the loaders, which would wait five seconds for
        # each, and before the exit of the process, where torch would report their end as a crash.
        workers = multiprocessing.active_children()
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join(_WORKER_GRACE_SECONDS)
        gc.collect()  # the run and its loaders, which the error referenced
        write_note(line)
        raise SystemExit(status)

    return wrapper


def _caused_by_interrupt(error: BaseException | None) -> bool:
    """Return whether an error was raised while a KeyboardInterrupt was handled.

    mmengine raises one if it is interrupted while it formats a config.
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


class _NoteHandler(logging.Handler):
    """Logging handler that writes records by `write_note`."""

    def emit(self, record: logging.LogRecord) -> None:
        write_note(self.format(record))


def _show_warnings_as_notes() -> None:
    logger = logging.getLogger("srgan_plugin")
    if not logger.hasHandlers():
        logger.addHandler(_NoteHandler(logging.WARNING))


def _show_warning(
    show: Callable[..., None], message: Warning | str, category: type[Warning], *place: Any
) -> None:
    """Write a warning of this package as one line, without the place in the code."""
    if issubclass(category, PluginWarning):
        write_note(f"WARNING: {message}")
    else:
        show(message, category, *place)


def hide_foreign_warnings() -> None:
    """Hide warnings of other packages, unless `python -W` or PYTHONWARNINGS is used."""
    if sys.warnoptions:
        return
    warnings.simplefilter("ignore")
    warnings.simplefilter("default", PluginWarning)
    # If HOME is read-only, both log in every process that they have no folder for their cache.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def _ignore_worker_signals() -> None:
    """Reset SIGCHLD, whose handler in torch raises when a worker of a data loader ends.

    It would raise while an error is being handled.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and hasattr(signal, "SIGCHLD") and multiprocessing.active_children():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _built_class(error: UserError) -> str:
    """Return `CLASS: ` if the error is of an argument of a class that mmengine built; else ""."""
    if "mmengine" not in sys.modules:
        return ""
    from srgan_plugin.registry import class_of_refused_argument

    name = class_of_refused_argument(error)
    return f"{name}: " if name else ""


def explain(error: Exception) -> str | None:
    """Return the line for an error that the user can correct; None for any other error."""
    if isinstance(error, UserError):
        return _as_typed(f"{_built_class(error)}{one_line(error)}")
    if isinstance(error, ImportError):
        return _explain_import(error)
    if isinstance(error, RuntimeError) and str(error).startswith(_STATE_DICT_MISMATCH):
        return f"{one_line(error)}; name the checkpoint of a network with these options"
    # A worker that dies while it sends a batch first shows up as a broken connection.
    of_worker = isinstance(error, RuntimeError) and "DataLoader worker" in str(error)
    if of_worker or isinstance(error, ConnectionError | EOFError):
        line = _explain_dead_worker()
        if line or of_worker:
            return line
    if isinstance(error, URLError) and (line := _explain_download(error)):
        return line
    if isinstance(error, OSError) and "[Errno " in str(error):  # raised by the system
        file = "" if error.filename is not None else _open_file(error)
        return one_line(OSError(f"{error}{file}"))
    if isinstance(error, AssertionError) and str(error).startswith(_SHAPES_DIFFER):
        return f"test images: {one_line(error)} GT and LR may be swapped, or the scale may differ"
    if type(error).__name__ in ("MemoryError", "OutOfMemoryError"):  # the latter is of torch
        return one_line(error)
    if not {"mmengine", "basicsr"} & sys.modules.keys():
        return None
    from .config_errors import explain_refusal

    line = explain_refusal(error)
    return line and " ".join(line.split())


def _as_typed(line: str) -> str:
    """Return a line that starts with the name of an argument with its option instead."""
    name, colon, rest = line.partition(": ")
    return Parser.given_as.get(name, name) + colon + rest


def _explain_import(error: ImportError) -> str | None:
    """Return the line for a package that must be installed."""
    if error.name is None:  # raised by a library to name the package; Python sets the name
        return one_line(error)
    if isinstance(error, ModuleNotFoundError) and error.name in _SETUPTOOLS_MODULES:
        return f'mmengine imports {error.name}, which is missing; run: pip install "setuptools<82"'
    if isinstance(error, ModuleNotFoundError) and error.name in _EXTRAS:
        return f'{error.name}: missing; run: pip install "srgan_plugin[{error.name}]"'
    return None


def _open_file(error: OSError) -> str:
    """Return a note on the file that was being written when an error without a name occurred."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        for value in frame.f_locals.values():
            writes = {*"wax+"} & {*str(getattr(value, "mode", ""))}
            if isinstance(value, io.IOBase) and writes:
                hint = "; make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
                return f": {getattr(value, 'name', '')}{hint}"
    return ""


def _explain_download(error: URLError) -> str | None:
    """Return the line for a file that torch or mmengine could not download."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        url, target = (frame.f_locals.get(name) for name in ("url", "dst"))
        if isinstance(url, str) and isinstance(target, str | Path):
            reason = one_line(OSError(error.reason))
            return f"{url}: could not be downloaded ({reason}); put the file at {target}"
    return None


def _explain_dead_worker() -> str | None:
    """Return the line if an open LMDB store was truncated, which kills the process reading it."""
    if store := sys.modules.get("srgan_plugin.io.lmdb_store"):
        try:
            store.check_lengths()
        except UserError as error:
            return one_line(error)
    return None


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line of printable characters.

    Messages can quote a damaged or hostile file, of any length and with control sequences of the
    terminal. The traceback that torch adds to an error in a worker is removed.
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if any(line.startswith("Original Traceback") for line in lines):
        lines = [lines[-1].partition(": ")[2] or lines[-1]]
    line = " ".join(" ".join(lines).split())
    if len(line) > _MAX_LINE:
        line = f"{line[: _MAX_LINE // 2]} … {line[-_MAX_LINE // 2 :]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def report_failure(source: Path, error: Exception) -> None:
    """Write the line for one failed file of several to standard error."""
    line = one_line(error)
    named = "" if str(source) in line else f"{source}: "
    write_note(f"error: {named}{line}")
