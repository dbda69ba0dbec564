"""Which network weights belong to, by their keys and shapes."""

from collections.abc import Mapping
from dataclasses import dataclass

from .layouts import LAYOUTS, State, StateDictLayout


@dataclass(frozen=True)
class Detection:
    """A layout that was recognised, and the arguments of the network that the weights fit."""

    layout: StateDictLayout
    arguments: Mapping[str, int | str]

    def __str__(self) -> str:
        words = self.layout.description.format(network=self.layout.network, **self.arguments)
        return f"{words} in {self.layout.origin} keys"


def detect_layout(state: State) -> Detection | None:
    """Finds the first layout of the table that the weights have; None if it is none of them."""
    for layout in LAYOUTS:
        if all(sign in state for sign in layout.detect_keys):
            try:
                read = {name: reading(state) for name, reading in layout.arguments.items()}
            except (KeyError, IndexError, ZeroDivisionError):  # the right keys, absurd shapes
                continue
            if all(read.values()):
                return Detection(layout, read)
    return None


def describe(state: State) -> str:
    """Says in words what weights are, such as 'MSRResNet x4 (64 features, 16 blocks) in … keys'.

    Args:
        state: bare weights by key, as `unwrap` returns them.
    """
    found = detect_layout(state)
    first = ", ".join(list(state)[:3])
    return str(found) if found else f"an unknown network of {len(state)} tensors ({first}, …)"
