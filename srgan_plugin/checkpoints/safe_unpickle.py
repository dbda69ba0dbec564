"""What mmengine writes beside the weights, read without trusting it.

mmengine's checkpoints hold log histories: objects of its own, numpy arrays and scalars, and, in
`statistics_methods`, a reference to `getattr`. None of these can be allowed as they are: `getattr`
reaches any code, and a forged `numpy.dtype` state makes numpy take bytes for object pointers (a
crash at best). So the names are answered by the stand-ins below, which only ever decode numbers and
fill containers. What comes out equals what was saved, in value and type: a run resumes from it.
"""

import argparse
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from srgan_plugin.errors import UserError

_NUMBER = re.compile(r"b1|[iu][1248]|f[248]|c8|c16")


class History(NamedTuple):
    """A log history: the values of one curve, and how many samples stand behind each."""

    log_history: NDArray[Any]
    count_history: NDArray[Any]
    max_length: int


class _Dtype:
    """`numpy.dtype`: numbers only, and its state tells nothing but the byte order."""

    def __init__(self, name: str, *_: object) -> None:
        if not _NUMBER.fullmatch(name):
            raise UserError(f"numpy data of type {name!r}, where only numbers are read")
        self.value = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.value = self.value.newbyteorder(state[1])

    def decode(self, raw: bytes, shape: tuple[int, ...], *, fortran: bool) -> NDArray[Any]:
        flat: NDArray[Any] = np.frombuffer(raw, self.value)
        array: NDArray[Any] = flat.reshape(shape, order="F" if fortran else "C").copy("K")
        return array


def _scalar(dtype: _Dtype, raw: bytes) -> Any:
    (value,) = np.frombuffer(raw, dtype.value)
    return value


