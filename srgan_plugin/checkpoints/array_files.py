"""Read weights from NumPy archives (.npz) and HDF5 files (Keras, TensorLayer) without running code.

Arrays are in the order of the layers if the file records it. Otherwise they are sorted by the
numbers in their names.
"""

import importlib.util
import json
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from srgan_plugin.errors import UserError

from .foreign_layers import to_state_dict

Arrays = dict[str, NDArray[Any]]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_NUMBERS = "fiub"  # `numpy.dtype.kind` of floats, integers and booleans
# Largest content in bytes: _MAX_GROWTH * file size + _ALWAYS_ALLOWED. Weights hardly compress.
_MAX_GROWTH = 4
_ALWAYS_ALLOWED = 1 << 26
# {dimensions of a layer's variables: their names}, because Keras 3 only numbers variables.
_VARIABLES: dict[tuple[int, ...], tuple[str, ...]] = {
    (4,): ("kernel",),
    (4, 1): ("kernel", "bias"),
    (1, 1, 1, 1): ("gamma", "beta", "moving_mean", "moving_variance"),
    (3,): ("alpha",),
}

Content = tuple[dict[str, Any], dict[str, Any]]


def array_file_reader(path: Path) -> Callable[[Path], Content] | None:
    """Return the function that reads a file; None for other formats, and for HDF5 without h5py.

    Args:
        path: The file. Its format is detected from the content, not from the name.

    Returns:
        A function that returns a state dict, and the SRResNet arguments that the file records.
    """
    with path.open("rb") as file:
        start = file.read(len(_HDF5))
    if start == _HDF5 and importlib.util.find_spec("h5py"):
        return _read_hdf5
    if start.startswith(b"PK\x03\x04") and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if names and all(name.endswith(".npy") for name in names):
            return _read_npz
    return None


def require_modest_size(claimed: int, path: Path) -> None:
    """Raise `UserError` for a small file with a huge content, which would exhaust the memory.

    Args:
        claimed: Size of the content in bytes, as stated in the file.
        path: The file.

    Raises:
        UserError: The content is much larger than the file.
    """
    size = path.stat().st_size
    allowed = _MAX_GROWTH * size + _ALWAYS_ALLOWED
    if claimed > allowed:
        raise UserError(
            f"expected at most {allowed} bytes of weights in {size} bytes, got {claimed} bytes"
        )


def _read_npz(path: Path) -> Content:
    arrays: Arrays = {}
    with zipfile.ZipFile(path) as archive:
        require_modest_size(sum(part.file_size for part in archive.infolist()), path)
        for part in archive.infolist():
            with archive.open(part) as file:
                value = _read_npy(file)
            arrays |= _flatten(part.filename.removesuffix(".npy"), value)
    return to_state_dict(_sort_by_layer(arrays) or arrays), {}


