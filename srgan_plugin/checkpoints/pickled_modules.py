"""Files that hold a whole module in place of its weights: named, never unpickled."""

import io
import pickletools
import shlex
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

from .pickle_protocol import LEGACY_START, to_protocol_2

_MODULES = "torch.nn."
_HARMLESS = (
    *("torch._utils.", "torch.optim.", "torch.Size", "torch.device", "torch.float"),
    *(f"torch.{kind}Storage" for kind in ("Float", "Half", "Double", "Long")),
    *("collections.OrderedDict", "collections.defaultdict", "argparse.Namespace"),
    *(f"{name}.{kind}" for name in ("__builtin__", "builtins") for kind in ("set", "dict", "list")),
    *("srgan_plugin.set", "numpy.core.multiarray."),
)
_BEFORE_CONTENT = 3  # pickles of the legacy format: magic number, protocol, system


def explain_pickled_module(path: Path) -> str | None:
    """Say how to make a state dict of a pickled module; None where the file holds no module.

    Args:
        path: A file of `torch.save`, of a module or of a dict of modules, optimisers and the like.
    """
    with suppress(Exception):  # damage is reported by the caller
        content = _content(path)
        if found := _module_in(content):
            outermost, named = found
            where = _key_before(content, outermost)
            loaded = f"torch.load({str(path)!r}, map_location='cpu', weights_only=False){where}"
            line = f"import torch; torch.save({loaded}.state_dict(), 'NEW.pth')"
            return (
                f"{path} holds a pickled module, {named}, in place of weights; nothing of it was "
                f"run. If you trust it, in its own repository: python -c {shlex.quote(line)}"
            )
    return None


def _content(path: Path) -> bytes:
    """Return the pickle in a file of `torch.save`, in protocol 2."""
    data = path.read_bytes()
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            return to_protocol_2(io.BytesIO(archive.read(name)))
    source = io.BytesIO(data)
    if LEGACY_START.match(data):
        for _ in range(_BEFORE_CONTENT):
            to_protocol_2(source)
    return to_protocol_2(source)


def _module_in(content: bytes) -> tuple[str, str] | None:
    """Return the class of the outermost module in a pickle, and the first one that is not torch's.

    None if there is none whose loading can be advised.

    An object of a module's class is made without a call, and its state holds `_parameters`. Names
    of other packages than that of the module's own classes and torch's may be anything, and no one
    shall be advised to run them.
    """
    ops = [op for op in pickletools.genops(content) if op[0].name not in ("BINPUT", "LONG_BINPUT")]
    at = {index: _dotted(value) for index, (op, value, _) in enumerate(ops) if op.name == "GLOBAL"}
    classes = {index: name for index, name in at.items() if not name.startswith(_HARMLESS)}
    foreign = [name for name in classes.values() if not name.startswith(_MODULES)]
    packages = {name.partition(".")[0] for name in foreign}
    texts = {value for op, value, _ in ops if op.name == "BINUNICODE"}
    if not classes or not {"_parameters", "_modules"} <= texts or len(packages) > 1:
        return None
    outermost = next(iter(classes.values()))
    made = [
        [op.name for op, _, _ in ops[index + 1 : index + 3]]
        for index, name in classes.items()
        if name == outermost
    ]
    if packages & {*sys.stdlib_module_names, "torch", "__builtin__", "nt"}:
        return None
    if ["EMPTY_TUPLE", "NEWOBJ"] not in made and "module" not in texts:
        return None
    return outermost, (foreign or [outermost])[0]


def _dotted(value: object) -> str:
    return str(value).replace(" ", ".")


def _key_before(content: bytes, found: str) -> str:
    """Return `['key']` for the key under which an object of a class lies; '' if it is the whole."""
    key = ""
    for opcode, value, _ in pickletools.genops(content):
        if opcode.name == "GLOBAL" and _dotted(value) == found:
            break
        if opcode.name == "BINUNICODE" and value != "module":  # which the legacy format says
            key = f"[{value!r}]"
    return key
