"""Seeded damage to the bytes of files: blind, or aware of the fields of their format."""

import io
import json
import pickletools
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable

Mutator = Callable[[random.Random, bytes], bytes]
_NUMBERS = (
    *(0, 1, 2, 3, 4, 7, 8, 15, 16, 32, 64, 127, 128, 255, 256, 1000, 4095, 4096, 32_767, 32_768),
    *(65_535, 2**16, 2**20, 2**24, 2**28, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1),
)
_LARGEST = 1 << 20  # bytes of a file that blocks are added to
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def mutate(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Damage a file in one to four ways.

    Args:
        rng: Decides what is done.
        content: The file.
        other: Another file, of which parts are spliced in.
    """
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 4])):
        if rng.random() < 0.08:
            content = _splice(rng, content, other)
        elif rng.random() < 0.6:
            content = _of_format(content)(rng, content)
        else:
            content = _blindly(rng, content)
    return content


def _place(rng: random.Random, content: bytes) -> int:
    """Choose a position, the beginning and the end more often."""
    size = len(content)
    start, stop = rng.choice(
        [(0, size), (0, size), (0, min(size, 300)), (max(size - 300, 0), size)]
    )
    return rng.randrange(start, stop) if stop > start else 0


def _number(rng: random.Random, size: int, order: str = "") -> bytes:
    """Return a number that is often special, in that many bytes."""
    fitting = [n for n in _NUMBERS if n < 256**size]
    number = rng.choice(fitting) if rng.random() < 0.8 else rng.randrange(256**size)
    return number.to_bytes(size, order or rng.choice(["little", "big"]))  # type: ignore[arg-type]


def _flip(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8]) if changed else 0):
        changed[_place(rng, content)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _set_number(rng: random.Random, content: bytes) -> bytes:
    at, new = _place(rng, content), _number(rng, rng.choice([1, 2, 4, 8]))
    return content[:at] + new + content[at + len(new) :]


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: _place(rng, content)]


def _remove(rng: random.Random, content: bytes) -> bytes:
    at = _place(rng, content)
    return content[:at] + content[at + rng.choice([1, 2, 4, 16, 200, 4096]) :]


def _repeat(rng: random.Random, content: bytes) -> bytes:
    at = _place(rng, content)
    block = content[at : at + rng.choice([1, 4, 16, 200, 4096])]
    times = min(rng.choice([1, 2, 10, 1000]), max(_LARGEST - len(content), 0) // (len(block) or 1))
    return content[:at] + block * times + content[at:]


def _noise(rng: random.Random, content: bytes) -> bytes:
    at = _place(rng, content)
    new = rng.randbytes(rng.choice([1, 4, 16, 100]))
    return content[:at] + new + content[at + rng.choice([0, len(new)]) :]


def _splice(rng: random.Random, content: bytes, other: bytes) -> bytes:
    at, start = _place(rng, content), _place(rng, other)
    length = rng.choice([4, 64, 1000, len(other)])
    return content[:at] + other[start : start + length] + content[at + rng.choice([0, length]) :]


_BLIND: tuple[Mutator, ...] = (_flip, _flip, _set_number, _cut, _remove, _repeat, _noise)


def _blindly(rng: random.Random, content: bytes) -> bytes:
    return rng.choice(_BLIND)(rng, content)


def _edit_parts(rng: random.Random, parts: list[tuple[bytes, bytes]], kinds: list[bytes]) -> None:
    """Drop, repeat, move, rename or damage one of the (kind, data) that a file consists of."""
    if not parts:
        return
    at = rng.randrange(len(parts))
    kind, data = parts[at]
    edit = rng.choice(["drop", "repeat", "move", "rename", "damage", "damage", "damage"])
    if edit == "drop":
        del parts[at]
    elif edit == "repeat":
        parts[at:at] = [parts[at]] * min(rng.choice([1, 1, 100]), _LARGEST // (len(data) + 12))
    elif edit == "move":
        parts.insert(rng.randrange(len(parts)), parts.pop(at))
    elif edit == "rename":
        parts[at] = (rng.choice(kinds), data)
    elif kind == b"IDAT" and rng.random() < 0.6:
        parts[at] = (kind, _repacked(rng, data))
    else:
        parts[at] = (kind, _blindly(rng, data))


def _repacked(rng: random.Random, packed: bytes) -> bytes:
    """Damage what zlib has packed, below its checksum."""
    try:
        return zlib.compress(_blindly(rng, zlib.decompress(packed)), rng.choice([0, 1, 9]))
    except zlib.error:
        return packed


def _png(rng: random.Random, content: bytes) -> bytes:
    parts, at = [], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        parts.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    names = "IHDR PLTE IDAT IEND tRNS acTL fcTL fdAT iCCP eXIf gAMA zTXt tEXt iTXt sBIT cHRM sRGB"
    _edit_parts(rng, parts, [name.encode() for name in names.split()])
    chunks = [[len(data), kind, data] for kind, data in parts]
    if rng.random() < 0.1 and chunks:
        rng.choice(chunks)[0] = rng.choice(_NUMBERS) % 2**32
    return _PNG + b"".join(
        struct.pack(">I", length) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for length, kind, data in chunks
    )


def _jpeg(rng: random.Random, content: bytes) -> bytes:
    parts, at = [], 2
    while content[at : at + 1] == b"\xff" and at + 4 <= len(content):
        (length,) = struct.unpack_from(">H", content, at + 2)
        parts.append((content[at : at + 2], content[at + 4 : at + 2 + length]))
        at += 2 + max(length, 2)
        if parts[-1][0] == b"\xff\xda":
            break
    scan = content[at:]
    if rng.random() < 0.25:
        place = _place(rng, scan)
        scan = scan[:place] + b"\xff" + rng.randbytes(1) + scan[place + rng.choice([0, 2]) :]
    else:
        _edit_parts(rng, parts, [bytes([0xFF, kind]) for kind in range(0xC0, 0xF0)])
    lengths = [len(data) + 2 for _, data in parts]
    if rng.random() < 0.1 and parts:
        lengths[rng.randrange(len(parts))] = rng.choice(_NUMBERS)
    return (
        content[:2]
        + b"".join(
            kind + struct.pack(">H", length % 2**16) + data
            for length, (kind, data) in zip(lengths, parts, strict=True)
        )
        + scan
    )


def _webp(rng: random.Random, content: bytes) -> bytes:
    parts, at = [], 12
    while at + 8 <= len(content):
        (length,) = struct.unpack_from("<I", content, at + 4)
        parts.append((content[at : at + 4], content[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    _edit_parts(
        rng, parts, [b"VP8 ", b"VP8L", b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"ICCP", b"EXIF"]
    )
    body = b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in parts
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _tiff(rng: random.Random, content: bytes) -> bytes:
    order, sign = ("little", "<") if content[:1] == b"I" else ("big", ">")
    (place,) = struct.unpack_from(f"{sign}I", content.ljust(8, b"\0"), 4)
    place = min(place, len(content))
    count = int.from_bytes(content[place : place + 2], order)  # type: ignore[arg-type]
    # Tag, type, count, value of an entry, or where the directory is, its length, the next one.
    entry = place + 2 + 12 * rng.randrange(max(count, 1))
    tags = [254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 324]
    tags += [325, 330, 338, 339, 347, 530, 34675, 34665]
    at, new = rng.choice(
        [
            (entry, rng.choice(tags).to_bytes(2, order)),  # type: ignore[arg-type]
            (entry + 2, rng.randrange(19).to_bytes(2, order)),  # type: ignore[arg-type]
            (entry + 4, _number(rng, 4, order)),
            (entry + 8, _number(rng, 2, order)),
            (entry + 8, _number(rng, 4, order)),
            (entry + 8, _number(rng, 4, order)),
            (4, _number(rng, 4, order)),
            (place, _number(rng, 2, order)),
            (place + 2 + 12 * count, _number(rng, 4, order)),
        ]
    )
    return content[:at] + new + content[at + len(new) :]


def _bmp(rng: random.Random, content: bytes) -> bytes:
    at, size = rng.choice([(2, 4), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4)])
    new = _number(rng, size, "little")
    return content[:at] + new + content[at + size :]


_SIGNATURES = re.compile(rb"PK(\x01\x02|\x03\x04|\x05\x06|\x06\x06|\x06\x07|\x07\x08)")


def _zip(rng: random.Random, content: bytes) -> bytes:
    if rng.random() < 0.3:  # a field of a header
        places = [found.start() for found in _SIGNATURES.finditer(content)]
        at = rng.choice(places or [0]) + rng.randrange(4, 46)
        new = _number(rng, rng.choice([2, 4]), "little")
        return content[:at] + new + content[at + len(new) :]
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = [(name.encode(), archive.read(name)) for name in archive.namelist()]
    except Exception:  # zipfile raises many kinds
        return _blindly(rng, content)
    pickles = [at for at, (name, _) in enumerate(parts) if name.endswith(b"data.pkl")]
    if pickles and rng.random() < 0.7:
        at = rng.choice(pickles)
        parts[at] = (parts[at][0], _pickle(rng, parts[at][1]))
    else:
        _edit_parts(rng, parts, [name for name, _ in parts] + [b"../x", b"a/data.pkl", b"/x"])
    buffer = io.BytesIO()
    method = rng.choice([zipfile.ZIP_STORED] * 4 + [zipfile.ZIP_DEFLATED])
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as target:
        warnings.simplefilter("ignore")  # of names that come twice
        for name, data in parts:
            target.writestr(zipfile.ZipInfo(name.decode(errors="replace")), data, method)
    return buffer.getvalue()


# What opcodes are replaced by: names, numbers, containers, jumps in the memo, calls.
_OPCODES = (
    b"cbuiltins\neval\n", b"cposix\nsystem\n", b"cbuiltins\nbytearray\n", b"cbuiltins\ngetattr\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch\nFloatStorage\n", b"ctorch\nbfloat16\n", b"ctorch\nSize\n", b"ctorch\nTensor\n",
    b"ccollections\nOrderedDict\n", b"ccollections\nCounter\n", b"cnumpy\ndtype\n",
    b"cnumpy._core.multiarray\nscalar\n", b"cnumpy._core.multiarray\n_reconstruct\n",
    b"cmmengine.logging.history_buffer\nHistoryBuffer\n",
    b"J\xff\xff\xff\xff", b"J\xff\xff\xff\x7f", b"K\x00", b"K\x01", b"M\xff\xff",
    b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"G\x7f\xf8" + bytes(6), b"N", b"\x88", b"\x89",
    b"X\x00\x00\x00\x00", b"X\x01\x00\x00\x00a", b"C\x01a", b"\x8c\x01a", b"B\x00\x00\x00\x00",
    b"]", b"}", b")", b"\x8f", b"(", b"0", b"1", b"2", b"R", b"b", b"\x81", b"\x92", b"Q", b"a",
    b"e", b"s", b"u", b"t", b"\x85", b"\x86", b"\x87", b"\x90", b"\x91", b"\x93", b"\x94", b".",
    b"h\x00", b"h\x05", b"j\xff\xff\x00\x00", b"q\x00", b"r\xff\xff\xff\xff",
)  # fmt: skip


def _pickle(rng: random.Random, content: bytes) -> bytes:
    places = []
    try:
        for _, _, place in pickletools.genops(content):
            places.append(place)
    except Exception:  # damaged from here on; genops raises many kinds
        pass
    if len(places) < 3:
        return _blindly(rng, content)
    pieces = [content[a:b] for a, b in zip(places, [*places[1:], len(content)], strict=True)]
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(1, len(pieces))
        edit = rng.choice(["drop", "repeat", "swap", "copy", "replace", "insert", "number"])
        if edit == "drop" and len(pieces) > 3:
            del pieces[at]
        elif edit == "repeat":
            room = max(_LARGEST - sum(map(len, pieces)), 0)
            pieces[at:at] = [pieces[at]] * min(rng.choice([1, 2, 1000]), room // len(pieces[at]))
        elif edit == "swap":
            pieces[at - 1 : at + 1] = reversed(pieces[at - 1 : at + 1])
        elif edit == "copy":
            pieces[at] = rng.choice(pieces)
        elif edit == "number":
            numbers = [i for i, piece in enumerate(pieces) if piece[:1] in (b"K", b"M", b"J")]
            at = rng.choice(numbers or [at])
            pieces[at] = b"J" + _number(rng, 4, "little")
        else:
            new = rng.choice(_OPCODES)
            pieces[at : at + (edit == "replace")] = [new]
    return b"".join(pieces)


def _safetensors(rng: random.Random, content: bytes) -> bytes:
    (length,) = struct.unpack_from("<Q", content.ljust(8, b"\0"))
    try:
        header = json.loads(content[8 : 8 + length])
        name = rng.choice(sorted(set(header) - {"__metadata__"}))
        entry = header[name]
        edit = rng.choice(["shape", "offsets", "dtype", "name", "note", "length"])
        if edit == "shape":
            entry["shape"] = [*entry["shape"], rng.choice(_NUMBERS)][rng.randrange(2) :]
        elif edit == "offsets":
            entry["data_offsets"][rng.randrange(2)] = rng.choice(_NUMBERS)
        elif edit == "dtype":
            entry["dtype"] = rng.choice(
                ["F64", "F16", "BF16", "I8", "U8", "BOOL", "F8_E4M3", "C64"]
            )
        elif edit == "name":
            header[rng.choice(["", "a.b", "x" * 5000, "\n", "generator." + name])] = header.pop(
                name
            )
        elif edit == "note":
            notes = ["{", "[]", '{"network": 1}', "NaN", "[" * 5000, '{"format": 1e400}']
            header["__metadata__"] = {"srgan_plugin": rng.choice(notes)}
        text = json.dumps(header).encode()
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return _blindly(rng, content)
    stated = rng.choice(_NUMBERS) if edit == "length" else len(text)
    return struct.pack("<Q", stated) + text + content[8 + length :]


def _lmdb(rng: random.Random, content: bytes) -> bytes:
    pages = len(content) // 4096
    page = 4096 * rng.randrange(max(pages, 1))
    nodes = [
        struct.unpack_from("<H", content.ljust(page + 4096, b"\0"), page + 16 + 2 * number)[0]
        for number in range(8)
    ]
    # The header of a page, its table of nodes, a node, or the description of the tree.
    at, size = rng.choice(
        [
            (page + rng.choice([0, 8, 10, 12, 14]), 2),
            (page, 8),
            (page + 16 + 2 * rng.randrange(8), 2),
            (page + rng.choice(nodes) + rng.choice([0, 2, 4, 6]), 2),
            (page + rng.choice(nodes) + 8 + rng.randrange(16), 8),
            (rng.choice([0, 4096]) + 16 + 4 * rng.randrange(34), rng.choice([2, 4, 8])),
        ]
    )
    new = _number(rng, size, "little")
    if rng.random() < 0.3:  # a page that there is
        new = rng.randrange(max(pages, 1)).to_bytes(size, "little")
    return content[:at] + new + content[at + size :]


def _lines(rng: random.Random, content: bytes) -> bytes:
    """Damage a text of lines that hold numbers."""
    lines = content.split(b"\n")
    at = rng.randrange(len(lines))
    edit = rng.choice(["drop", "repeat", "swap", "number", "number", "text"])
    if edit == "drop":
        del lines[at]
    elif edit == "repeat":
        lines.insert(rng.randrange(len(lines)), lines[at])
    elif edit == "swap":
        lines[at] = rng.choice(lines)[:20] + lines[at][20:]
    elif edit == "number":
        new = str(rng.choice([*_NUMBERS, "-1", "1e9", "", "٣", "9" * 5000])).encode()
        numbers = list(re.finditer(rb"\d+", lines[at]))
        if numbers:
            found = rng.choice(numbers)
            lines[at] = lines[at][: found.start()] + new + lines[at][found.end() :]
    else:
        lines[at] = lines[at].replace(*rng.choice([(b" ", b"\t"), (b" ", b""), (b",", b", "), (b"raw", b"1"), (b"\xff", b""), (b" crc32=", b"")]))  # fmt: skip # noqa: E501
    return b"\n".join(lines)


def _of_format(content: bytes) -> Mutator:
    """Choose the damage by how a file begins."""
    found = [
        mutator
        for pattern, mutator in (
            (_PNG, _png),
            (_JPEG, _jpeg),
            (b"II*\0", _tiff),
            (b"MM\0*", _tiff),
            (b"BM", _bmp),
            (b"PK", _zip),
            (b"\x80", _pickle),
        )
        if content.startswith(pattern)
    ]
    if content[8:12] == b"WEBP":
        found = [_webp]
    if content[16:20] == b"\xde\xc0\xef\xbe":
        found = [_lmdb]
    if re.match(rb".{5}\0{3}\{", content, re.S):
        found = [_safetensors]
    if not found and content[:4].isascii() and b"(" in content[:200]:
        found = [_lines]
    return found[0] if found else _blindly
