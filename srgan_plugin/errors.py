"""Errors that a user causes. Every package may import this module."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from numbers import Integral, Real


class UserError(ValueError):
    """Error in a value, file or config that the user can correct.

    The command line prints its message as one line. Any other error keeps its stack trace.
    """


class PluginWarning(UserWarning):
    """Warning about a value or file that may be a mistake; the tools print it on the console."""


class FileError(UserError, OSError):
    """Error in writing, reading or downloading a file."""


class MissingFileError(FileError, FileNotFoundError):
    """Error for a file or folder that does not exist."""


@contextmanager
def prefix_errors(name: object) -> Iterator[None]:
    """Prepend `name`, such as a path, to the message of a `UserError` raised in the context.

    Raises:
        UserError: An error of the same class with that message.
    """
    try:
        yield
    except UserError as error:
        raise type(error)(f"{name}: {error}") from None


def check_option(name: str, value: object, options: Iterable[object]) -> None:
    """Raise `UserError` if `value` is not one of `options`.

    Args:
        name: Name of the argument, as the user wrote it.
        value: Value of the argument.
        options: Values allowed.

    Raises:
        UserError: `value` is not among `options`; the message lists them and names the nearest.
    """
    allowed = list(options)
    if value not in allowed:
        near = get_close_matches(str(value), map(str, allowed), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        expected = ", ".join(map(repr, allowed))
        raise UserError(f"{name}: expected one of {expected}, got {value!r}{hint}")


def check_at_least(minimum: int, **values: object) -> None:
    """Raise `UserError` if one of `values` is not a number of at least `minimum`.

    Args:
        minimum: Smallest value allowed.
        values: Values by name of the argument, as the user wrote it.

    Raises:
        UserError: A value is smaller or not a number; the message names the argument.
    """
    for name, value in values.items():
        if not isinstance(value, Real) or not float(value) >= minimum:
            raise UserError(f"{name}: expected a number of at least {minimum}, got {value!r}")


def check_factor(**values: object) -> None:
    """Raise `UserError` if one of `values`, such as a weight of a loss, is no finite number from 0.

    Args:
        values: Values by name of the argument, as the user wrote it.

    Raises:
        UserError: A value is negative, infinite or not a number, such as True or "1"; the message
            names the argument.
    """
    for name, value in values.items():
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not is_number or not 0 <= float(value) < float("inf"):  # type: ignore[arg-type]
            raise UserError(f"{name}: expected a finite number of at least 0, got {value!r}")


def check_count(minimum: int, **values: object) -> None:
    """Raise `UserError` if one of `values` is not an integer of at least `minimum`.

    Args:
        minimum: Smallest value allowed.
        values: Values by name of the argument, as the user wrote it.

    Raises:
        UserError: A value is smaller or not an integer, such as 4.0 or True; the message names the
            argument.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
            raise UserError(f"{name}: expected an integer of at least {minimum}, got {value!r}")
