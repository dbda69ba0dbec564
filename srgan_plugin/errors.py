"""Errors about a user's input. Every package may import this."""

from collections.abc import Iterable


def check_option(name: str, value: object, options: Iterable[object]) -> None:
    """Refuse `value` unless it is one of `options`.

    Args:
        name: The argument's name, as the user wrote it.
        value: What came.
        options: What is allowed.

    Raises:
        ValueError: `value` is not among `options`; the message lists them.
    """
    allowed = list(options)
    if value not in allowed:
        raise ValueError(
            f"{name} must be one of {', '.join(repr(option) for option in allowed)}, got {value!r}"
        )
