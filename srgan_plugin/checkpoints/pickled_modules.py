"""Explain how to convert files with a pickled module, without unpickling them."""

import io
import pickletools
import shlex
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

from .pickle_protocol import LEGACY_START, to_protocol_2

_MODULES = "torch.nn."
# Prefixes of globals that are neither modules nor foreign code.
_HARMLESS = (
    "torch._utils.",
    "torch.optim.",
    "torch.Size",
    "torch.device",
    "torch.float",
    "torch.FloatStorage",
    "torch.HalfStorage",
    "torch.DoubleStorage",
    "torch.LongStorage",
    "collections.OrderedDict",
    "collections.defaultdict",
    "argparse.Namespace",
    "builtins.set",
    "builtins.dict",
    "builtins.list",
    "__builtin__.set",
    "__builtin__.dict",
    "__builtin__.list",
    "srgan_plugin.set",
    "numpy.core.multiarray.",
)
# Pickles before the content in the legacy format: magic number, protocol, system.
_HEADER_PICKLES = 3


def explain_pickled_module(path: Path) -> str | None:
    """Return a message with a command that saves the module's state dict; None without a module.

    Args:
        path: A file written by `torch.save`, with a module or a dict of modules, optimisers, ….
    """
    with suppress(Exception):  # the caller reports damage
        pickled = _read_pickle(path)
        if found := _find_module(pickled):
            outermost, shown = found
            where = _find_key(outermost, pickled)
            loaded = f"torch.load({str(path)!r}, map_location='cpu', weights_only=False){where}"
            line = f"import torch; torch.save({loaded}.state_dict(), 'NEW.pth')"
            return (
                f"{path}: expected weights, got a pickled module, {shown}; nothing was run. "
                f"If you trust it, in its own repository: python -c {shlex.quote(line)}"
            )
    return None


def _read_pickle(path: Path) -> bytes:
    """Return the pickle in a file written by `torch.save`, in protocol 2."""
    data = path.read_bytes()
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            return to_protocol_2(io.BytesIO(archive.read(name)))
    source = io.BytesIO(data)
    if LEGACY_START.match(data):
        for _ in range(_HEADER_PICKLES):
            to_protocol_2(source)
    return to_protocol_2(source)


def _find_module(pickled: bytes) -> tuple[str, str] | None:
    """Find a pickled module.

    A module is an object that is created without a call, with a state that has `_parameters`.

    Returns:
        The class of the outermost module, and the first class outside torch, or again the outermost
        one. None without a module, or if the pickle has globals of the standard library or of
        several packages: these may be arbitrary calls, which the message must not advise to run.
    """
    ops = [op for op in pickletools.genops(pickled) if op[0].name not in ("BINPUT", "LONG_BINPUT")]
    names = {i: _join_name(value) for i, (op, value, _) in enumerate(ops) if op.name == "GLOBAL"}
    classes = {index: name for index, name in names.items() if not name.startswith(_HARMLESS)}
    foreign = [name for name in classes.values() if not name.startswith(_MODULES)]
    packages = {name.partition(".")[0] for name in foreign}
    texts = {value for op, value, _ in ops if op.name == "BINUNICODE"}
    if not classes or not {"_parameters", "_modules"} <= texts or len(packages) > 1:
        return None
    outermost = next(iter(classes.values()))
    next_opcodes = [
        [op.name for op, _, _ in ops[index + 1 : index + 3]]
        for index, name in classes.items()
        if name == outermost
    ]
    if packages & {*sys.stdlib_module_names, "torch", "__builtin__", "nt"}:
        return None
    if ["EMPTY_TUPLE", "NEWOBJ"] not in next_opcodes and "module" not in texts:
        return None
    return outermost, foreign[0] if foreign else outermost


def _join_name(value: object) -> str:
    return str(value).replace(" ", ".")


def _find_key(name: str, pickled: bytes) -> str:
    """Return the subscript, as `['key']`, of the first object of a class; '' outside a dict."""
    key = ""
    for opcode, value, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL" and _join_name(value) == name:
            break
        if opcode.name == "BINUNICODE" and value != "module":  # a tag of the legacy format
            key = f"[{value!r}]"
    return key
