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
            message = (
                _explain_bad_kwargs(error) if isinstance(error, TypeError) else one_line(error)
            )
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


def _explain_bad_kwargs(error: TypeError) -> str | None:
    """The line for a config's argument that does not exist; None for a mistake of ours."""
    if "mmengine" not in sys.modules:
        return None
    from srgan_plugin.registry import explain_bad_kwargs

    return explain_bad_kwargs(error)


def one_line(error: BaseException) -> str:
    """The cause of `error` in one line, without what mmengine and torch wrap around it."""
    text = str(error).strip() or type(error).__name__
    if "Original Traceback" in text:
        text = text.splitlines()[-1].partition(": ")[2] or text.splitlines()[-1]
    text = " ".join(text.split())
    while (shorter := _REGISTRY_PREFIX.sub("", text)) != text:
        text = shorter
    return text
