"""Arguments of MMagic's that our parts accept where they have the one value that ours keep."""

from collections.abc import Collection, Sequence
from typing import Any

from srgan_plugin.errors import UserError


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return MMagic's "one or a list of them" as a tuple; nothing for None."""
    if value is None:
        return ()
    alone = isinstance(value, str) or not isinstance(value, Sequence)
    return (value,) if alone else tuple(value)


def as_list(value: Any) -> list[Any]:
    """Return MMagic's "one or a list of them" as a list, which is what its attributes are."""
    return list(as_tuple(value))


def require_supported(owner: str, name: str, value: Any, kept: Collection[Any]) -> None:
    """Refuse any other value of an argument than those that ours keep.

    Raises:
        ValueError: With both, and whose class keeps the others.
    """
    if value not in kept:
        expected = " or ".join(map(repr, kept))
        raise UserError(
            f"{owner}: {name} is {expected} here, got {value!r}; others: type='mmagic.{owner}'"
        )
