"""Files that hold a whole module in place of its weights: named, never unpickled."""

import io
import pickletools
import shlex
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

from .pickle_protocol import LEGACY_START, to_protocol_2

_HARMLESS = (
    *("torch._utils.", "torch.nn.", "torch.optim.", "torch.Size", "torch.device", "torch.float"),
    *(f"torch.{kind}Storage" for kind in ("Float", "Half", "Double", "Long")),
    *("collections.OrderedDict", "__builtin__.set", "srgan_plugin.set", "numpy.core.multiarray."),
)
_BEFORE_CONTENT = 3  # pickles of the legacy format: magic number, protocol, system


def explain_pickled_module(path: Path, wanted: str) -> str | None:
    """Say how to make a state dict of a pickled module; None where the file holds no module.

    Args:
        path: A file of `torch.save`.
        wanted: The class that it wants first, such as `models.Generator`.
    """
    with suppress(Exception):  # damage is somebody else's to tell
        content = _content(path)
        if _is_module(content, wanted):
            where = _key_before(content, wanted)
            loaded = f"torch.load({str(path)!r}, map_location='cpu', weights_only=False){where}"
            line = f"import torch; torch.save({loaded}.state_dict(), 'NEW.pth')"
            return (
                f"{path} holds a pickled module, {wanted}, in place of weights; nothing of it was "
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


def _is_module(content: bytes, wanted: str) -> bool:
    """Whether a pickle makes objects of a class as torch saves modules, and calls nothing strange.

    An object of a module's class is made without a call, and its state holds `_parameters`. Names
    of other packages than its own and torch's may be anything, and no one shall be advised to run
    them.
    """
    ops = [op for op in pickletools.genops(content) if op[0].name not in ("BINPUT", "LONG_BINPUT")]
    names = [str(value).replace(" ", ".") for op, value, _ in ops if op.name == "GLOBAL"]
    own = (f"{wanted.partition('.')[0]}.", *_HARMLESS)
    made = [
        [op.name for op, _, _ in ops[at + 1 : at + 3]]
        for at, (op, value, _) in enumerate(ops)
        if op.name == "GLOBAL" and str(value).replace(" ", ".") == wanted
    ]
    texts = {value for op, value, _ in ops if op.name == "BINUNICODE"}
    return (
        {"_parameters", "_modules"} <= texts
        and all(name.startswith(own) for name in names)
        and wanted.partition(".")[0] not in sys.stdlib_module_names
        and (["EMPTY_TUPLE", "NEWOBJ"] in made or "module" in texts)
    )


def _key_before(content: bytes, wanted: str) -> str:
    """Return `['key']` for the key under which an object of a class lies; '' if it is the whole."""
    key = ""
    for opcode, value, _ in pickletools.genops(content):
        if opcode.name == "GLOBAL" and str(value).replace(" ", ".") == wanted:
            break
        if opcode.name == "BINUNICODE" and value != "module":  # which the legacy format says
            key = f"[{value!r}]"
    return key
