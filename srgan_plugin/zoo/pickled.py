"""What mmengine writes beside the weights, read without trusting it.

mmengine's checkpoints hold log histories: objects of its own, numpy arrays and scalars, and, in
`statistics_methods`, a reference to `getattr`. None of these can be allowed as they are: `getattr`
reaches any code, and a forged `numpy.dtype` state makes numpy take bytes for object pointers (a
crash at best). So the names are answered by the stand-ins below, which only ever decode numbers.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_NUMBER = re.compile(r"b1|[iu][1248]|f[248]")


class History(NamedTuple):
    """A log history: the values of one curve, and how many samples stand behind each."""

    log_history: NDArray[Any]
    count_history: NDArray[Any]
    max_length: int


class _Dtype:
    """`numpy.dtype`: numbers only, and its state tells nothing but the byte order."""

    def __init__(self, name: str, *_: object) -> None:
        if not _NUMBER.fullmatch(name):
            raise ValueError(f"numpy data of type {name!r}, where only numbers are read")
        self.number = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.number = self.number.newbyteorder(state[1])

    def decode(self, raw: bytes) -> NDArray[Any]:
        return np.frombuffer(raw, self.number)


def _scalar(dtype: _Dtype, raw: bytes) -> Any:
    (value,) = dtype.decode(raw)
    return value


class _Array:
    """`numpy.ndarray`; `value` is there after its state has come."""

    value: NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = dtype.decode(raw).reshape(shape, order="F" if fortran else "C").copy()


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _frombuffer(raw: bytearray, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    """What numpy pickles an array as since protocol 5."""
    array = _Array()
    array.value = dtype.decode(bytes(raw)).reshape(shape, order="F" if order == "F" else "C").copy()
    return array


class _Set(set[Any]):
    """A set, which `protocols` has filled by its state, once for each batch of items."""

    def __setstate__(self, items: tuple[Any, ...]) -> None:
        self.update(items)


class _History:
    """mmengine's `HistoryBuffer`, whose state also carries functions that are not wanted."""

    state: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


def _getattr(owner: object, name: str) -> str:
    """`getattr`, which mmengine needs for `HistoryBuffer.mean` and its like, and nothing else."""
    if owner is not _History:
        raise ValueError("a call of getattr")
    return name


STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_History, "mmengine.logging.history_buffer.HistoryBuffer"),
    (_getattr, "builtins.getattr"),
    (_Array, "numpy.ndarray"),
    (_Dtype, "numpy.dtype"),
    (_Set, "srgan_plugin.set"),
    *(
        (stand_in, f"numpy.{package}.multiarray.{name}")
        for package in ("core", "_core")  # as numpy 1 and numpy 2 call it
        for name, stand_in in (("_reconstruct", _reconstruct), ("scalar", _scalar))
    ),
    *((_frombuffer, f"numpy.{package}.numeric._frombuffer") for package in ("core", "_core")),
]


def settle(loaded: Any, history: Callable[..., object]) -> Any:
    """Puts arrays and histories in the place of what stood in for them; containers stay the same.

    Args:
        loaded: what `torch.load` returned under `STAND_INS`.
        history: makes a history of `log_history`, `count_history` and `max_length`.
    """
    done: dict[int, Any] = {}

    def visit(item: Any) -> Any:
        if id(item) not in done:
            done[id(item)] = item  # containers may hold themselves
            done[id(item)] = replace(item)
        return done[id(item)]

    def replace(item: Any) -> Any:
        if isinstance(item, _Array):
            return item.value
        if isinstance(item, _Set):
            return set(item)
        if isinstance(item, _History):
            log, count = (visit(item.state[key]) for key in ("_log_history", "_count_history"))
            return history(log, count, item.state["max_length"])
        if isinstance(item, dict):
            item.update({key: visit(value) for key, value in item.items()})
        elif isinstance(item, list):
            item[:] = map(visit, item)
        elif type(item) is tuple:
            return tuple(map(visit, item))
        return item

    return visit(loaded)