def _flatten(name: str, value: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the arrays in nested lists and dicts as (path, array)."""
    if isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, inner in items:
            yield from _flatten(f"{name}/{key}", inner)
    elif isinstance(value, np.ndarray) and value.dtype.kind in _NUMBERS:
        yield name, value


def _read_npy(file: IO[bytes]) -> Any:
    """Return an array, a nested list or dict of arrays, or None for an array of strings."""
    npy: Any = np.lib.format  # has no types before numpy 2.3
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:  # a list of arrays, as TensorLayer saves them
        return _materialize(_Unpickler(file, encoding="latin1").load())
    if dtype.kind not in _NUMBERS:
        return None
    return np.frombuffer(file.read(), dtype).reshape(shape, order="F" if fortran else "C")


class _Dtype:
    """Stand-in for `numpy.dtype` that allows numbers and objects."""

    def __init__(self, name: str, *_: object) -> None:
        if not re.fullmatch(r"b1|[iu][1248]|f[248]|O8?", name):
            raise UserError(f"expected arrays of numbers, got type {name!r}")
        self.name, self.order = name, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = "=" if state[1] == "|" else state[1]


class _Array:
    """Stand-in for `numpy.ndarray`; its state sets `value`."""

    value: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        if dtype.name.startswith("O"):
            self.value = list(raw) if shape else raw[0]
            return
        content = raw.encode("latin1") if isinstance(raw, str) else raw  # str in Python 2
        flat = np.frombuffer(content, np.dtype(dtype.name).newbyteorder(dtype.order))
        self.value = flat.reshape(shape, order="F" if fortran else "C")


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise UserError(f"expected bytes in the encoding latin1, got {encoding!r}")
    return text.encode(encoding)


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{package}.multiarray", "_reconstruct"): lambda *_: _Array()
        for package in ("core", "_core")
    },
}


class _Unpickler(pickle.Unpickler):
    """Unpickler for arrays, lists, dicts, numbers and strings; other globals raise an error."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"Unsupported GLOBAL {module}.{name}")
        return _STAND_INS[module, name]


def _materialize(loaded: Any) -> Any:
    """Replace the stand-ins by arrays."""
    if isinstance(loaded, _Array):
        return _materialize(loaded.value)
    if isinstance(loaded, dict):
        return {key: _materialize(value) for key, value in loaded.items()}
    if isinstance(loaded, list | tuple):
        return [_materialize(value) for value in loaded]
    return loaded


def _read_hdf5(path: Path) -> Content:
    import h5py

    with h5py.File(path, "r") as file:
        group = file.get("model_weights", file)  # a complete Keras model has this group
        found = _find_datasets(group)
        require_modest_size(sum(item.nbytes for item in found.values()), path)
        if "layer_names" in group.attrs:
            weights = to_state_dict({name: found[name][()] for name in _layer_weights(group)})
            return weights, _read_keras_arguments(file.attrs.get("model_config"))
        arrays = {n: item[()] for n, item in found.items() if not n.startswith("optimizer")}
    ordered = _sort_by_layer(arrays)  # HDF5 sorts conv2d_10 before conv2d_9
    return to_state_dict(_name_variables(ordered or arrays), ordered=bool(ordered)), {}


def _read_keras_arguments(config: Any) -> dict[str, Any]:
    """Return `norm_eps` and `last_act` from the JSON config of a Keras model; {} if unknown."""
    if config is None:
        return {}
    try:
        layers = json.loads(config)["config"]["layers"]
        own = [(layer["class_name"], layer["config"]) for layer in layers]
        epsilons = {config["epsilon"] for kind, config in own if kind == "BatchNormalization"}
        last = [config["activation"] for kind, config in own if kind == "Conv2D"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}
    if len(epsilons) != 1 or not last:
        return {}
    return {"norm_eps": epsilons.pop(), "last_act": {"linear": "none"}.get(last[-1], last[-1])}


def _find_datasets(group: Any) -> dict[str, Any]:
    """Return {path: dataset} for the datasets of numbers in a group."""
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if hasattr(item, "shape") and item.dtype.kind in _NUMBERS:
            if item.external or item.is_virtual:
                raise UserError(f"expected all weights in it, got {name} in another file")
            found[name] = item

    group.visititems(visit)  # does not follow links to other files
    return found


def _layer_weights(group: Any) -> Iterator[str]:
    """Yield the paths of the weights in layer order."""
    for layer in map(_decode, group.attrs["layer_names"]):
        for weight in map(_decode, group[layer].attrs.get("weight_names", ())):
            yield f"{layer}/{weight}"


def _decode(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _sort_by_layer(arrays: Arrays) -> Arrays:
    """Sort arrays by the numbers in the names of their layers; return {} if this may be wrong.

    The order is reliable if the names of all convolutions differ only in the number, as in
    `conv2d_9`.
    """
    keys = {name: _split_name(name) for name in arrays}
    if len({keys[name][0] for name, array in arrays.items() if array.ndim == 4}) != 1:
        return {}
    return {name: arrays[name] for name in sorted(arrays, key=lambda name: keys[name])}


def _split_name(name: str) -> tuple[str, int, str]:
    """Split a parameter's name into the name of the layer, its number, and the rest."""
    layer, rest = name, ""
    if found := re.fullmatch(r"(.*?)((?:/vars/|[/.])[^/.]*)", name):
        layer, rest = found[1], found[2]
    if rest[1:].isdecimal():  # a list of arrays
        return layer, int(rest[1:]), ""
    base = layer.rstrip("0123456789")
    return base.removesuffix("_"), int(layer.removeprefix(base) or 0), rest


def _name_variables(arrays: Arrays) -> Arrays:
    """Rename variables of Keras 3, such as `LAYER/vars/0` to `LAYER/kernel`."""
    layers: dict[str, list[str]] = {}
    for name in arrays:
        if found := re.fullmatch(r"(.+)/vars/\d+", name):
            layers.setdefault(found[1], []).append(name)
    new: dict[str, str] = {}
    for layer, names in layers.items():
        parts = _VARIABLES.get(tuple(arrays[name].ndim for name in names), ())
        new |= {name: f"{layer}/{part}" for name, part in zip(names, parts, strict=False)}
    return {new.get(name, name): array for name, array in arrays.items()}
