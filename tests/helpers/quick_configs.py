"""The same text of a config for less: mmengine formats it six times per run."""

from collections.abc import Callable
from typing import Any


def format_once(format_code: Callable[..., Any]) -> Callable[..., Any]:
    """Make yapf's `FormatCode` remember its results: six times it takes longer than a training."""
    known: dict[tuple[str, str], Any] = {}

    def remember(text: str, **options: Any) -> Any:
        key = text, repr(options)
        if key not in known:
            known[key] = format_code(text, **options)
        return known[key]

    return remember
