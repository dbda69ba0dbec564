"""Pickles of protocols 3 to 5 rewritten in protocol 2, the one that torch's safe reader knows.

The rewriting looks at opcodes only and runs none of them; what a pickle may name or call is decided
afterwards, by the same reader and the same stand-ins as for every other file.
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

#: How a file starts that torch.save wrote in its legacy format: with a pickled magic number.
LEGACY_START = re.compile(rb"\x80[\x02-\x05](\x95.{8})?\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19\.", re.S)
_LEGACY_PICKLES = 5  # magic number, protocol, system, content, keys of the storages that follow
_GROWTH = 8  # names that a pickle repeats by a number are written out: an honest one hardly grows
_NAME = re.compile(r"[\w.]{1,200}")
_KNOWN = {  # by torch's reader
    *("APPEND", "APPENDS", "BINFLOAT", "BINGET", "BININT", "BININT1", "BININT2", "BINPERSID"),
    *("BINUNICODE", "BUILD", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "GLOBAL", "LONG1"),
    *("LONG_BINGET", "MARK", "NEWFALSE", "NEWOBJ", "NEWTRUE", "NONE", "REDUCE", "SETITEM"),
    *("SETITEMS", "STOP", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
}
_TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_BYTES = {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8"}
_TUPLE2_REDUCE = b"\x86R"


def readable_source(path: Path) -> BinaryIO:
    """Open what `torch.load` can read in the place of a checkpoint file.

    Args:
        path: A file that `torch.save` wrote, in either format, with any protocol from 2.

    Returns:
        The file itself where its pickle is of protocol 2, else its content in memory.

    Raises:
        UnpicklingError: It holds an object that protocol 2 has no form for.
        ValueError: It is damaged.
    """
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK":
        return _archive(path)
    if start == b"\x80\x02":
        return path.open("rb")
    source = io.BytesIO(path.read_bytes())
    pickles = b"".join(to_protocol_2(source) for _ in range(_LEGACY_PICKLES))
    return io.BytesIO(pickles + source.read())


def _archive(path: Path) -> BinaryIO:
    with zipfile.ZipFile(path) as archive:
        name = next((n for n in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", n)), None)
        if name is None or (content := archive.read(name)).startswith(b"\x80\x02"):
            return path.open("rb")
        rewritten = io.BytesIO()
        with zipfile.ZipFile(rewritten, "w") as target:
            target.writestr(name, to_protocol_2(io.BytesIO(content)))
            for other in archive.namelist():
                if other != name:
                    target.writestr(other, archive.read(other))
    rewritten.seek(0)
    return rewritten


def to_protocol_2(source: io.BytesIO) -> bytes:
    """Rewrite the pickle at the position of `source`, which is at its end afterwards.

    Raises:
        UnpicklingError: It holds an object that protocol 2 has no form for.
        ValueError: It is damaged.
    """
    data = source.getvalue()
    opcodes: list[tuple[str, Any, int]] = [
        (code.name, value, place or 0) for code, value, place in pickletools.genops(source)
    ]
    ends = [place for _, _, place in opcodes[1:]] + [source.tell()]
    written: list[bytes] = [b"\x80\x02"]
    texts: list[str | None] = [None]  # what each piece of `written` puts on the stack, if a string
    memo: dict[int, str | None] = {}
    inlined: set[int] = set()  # strings in the memo that went into a GLOBAL, and are gone from it

    room = _GROWTH * len(data) + (1 << 20)

    def write(piece: bytes, text: str | None = None) -> None:
        nonlocal room
        room -= len(piece)
        if room < 0:
            raise UserError("its pickle repeats itself beyond measure")
        written.append(piece)
        texts.append(text)

    def taken() -> str:
        """Take back the string that was put on the stack last."""
        while texts[-1] is None and written[-1].startswith(b"r"):
            inlined.add(*struct.unpack("<I", written.pop()[1:]))
            texts.pop()
        written.pop()
        text = texts.pop()
        if text is None or not _NAME.fullmatch(text):
            raise UserError("the name of a global is not one")
        return text

    for (name, value, place), end in zip(opcodes, ends, strict=True):
        if name in ("PROTO", "FRAME"):
            continue
        if name in _TEXTS:
            write(_text(value), value)
        elif name in ("BINGET", "LONG_BINGET") and (text := memo.get(value)) is not None:
            write(_text(text) if value in inlined else data[place:end], text)
        elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
            number = len(memo) if name == "MEMOIZE" else value
            memo[number] = texts[-1]
            write(b"r" + struct.pack("<I", number))
        elif name == "STACK_GLOBAL":
            attribute, module = taken(), taken()
            write(_global(module, attribute))
        elif name in _BYTES:
            write(_encoded(b"c_codecs\nencode\n", value))
        elif name == "BYTEARRAY8":
            write(_encoded(b"cbuiltins\nbytearray\n", bytes(value)))
        elif name == "EMPTY_SET":
            write(_global("srgan_plugin", "set") + b")\x81")  # a stand-in, which BUILD fills
        elif name == "ADDITEMS":
            write(b"tb")
        elif name in _KNOWN:
            write(data[place:end])
        else:
            raise UnpicklingError(f"its pickle has the opcode {name}, which no weights need")
    return b"".join(written)


def _text(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(raw)) + raw


def _encoded(function: bytes, raw: bytes) -> bytes:
    return function + _text(raw.decode("latin1")) + _text("latin1") + _TUPLE2_REDUCE


def _global(module: str, name: str) -> bytes:
    """Name a global; a part of a class as protocol 2 has it, by `getattr`."""
    owner, _, attribute = name.rpartition(".")
    if not owner:
        return f"c{module}\n{name}\n".encode()
    return b"cbuiltins\ngetattr\n" + _global(module, owner) + _text(attribute) + _TUPLE2_REDUCE
