"""Errors that a user causes. Every package may import this module."""

from collections.abc import Iterable
from numbers import Real


class UserError(ValueError):
    """A value, file or config that the user can correct.

    The command line shows its message in one line. Any other error keeps its stack trace.
    """


class PluginWarning(UserWarning):
    """Something that may not be what the user means; the tools show it on the console."""


class FileError(UserError, OSError):
    """A file that cannot be written, read or downloaded."""


class MissingFileError(FileError, FileNotFoundError):
    """A file or folder that does not exist."""


def check_option(name: str, value: object, options: Iterable[object]) -> None:
    """Refuse `value` unless it is one of `options`.

    Args:
        name: The argument's name, as the user wrote it.
        value: The value given.
        options: The values allowed.

    Raises:
        UserError: `value` is not among `options`; the message lists them.
    """
    allowed = list(options)
    if value not in allowed:
        raise UserError(
            f"{name} must be one of {', '.join(repr(option) for option in allowed)}, got {value!r}"
        )


def check_at_least(minimum: int, **values: object) -> None:
    """Refuse each of `values` that is not a number from `minimum` on.

    Args:
        minimum: The smallest value allowed.
        values: The values given, by the name of the argument as the user wrote it.

    Raises:
        UserError: One of them is not; the message names it.
    """
    for name, value in values.items():
        if not isinstance(value, Real) or not float(value) >= minimum:
            raise UserError(f"{name}: expected a number of at least {minimum}, got {value!r}")
