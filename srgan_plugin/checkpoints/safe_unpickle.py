"""Stand-ins for torch's safe loader, to read the log histories and options in checkpoints.

Checkpoints of mmengine contain log histories: `HistoryBuffer` objects, numpy arrays and scalars,
and references to `getattr` in `statistics_methods`. None of them can be allowed as safe globals:
`getattr` gives access to any code, and with a forged state of `numpy.dtype` numpy reads bytes as
object pointers. The stand-ins only decode numbers and fill containers. `materialize` then replaces
them by objects equal in value and type to the saved ones, so that a run can be resumed.
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
    """Log history of one curve: its values, and the number of samples per value."""

    log_history: NDArray[Any]
    count_history: NDArray[Any]
    max_length: int


class _Dtype:
    """Stand-in for `numpy.dtype` that allows numbers only; its state sets the byte order only."""

    def __init__(self, name: str, *_: object) -> None:
        if not _NUMBER.fullmatch(name):
            raise UserError(f"expected numpy arrays of numbers, got type {name!r}")
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
    """Stand-in for `numpy.ndarray`; its state sets `value`."""

    value: NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = dtype.decode(raw, shape, fortran=fortran)


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _frombuffer(raw: bytearray, dtype: _Dtype, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    """Decode an array, in place of the function with which numpy unpickles it in protocol 5."""
    return dtype.decode(bytes(raw), shape, fortran=order == "F")


class _Set(set[Any]):
    """Stand-in for a set; `pickle_protocol` writes each batch of items as a state."""

    def __setstate__(self, items: tuple[Any, ...]) -> None:
        self.update(items)


class _History:
    """Stand-in for mmengine's `HistoryBuffer`; functions in its state are ignored."""

    state: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class _Namespace:
    """Stand-in for `argparse.Namespace`, in which many scripts save their options."""

    state: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


def _getattr(owner: object, name: str) -> str:
    """Return the name of a method of `HistoryBuffer`, in place of `getattr`."""
    if owner is not _History:
        raise UserError("expected getattr for methods of HistoryBuffer only, got another object")
    return name


class _Name:
    """Stand-in for a type that is named but not called, such as the factory of a `defaultdict`."""

    def __init__(self, value: type) -> None:
        self.value = value


class _First:
    """First item of a list or dict that represents another container, for the other items.

    torch's safe loader fills lists and dicts only.
    """

    def __init__(self, container: Any) -> None:
        self.container = container


def _deque(items: Iterable[Any] = (), maxlen: int | None = None) -> list[Any]:
    return [_First(deque(maxlen=maxlen)), *items]


def _defaultdict(factory: Any = None, items: Any = ()) -> dict[Any, Any]:
    return {_First(defaultdict(_as_type(factory))): None, **dict(items)}


def _no_bytes() -> bytes:
    """Return `b""`, which is pickled as `bytes()`; `bytes(n)` would allocate n bytes."""
    return b""


def _bytearray(content: bytes | str = b"", encoding: str = "latin1") -> bytearray:
    """Return a `bytearray` of bytes or of a string; `bytearray(n)` would allocate n bytes."""
    if isinstance(content, str):
        content = content.encode(encoding)
    if not isinstance(content, bytes):
        raise UserError(f"expected a bytearray of bytes, got one of {type(content).__name__}")
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
    """Return the factory of a `defaultdict`, which must be a plain type."""
    found = factory.value if isinstance(factory, _Name) else _TYPES.get(factory, factory)
    if found is not None and found not in _FACTORIES:
        raise UserError("expected a plain type as factory of a defaultdict, got something else")
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
        for package in ("core", "_core")  # in numpy 1 and in numpy 2
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
    """Replace the stand-ins by the objects that were saved; lists and dicts are changed in place.

    Args:
        loaded: Result of `torch.load` with `STAND_INS` as safe globals.
        history: Class of log histories, called with log_history, count_history and max_length.

    Returns:
        `loaded`, or the object in its place if it is a stand-in itself.

    Raises:
        UserError: A function or class remains, which a stand-in replaced.
    """
    return _Materializer(history).visit(loaded)


class _Materializer:
    """Traversal that visits each object once, because containers may contain themselves."""

    def __init__(self, history: Callable[..., object]) -> None:
        self._history = history
        self._done: dict[int, Any] = {}
        self._alive: list[Any] = []  # visited objects, so that their ids are not reused

    def visit(self, item: Any) -> Any:
        """Return the object in place of an item."""
        if id(item) not in self._done:
            self._alive.append(item)
            self._done[id(item)] = item
            self._done[id(item)] = self._replace(item)
        return self._done[id(item)]

    def _replace(self, item: Any) -> Any:
        if isinstance(item, dict | list | set):
            return self._refill(item)
        if type(item) in (tuple, frozenset):
            return type(item)(map(self.visit, item))
        if isinstance(item, _History):
            log, count = (self.visit(item.state[k]) for k in ("_log_history", "_count_history"))
            return self._history(log, count, item.state["max_length"])
        if isinstance(item, _Namespace):
            return argparse.Namespace(**self.visit(item.state))
        if isinstance(item, torch.Tensor):
            self.visit(vars(item))
        return _materialize_leaf(item)

    def _refill(self, item: Any) -> Any:
        """Fill a container, or the one in its first item, with the visited items."""
        items = list(item.items() if isinstance(item, dict) else item)
        target, first = item, next(iter(item), None)
        if isinstance(first, _First):
            del items[0]
            target = self._done[id(item)] = first.container
        elif isinstance(item, _Set):
            target = self._done[id(item)] = set()
        target.clear()  # keeps the attributes of an OrderedDict and the factory of a defaultdict
        # Item by item, because `update` of a Counter adds.
        if isinstance(target, dict):
            for key, value in items:
                target[self.visit(key)] = self.visit(value)
        elif isinstance(target, set):
            target.update(map(self.visit, items))
        else:
            target.extend(map(self.visit, items))
        return target


def _materialize_leaf(item: Any) -> Any:
    """Return the value or type of a stand-in that is not a container."""
    if isinstance(item, _Array | _Dtype | _Name):
        return item.value
    if isinstance(item, type) or callable(item):
        if item in _CALLABLES:
            raise UserError("expected values, got a function or class of mmengine or numpy")
        return _TYPES.get(item, item)
    return item
