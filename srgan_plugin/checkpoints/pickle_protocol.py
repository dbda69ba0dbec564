"""Rewrite pickles of protocols 3 to 5 in protocol 2, the only one that torch's safe loader reads.

In pickles with the global `bytearray`, it is replaced by the stand-in in `safe_unpickle`, because
torch's loader allows the global and `bytearray(n)` allocates n bytes.
"""

import io
import pickletools
import re
import struct
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

from srgan_plugin.errors import UserError

#: Start of a file in torch.save's legacy format: a pickled magic number.
LEGACY_START = re.compile(rb"\x80[\x02-\x05](\x95.{8})?\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.", re.S)
_LEGACY_PICKLES = 5  # magic number, protocol, system, content, keys of the storages
_MAX_GROWTH = 8  # factor; memoised names are written out, but usual pickles hardly grow
_NAME = re.compile(r"[\w.]{1,200}")
# Opcodes that torch's loader reads.
_KNOWN = frozenset(
    {
        "APPEND",
        "APPENDS",
        "BINFLOAT",
        "BINGET",
        "BININT",
        "BININT1",
        "BININT2",
        "BINPERSID",
        "BINUNICODE",
        "BUILD",
        "EMPTY_DICT",
        "EMPTY_LIST",
        "EMPTY_TUPLE",
        "GLOBAL",
        "LONG1",
        "LONG_BINGET",
        "MARK",
        "NEWFALSE",
        "NEWOBJ",
        "NEWTRUE",
        "NONE",
        "REDUCE",
        "SETITEM",
        "SETITEMS",
        "STOP",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
    }
)
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_BYTES = {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8"}
_TUPLE2_REDUCE = b"\x86R"
# A set becomes its stand-in in `safe_unpickle`, which BUILD fills.
_REPLACED = {"EMPTY_SET": b"csrgan_plugin\nset\n)\x81", "ADDITEMS": b"tb"}
_BYTEARRAY = re.compile(rb"c(builtins|__builtin__)\nbytearray\n")


def open_in_protocol_2(path: Path) -> BinaryIO:
    """Open a checkpoint for torch's safe loader.

    Args:
        path: A file written by `torch.save`, in the zip or the legacy format, with any protocol
            from 2.

    Returns:
        The open file if its pickle has protocol 2, otherwise the rewritten content in memory.

    Raises:
        UnpicklingError: The pickle has an opcode that protocol 2 cannot express.
        UserError: The file is damaged.
    """
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK":
        return _open_archive(path)
    content = path.read_bytes()
    if start == b"\x80\x02" and not _BYTEARRAY.search(content):
        return path.open("rb")
    source = io.BytesIO(content)
    pickles = b"".join(to_protocol_2(source) for _ in range(_LEGACY_PICKLES))
    return io.BytesIO(pickles + source.read())


def _open_archive(path: Path) -> BinaryIO:
    """Open a file in the zip format as `open_in_protocol_2` does."""
    with zipfile.ZipFile(path) as archive:
        name = next((n for n in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", n)), None)
        content = b"\x80\x02" if name is None else archive.read(name)
        if name is None or (content[:2] == b"\x80\x02" and not _BYTEARRAY.search(content)):
            return path.open("rb")
        rewritten = io.BytesIO()
        with zipfile.ZipFile(rewritten, "w") as target:
            target.writestr(name, to_protocol_2(io.BytesIO(content)))
            for other in archive.namelist():
                if other != name:
                    target.writestr(other, archive.read(other))
    rewritten.seek(0)
    return rewritten


class _Rewriter:
    """Writer of a pickle in protocol 2, opcode by opcode.

    Args:
        max_size: Largest size in bytes.

    Attributes:
        pieces: The written opcodes, each with the string that it pushes on the stack, or None.
    """

    def __init__(self, max_size: int) -> None:
        self.pieces: list[tuple[bytes, str | None]] = [(b"\x80\x02", None)]
        self._remaining = max_size
        self._memo: dict[int, str | None] = {}
        # Memo indices of strings that became part of a GLOBAL and are no longer memoised.
        self._inlined: set[int] = set()

    def add(self, name: str, value: Any, raw: bytes) -> None:
        """Append an opcode of any protocol.

        Args:
            name: Name of the opcode.
            value: Argument of the opcode.
            raw: Bytes of the opcode with its argument.
        """
        if name in _STRINGS:
            self._write(_encode_text(value), value)
        elif name in ("BINGET", "LONG_BINGET") and (text := self._memo.get(value)) is not None:
            self._write(_encode_text(text) if value in self._inlined else raw, text)
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            number = len(self._memo) if name == "MEMOIZE" else value
            self._memo[number] = self.pieces[-1][1]
            self._write(b"r" + struct.pack("<I", number))
        elif name == "STACK_GLOBAL":
            attribute, module = self._pop_text(), self._pop_text()
            self._write(_encode_global(module, attribute))
        elif name == "GLOBAL":
            self._write(_encode_global(*value.split(" ", 1)))
        elif name in _BYTES:
            self._write(_encode_bytes(b"c_codecs\nencode\n", value))
        elif name == "BYTEARRAY8":
            self._write(_encode_bytes(_encode_global("builtins", "bytearray"), bytes(value)))
        elif name in _KNOWN or name in _REPLACED:
            self._write(_REPLACED.get(name, raw))
        elif name not in ("PROTO", "FRAME"):
            raise UnpicklingError(f"its pickle has the opcode {name}, which is not allowed")

    def _write(self, piece: bytes, text: str | None = None) -> None:
        self._remaining -= len(piece)
        if self._remaining < 0:
            raise UserError("its pickle repeats names too often")
        self.pieces.append((piece, text))

    def _pop_text(self) -> str:
        """Remove the last pushed string and return it."""
        piece, text = self.pieces.pop()
        while text is None and piece.startswith(b"r"):
            self._inlined.add(*struct.unpack("<I", piece[1:]))
            piece, text = self.pieces.pop()
        if text is None or not _NAME.fullmatch(text):
            raise UserError("its pickle has an invalid name of a global")
        return text


def to_protocol_2(source: io.BytesIO) -> bytes:
    """Rewrite the pickle at the position of `source` in protocol 2.

    No opcode is run. Globals are not checked here, but by torch's loader and the stand-ins.

    Args:
        source: The file. Afterwards its position is the end of the pickle.

    Returns:
        The rewritten pickle.

    Raises:
        UnpicklingError: The pickle has an opcode that protocol 2 cannot express.
        UserError: The pickle is damaged.
    """
    data = source.getvalue()
    opcodes = list(pickletools.genops(source))
    ends = [place for _, _, place in opcodes[1:]] + [source.tell()]
    rewriter = _Rewriter(_MAX_GROWTH * len(data) + (1 << 20))
    for (code, value, place), end in zip(opcodes, ends, strict=True):
        rewriter.add(code.name, value, data[place:end])
    return b"".join(piece for piece, _ in rewriter.pieces)


def _encode_text(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def _encode_bytes(function: bytes, raw: bytes) -> bytes:
    return function + _encode_text(raw.decode("latin1")) + _encode_text("latin1") + _TUPLE2_REDUCE


def _encode_global(module: str, name: str) -> bytes:
    """Return the opcodes that push a global, or call `getattr` for an attribute of a class."""
    owner, _, attribute = name.rpartition(".")
    if (module, name) in (("builtins", "bytearray"), ("__builtin__", "bytearray")):
        module = "srgan_plugin"  # a stand-in
    if not owner:
        return f"c{module}\n{name}\n".encode()
    return (
        b"cbuiltins\ngetattr\n"
        + _encode_global(module, owner)
        + _encode_text(attribute)
        + _TUPLE2_REDUCE
    )
