"""Compare every object of two checkpoints; `make soak` builds on this, too."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

Keys = tuple[Any, ...]

#: All that may differ between an undisturbed run and one that was stopped and resumed: what a clock
#: said, and what names the process or says that it resumed. Each is the beginning of a path.
MAY_DIFFER: tuple[Keys, ...] = (
    ("meta", "time"),
    ("meta", "experiment_name"),
    *(
        (*cfg, name)
        for cfg in (("meta", "cfg"), ("message_hub", "runtime_info", "cfg"))
        for name in ("load_from", "resume", "experiment_name")
    ),
    ("message_hub", "runtime_info", "experiment_name"),
    ("message_hub", "log_scalars", "train/time"),
    ("message_hub", "log_scalars", "train/data_time"),
    ("message_hub", "log_scalars", "train/data_wait_fraction"),
    ("message_hub", "log_scalars", "val/time"),
    ("message_hub", "log_scalars", "val/data_time"),
    ("message_hub", "runtime_info", "eta"),
)


def assert_same_checkpoint(
    expected: str | Path, actual: str | Path, *, ignore: tuple[Keys, ...] = MAY_DIFFER
) -> None:
    """Fail with one line per object in which two checkpoint files of mmengine differ.

    Files are read by pickle itself, not by the package's reader, which may be what is wrong.
    """
    found = differences(read_trusted(expected), read_trusted(actual), ignore=ignore)
    title = f"{actual} differs from {expected} in {len(found)} objects (expected, then actual):"
    assert not found, "\n".join([title, *found[:50]])


def read_trusted(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint that a test wrote, with its folder's name taken out of all strings."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    state = _without(state, str(Path(path).parent))
    for notes in (state.get("meta", {}), state.get("message_hub", {}).get("runtime_info", {})):
        if "cfg" in notes:  # mmengine's text of the config
            notes["cfg"] = Config.fromstring(notes["cfg"], ".py").to_dict()
    return state


def differences(
    expected: Any,
    actual: Any,
    *,
    ignore: tuple[Keys, ...] = MAY_DIFFER,
    atol: float = 0.0,
    path: Keys = (),
) -> list[str]:
    """Return one line per object that differs in type, value, data type, device or strides.

    Args:
        expected: Any nest of containers, tensors, arrays, numbers, functions and plain objects.
        actual: What is compared with it. NaN equals NaN; the order of a dict's keys is free.
        ignore: Beginnings of paths that are not compared, as tuples of keys.
        atol: Floating-point values and elements may differ by this much.
        path: Where both objects are, for the messages.
    """
    return list(_differences(expected, actual, ignore, atol, path))


def _differences(a: Any, b: Any, ignore: tuple[Keys, ...], atol: float, at: Keys) -> Iterator[str]:
    if _ignored(at, ignore):
        return
    if type(a) is not type(b):
        yield f"{_name(at)}: {type(a).__name__} {a!r:.80} != {type(b).__name__} {b!r:.80}"
    elif isinstance(a, Mapping):
        for key in [*a, *(key for key in b if key not in a)]:
            if key in a and key in b:
                yield from _differences(a[key], b[key], ignore, atol, (*at, key))
            elif not _ignored((*at, key), ignore):
                only, value = ("expected", a[key]) if key in a else ("actual", b[key])
                yield f"{_name((*at, key))}: only in {only}, {value!r:.80}"
    elif isinstance(a, Tensor | np.ndarray):
        yield from _array_differences(a, b, atol, at)
    elif isinstance(a, set | frozenset):
        if a != b:
            yield f"{_name(at)}: {sorted(map(repr, a - b))} != {sorted(map(repr, b - a))}"
    elif isinstance(a, Sequence) and not isinstance(a, str | bytes | bytearray):
        if len(a) != len(b):
            yield f"{_name(at)}: {len(a)} items != {len(b)} items ({a!r:.80} != {b!r:.80})"
        for index, (left, right) in enumerate(zip(a, b, strict=False)):
            yield from _differences(left, right, ignore, atol, (*at, index))
    elif isinstance(a, float | np.floating):
        if not (a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= atol):
            yield f"{_name(at)}: {a!r} != {b!r}"
    elif hasattr(a, "__dict__") and not callable(a):
        yield from _differences(vars(a), vars(b), ignore, atol, (*at, type(a).__name__))
    elif a != b:
        yield f"{_name(at)}: {a!r:.200} != {b!r:.200}"


def _ignored(path: Keys, prefixes: tuple[Keys, ...]) -> bool:
    return any(path[: len(prefix)] == prefix for prefix in prefixes)


def _array_differences(a: Any, b: Any, atol: float, at: Keys) -> Iterator[str]:
    for what in ("dtype", "device", "layout", "shape", "stride", "strides", "requires_grad"):
        left, right = getattr(a, what, None), getattr(b, what, None)
        if what == "stride" and isinstance(a, Tensor):
            left, right = a.stride(), b.stride()
        if left != right and not (what.startswith("stride") and 0 in a.shape):
            yield f"{_name(at)}: {what} {left} != {right}"
            if what in ("dtype", "shape"):
                return
    left, right = (np.asarray(_plain(x)) for x in (a, b))
    same = left == right
    if left.dtype.kind in "fc":
        same |= np.isnan(left) & np.isnan(right)
        with np.errstate(invalid="ignore"):
            same |= np.abs(left - right) <= atol
    if same.all():
        return
    first = tuple(int(i[0]) for i in np.nonzero(np.atleast_1d(~same)))
    values = [np.atleast_1d(x)[first] for x in (left, right)]
    largest = np.abs(left.astype("f8") - right.astype("f8"))[~same].max()
    yield (
        f"{_name(at)}: {np.count_nonzero(~same)} of {same.size} elements differ, by up to "
        f"{largest:.3g}; first {list(first)}: {values[0]!r} != {values[1]!r}"
    )


def _plain(array: Any) -> Any:
    if not isinstance(array, Tensor):
        return array
    array = array.detach().cpu()
    return array.float() if array.dtype in (torch.bfloat16, torch.float16) else array


def _name(path: Keys) -> str:
    return "".join(f"[{key!r}]" for key in path) or "the whole"


def _without(item: Any, folder: str) -> Any:
    """Replace a folder's name in the strings of plain containers."""
    if isinstance(item, str):
        return item.replace(folder, "FOLDER")
    if isinstance(item, dict):
        for key, value in item.items():
            item[key] = _without(value, folder)
    elif isinstance(item, list):
        item[:] = [_without(value, folder) for value in item]
    return item