class _Array:
    """`numpy.ndarray`; `value` is there after its state has come."""

    value: NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = dtype.decode(raw, shape, fortran=fortran)


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _frombuffer(raw: bytearray, dtype: _Dtype, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    """Stand in for the function by which numpy pickles an array since protocol 5."""
    return dtype.decode(bytes(raw), shape, fortran=order == "F")


class _Set(set[Any]):
    """A set, which `protocols` has filled by its state, once for each batch of items."""

    def __setstate__(self, items: tuple[Any, ...]) -> None:
        self.update(items)


class _History:
    """mmengine's `HistoryBuffer`, whose state also carries functions that are not wanted."""

    state: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class _Namespace:
    """`argparse.Namespace`, in which many scripts save their options beside the weights."""

    state: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


def _getattr(owner: object, name: str) -> str:
    """`getattr`, which mmengine needs for `HistoryBuffer.mean` and its like, and nothing else."""
    if owner is not _History:
        raise UserError("a call of getattr")
    return name


class _Name:
    """A type that is only referred to, as the factory of a `defaultdict` is; calling it fails."""

    def __init__(self, value: type) -> None:
        self.value = value


class _First:
    """First item of a list or dict that is to become the items of another container.

    torch's reader fills no others.
    """

    def __init__(self, container: Any) -> None:
        self.container = container


def _deque(items: Iterable[Any] = (), maxlen: int | None = None) -> list[Any]:
    return [_First(deque(maxlen=maxlen)), *items]


def _defaultdict(factory: Any = None, items: Any = ()) -> dict[Any, Any]:
    return {_First(defaultdict(_as_type(factory))): None, **dict(items)}


def _no_bytes() -> bytes:
    """`bytes()`, as which `b""` is saved; with an argument it would reserve that much memory."""
    return b""


def _bytearray(content: bytes | str = b"", encoding: str = "latin1") -> bytearray:
    """`bytearray` of bytes or text; a number would reserve that much memory."""
    if isinstance(content, str):
        content = content.encode(encoding)
    if not isinstance(content, bytes):
        raise UserError(f"a bytearray of {type(content).__name__}")
    return bytearray(content)


_TYPES: dict[Any, type] = {
    _Array: np.ndarray,
    _Dtype: np.dtype,
    _deque: deque,
    _defaultdict: defaultdict,
    _no_bytes: bytes,
}
_FACTORIES = (list, dict, set, frozenset, tuple, int, float, bool, str, deque, Counter, OrderedDict)


def _as_type(factory: Any) -> Any:
    """Return a `defaultdict`'s factory: a plain type, which makes an empty container or zero."""
    found = factory.value if isinstance(factory, _Name) else _TYPES.get(factory, factory)
    if found is not None and found not in _FACTORIES:
        raise UserError("a defaultdict of what is not a plain type")
    return found


STAND_INS: list[Callable[..., Any] | tuple[Any, str]] = [
    (_History, "mmengine.logging.history_buffer.HistoryBuffer"),
    (_Namespace, "argparse.Namespace"),
    (_getattr, "builtins.getattr"),
    (_Array, "numpy.ndarray"),
    (_Dtype, "numpy.dtype"),
    (_Set, "srgan_plugin.set"),
    (_bytearray, "srgan_plugin.bytearray"),
    *(
        (stand_in, f"numpy.{package}.multiarray.{name}")
        for package in ("core", "_core")  # as numpy 1 and numpy 2 call it
        for name, stand_in in (("_reconstruct", _reconstruct), ("scalar", _scalar))
    ),
    *((_frombuffer, f"numpy.{package}.numeric._frombuffer") for package in ("core", "_core")),
    (_deque, "collections.deque"),
    (_defaultdict, "collections.defaultdict"),
    (frozenset, "builtins.frozenset"),
    (_no_bytes, "builtins.bytes"),
    *((_Name(t), f"builtins.{t.__name__}") for t in (list, dict, tuple, int, float, bool, str)),
]
_CALLABLES = (_getattr, _scalar, _reconstruct, _frombuffer, _History, _Namespace, _Set, _bytearray)


def materialize(loaded: Any, history: Callable[..., object]) -> Any:
    """Put what was saved in the place of what stood in for it; lists and dicts stay the same.

    Args:
        loaded: What `torch.load` returned under `STAND_INS`.
        history: Makes a history of `log_history`, `count_history` and `max_length`.
    """
    done: dict[int, Any] = {}
    alive: list[Any] = []  # what is replaced, lest another object gets its id

    def visit(item: Any) -> Any:
        if id(item) not in done:
            alive.append(item)
            done[id(item)] = item  # containers may hold themselves
            done[id(item)] = replace(item)
        return done[id(item)]

    def replace(item: Any) -> Any:
        if isinstance(item, dict | list | set):
            return refill(item)
        if type(item) in (tuple, frozenset):
            return type(item)(map(visit, item))
        if isinstance(item, _History):
            log, count = (visit(item.state[key]) for key in ("_log_history", "_count_history"))
            return history(log, count, item.state["max_length"])
        if isinstance(item, _Namespace):
            return argparse.Namespace(**visit(item.state))
        if isinstance(item, torch.Tensor):
            visit(vars(item))
        return _settled(item)

    def refill(item: Any) -> Any:
        items = list(item.items() if isinstance(item, dict) else item)
        target, first = item, next(iter(item), None)
        if isinstance(first, _First):
            del items[0]
            target = done[id(item)] = first.container
        elif isinstance(item, _Set):
            target = done[id(item)] = set()
        target.clear()  # keeps the attributes of an OrderedDict and the factory of a defaultdict
        # One at a time: a Counter's `update` would add to what is there.
        if isinstance(target, dict):
            for key, value in items:
                target[visit(key)] = visit(value)
        elif isinstance(target, set):
            target.update(map(visit, items))
        else:
            target.extend(map(visit, items))
        return target

    return visit(loaded)


def _settled(item: Any) -> Any:
    """Return the value or type that a stand-in without items stood in for."""
    if isinstance(item, _Array | _Dtype | _Name):
        return item.value
    if isinstance(item, type) or callable(item):
        if item in _CALLABLES:
            raise UserError("a reference to a function or class of mmengine or numpy")
        return _TYPES.get(item, item)
    return item
