"""How every tool ends: one line on standard error where the cause is the user's input.

Exit status 0 is success, 1 a failure, 2 a wrong command line (argparse's own), 130 an interrupt.
`SRGAN_DEBUG=1` shows the stack trace.
"""

import functools
import os
import re
import sys
from collections.abc import Callable
from typing import ParamSpec

from srgan_plugin.errors import UserError

P = ParamSpec("P")


# mmengine's registry puts `class `X` in module.py: ` before the message of whatever a constructor
# raised; torch's loader puts a whole stack trace of the worker before it.
_REGISTRY_PREFIX = re.compile(r"^(class|function|method)? ?`[^`]+` in [\w./]+?(\.py)?: ")


# What mmengine imports of setuptools: at the start of a run, and for `_base_ = 'package::…'`.
_OF_SETUPTOOLS = ("distutils", "pkg_resources")


def command(main: Callable[P, None]) -> Callable[P, None]:
    """Convert an error that the user can correct into one line and status 1.

    Any other error is a bug and keeps its stack trace.
    """

    @functools.wraps(main)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            main(*args, **kwargs)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            raise SystemExit(130) from None
        except Exception as error:
            message = _explain(error)
            if os.environ.get("SRGAN_DEBUG") or message is None:
                raise
            sys.stderr.write(f"error: {message}\n")
            raise SystemExit(1) from None

    return wrapper


def _explain(error: Exception) -> str | None:
    """Return the line for an error that the user can correct; None for any other error."""
    if isinstance(error, TypeError):
        return _explain_bad_kwargs(error)
    if isinstance(error, ModuleNotFoundError) and error.name in _OF_SETUPTOOLS:
        return f'mmengine imports {error.name}, which is missing; run: pip install "setuptools<82"'
    if isinstance(error, RuntimeError) and "DataLoader worker" in str(error):
        return _explain_dead_worker()
    from_system = isinstance(error, OSError) and ("[Errno " in str(error))
    from_config = isinstance(error, ValueError) and _REGISTRY_PREFIX.match(str(error))
    if isinstance(error, UserError | MemoryError) or from_system or from_config:
        return one_line(error)
    return None


def _explain_bad_kwargs(error: TypeError) -> str | None:
    """The line for a config's argument that does not exist; None for a mistake of ours."""
    if "mmengine" not in sys.modules:
        return None
    from srgan_plugin.registry import explain_bad_kwargs

    return explain_bad_kwargs(error)


def _explain_dead_worker() -> str | None:
    """Return the line for a loader's worker that read a store whose file became shorter."""
    if store := sys.modules.get("srgan_plugin.io.lmdb_store"):
        try:
            store.check_lengths()
        except UserError as error:
            return one_line(error)
    return None


def one_line(error: BaseException) -> str:
    """The cause of `error` in one line, without what mmengine and torch wrap around it."""
    text = str(error).strip() or type(error).__name__
    if "Original Traceback" in text:
        text = text.splitlines()[-1].partition(": ")[2] or text.splitlines()[-1]
    text = " ".join(text.split())
    while (shorter := _REGISTRY_PREFIX.sub("", text)) != text:
        text = shorter
    return text
