"""Explain how to convert files with a pickled module, without running anything in them.

The pickle is read with stand-ins for all its globals, which only record what they are given.
"""

import io
import json
import pickle
import pickletools
import re
import shlex
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from srgan_plugin.errors import UserError

from .pickle_protocol import LEGACY_START

# Globals, as "module name", that run no code of others: modules, tensors, optimisers, plain data.
# A name with a dot, such as `conv os.system`, could be anything.
_HARMLESS = re.compile(
    r"torch\.(nn|optim)(\.\w+)* [A-Z]\w*"
    r"|torch\._utils _rebuild_\w+|torch\.serialization _get_layout"
    r"|torch(\.storage)? (\w*Storage|Size|device|Tensor|bool|(u?int|b?float|complex)\d+)"
    r"|numpy(\._?core\.multiarray)? (_reconstruct|scalar|dtype|ndarray)|_codecs encode"
    r"|collections (OrderedDict|defaultdict)|argparse Namespace"
    r"|(builtins|__builtin__) (set|frozenset|dict|list|tuple|bytearray|complex)"
)
_CONTAINER = re.compile(r"(collections|builtins|__builtin__) (OrderedDict|defaultdict|dict|list)")
_TENSOR = "torch._utils _rebuild_"
# Pickles before the content in the legacy format: magic number, protocol, system.
_HEADER_PICKLES = 3


class _StandIn:
    """Stand-in for an object; those of one global are of one subclass.

    Attributes:
        origin: The global, as "module name".
        items: Arguments by number, and items that are set.
        state: State of an object; that of a module is its `__dict__`.
    """

    origin = ""
    items: dict[Any, Any]
    state: Any = None

    def __new__(cls, *args: Any, **_: Any) -> "_StandIn":
        made = super().__new__(cls)
        made.items = dict(enumerate(args))
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        """Accept the arguments of any class or function."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        """Add a member of a list or a set."""
        self.items[len(self.items)] = value

    add = append

    @property
    def is_module(self) -> bool:
        """Whether the state is that of a `torch.nn.Module`."""
        return isinstance(self.state, dict) and {"_parameters", "_modules"} <= self.state.keys()


class _Reader(pickle.Unpickler):
    """Unpickler that makes stand-ins only."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="latin-1")
        self.classes: dict[str, type[_StandIn]] = {}

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Return the class of stand-ins for a global."""
        name = f"{module_name} {global_name}"
        return self.classes.setdefault(name, type("_Made", (_StandIn,), {"origin": name}))

    def persistent_load(self, pid: Any) -> Any:
        """Return a stand-in for a storage; the class that the legacy format has its source for."""
        return pid[1] if pid[0] == "module" else _StandIn()


def explain_pickled_module(path: Path) -> str | None:
    """Return a message with a command that saves the state dict of the module in a file.

    Args:
        path: Any file.

    Returns:
        The message, in one line. None if the file has no module, is damaged, or has globals that
        could run any code, because the command runs them.
    """
    with suppress(Exception):  # the caller reports damage
        content, origins = _read(path)
        found = [(where, module) for where, module in _members(content) if module.is_module]
        # A loss without weights may come before the network.
        found.sort(key=lambda place: not _has_tensors(place[1]))
        if found and _run_no_other_code(origins):
            where, module = found[0]
            file = json.dumps(str(path.resolve()))  # in double quotes, because of the shell
            loaded = f'torch.load({file}, map_location="cpu", weights_only=False)'
            line = f'import torch; torch.save({loaded}{where}.state_dict(), "NEW.pth")'
            others = ", ".join(other for other, _ in found[1:])
            return (
                f"{path}: expected weights, got a pickled module, {_class_name(module)}; nothing "
                "was run. If you trust it, in the folder of its code: python -c "
                f"{shlex.quote(line)}{f' (or another module in it: {others})' if others else ''}"
            )
    return None


def _read(path: Path) -> tuple[Any, set[str]]:
    """Return the content of a file written by `torch.save`, with stand-ins, and its globals."""
    data = path.read_bytes()
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            data = archive.read(name)
    source = io.BytesIO(data)
    for _ in range(_HEADER_PICKLES if LEGACY_START.match(data) else 0):
        _skip(source)
    start = source.tell()
    _skip(source)
    source.seek(start)
    reader = _Reader(source)
    return reader.load(), set(reader.classes)


def _skip(source: io.BytesIO) -> None:
    """Move to the end of a pickle, and refuse memo numbers for which `pickle` allocates memory."""
    size = len(source.getbuffer())
    for opcode, value, _ in pickletools.genops(source):
        if opcode.name.endswith("PUT") and isinstance(value, int) and value > size:
            raise UserError(f"expected memo numbers up to {size}, got {value}")


def _members(content: Any) -> Iterator[tuple[str, _StandIn]]:
    """Yield the objects in a file that are not in a module, outer ones first.

    Yields:
        The Python expression of an object after that of the content, such as `["model"]`, and its
        stand-in.
    """
    queue, seen = [("", content)], set()
    for where, value in queue:  # grows meanwhile
        if id(value) in seen:
            continue
        seen.add(id(value))
        items: Any = ()
        if isinstance(value, _StandIn):
            yield where, value
            if _CONTAINER.fullmatch(value.origin):
                items = value.items.items()
            elif isinstance(value.state, dict) and not value.is_module:
                queue += [(f"{where}.{name}", member) for name, member in value.state.items()]
        elif isinstance(value, dict):
            items = value.items()
        elif isinstance(value, list | tuple):
            items = enumerate(value)
        queue += [(f"{where}[{json.dumps(k)}]", v) for k, v in items if isinstance(k, str | int)]


def _parts(module: _StandIn) -> Iterator[_StandIn]:
    """Yield a module and all objects in it, outer ones first."""
    queue: list[Any] = [module]
    seen = set()
    for value in queue:  # grows meanwhile
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, _StandIn):
            yield value
            queue += [value.state, *value.items.values()]
        elif isinstance(value, dict):
            queue += value.values()
        elif isinstance(value, list | tuple | set):
            queue += value


def _has_tensors(module: _StandIn) -> bool:
    return any(part.origin.startswith(_TENSOR) for part in _parts(module))


def _class_name(module: _StandIn) -> str:
    """Return the first class outside torch in a module, such as that in a DataParallel."""
    origins = (part.origin for part in _parts(module) if part.origin)
    own = (origin for origin in origins if not _HARMLESS.fullmatch(origin))
    return next(own, module.origin).replace(" ", ".")


def _run_no_other_code(origins: set[str]) -> bool:
    """Return whether all globals are harmless or from one package, which must be the user's own."""
    foreign = [origin.split(" ", 1) for origin in origins if not _HARMLESS.fullmatch(origin)]
    packages = {module.partition(".")[0] for module, _ in foreign}
    public = {*sys.stdlib_module_names, "__builtin__", "torch", "numpy"}
    is_nested = any("." in name for _, name in foreign)  # such as `os.system` of a user's module
    return len(packages) <= 1 and not packages & public and not is_nested
