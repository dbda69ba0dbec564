"""Where the values of an LMDB file are, found without LMDB.

LMDB trusts its file: a truncated or damaged one ends the process with a bus error. Here every
number that is read from the file is checked first. The format is that of LMDB 0.9 (`MDB_meta`,
`MDB_page` and `MDB_node` in `mdb.c`) on little-endian machines of 64 bits.
"""

import struct
from collections.abc import Iterator
from mmap import mmap
from typing import Final, NamedTuple

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER: Final = struct.Struct("<QHHHH")  # page number, unused, flags, lower, upper
_NODE: Final = struct.Struct("<HHHH")  # size or page (low, high), flags, length of the key
_PAGE_NUMBER: Final = struct.Struct("<Q")
_DATABASE: Final = "IHHQQQQQ"  # page size, flags, depth, three counts of pages, entries, root
_META: Final = struct.Struct(f"<IIQQ{_DATABASE}{_DATABASE}QQ")
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_BIG = 1  # the value has pages of its own
_NO_PAGE: Final = 2**64 - 1


class DamagedError(Exception):
    """The file is not LMDB's, or damaged; the message says where."""


class Value(NamedTuple):
    """The bytes of a value in the file."""

    offset: int
    size: int


class _Database(NamedTuple):
    page_size: int
    flags: int
    entries: int
    root: int
    transaction: int


def find_values(file: mmap) -> dict[bytes, Value]:
    """Return where each value is, by key.

    Raises:
        DamagedError: The file is truncated, damaged, or in another format.
    """
    try:
        database = _newest(file)
        values = dict(_walk(file, database))
    except struct.error as error:
        raise DamagedError("it is truncated") from error
    if len(values) != database.entries:
        raise DamagedError(f"it should have {database.entries} values, but has {len(values)}")
    return values


def _newest(file: mmap) -> _Database:
    """Return the main database as the last complete transaction left it."""
    first = _read_meta(file, 0)
    if first is None:
        raise DamagedError("its first page is not that of an LMDB 0.9 file")
    second = _read_meta(file, first.page_size)
    newest = first if second is None or first.transaction > second.transaction else second
    if newest.page_size != first.page_size or newest.flags:
        raise DamagedError(f"it has page size {newest.page_size} and flags {newest.flags}")
    return newest


def _read_meta(file: mmap, at: int) -> _Database | None:
    magic, version, _, _, page_size, *_, flags, _, _, _, _, entries, root, _, transaction = (
        _META.unpack_from(file, at + _HEADER.size)
    )
    power_of_two = 512 <= page_size <= 65536 and page_size & (page_size - 1) == 0
    if (magic, version) != (_MAGIC, _VERSION) or not power_of_two:
        return None
    return _Database(page_size, flags, entries, root, transaction)


def _walk(file: mmap, database: _Database) -> Iterator[tuple[bytes, Value]]:
    """Yield every key with its value, by following the tree from its root."""
    pages = [] if database.root == _NO_PAGE else [database.root]
    seen: set[int] = set()
    while pages:
        number = pages.pop()
        if number in seen:
            raise DamagedError(f"page {number} has two parents")
        seen.add(number)
        start = number * database.page_size
        flags = _check_page(file, start, number)
        for at, size, node_flags, key in _nodes(file, start, database.page_size):
            if flags & _BRANCH:
                pages.append(size | node_flags << 32)
            elif node_flags == _BIG:
                (page,) = _PAGE_NUMBER.unpack_from(file, at)
                overflow = page * database.page_size
                if not _check_page(file, overflow, page) & _OVERFLOW:
                    raise DamagedError(f"page {page} is not one of a value")
                yield key, _checked(file, overflow + _HEADER.size, size)
            elif node_flags == 0:
                yield key, _checked(file, at, size)
            else:
                raise DamagedError(f"{key!r} is not a plain value")


def _check_page(file: mmap, start: int, number: int) -> int:
    """Return the flags of a page, which must lie in the file and bear its own number."""
    if start + _HEADER.size > len(file):
        raise DamagedError(f"it ends before page {number}")
    own, _, flags, _, _ = _HEADER.unpack_from(file, start)
    if own != number or flags not in (_BRANCH, _LEAF, _OVERFLOW):
        raise DamagedError(f"page {number} is damaged")
    return int(flags)


def _nodes(file: mmap, start: int, page_size: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield where the data of each node of a page begin, its size or page, its flags, its key."""
    *_, lower, _ = _HEADER.unpack_from(file, start)
    count = (lower - _HEADER.size) // 2
    if not 0 <= count <= page_size // 2 or start + page_size > len(file):
        raise DamagedError(f"page {start // page_size} is damaged or truncated")
    for (pointer,) in struct.iter_unpack("<H", file[start + 16 : start + 16 + 2 * count]):
        at = start + pointer
        low, high, flags, key_size = _NODE.unpack_from(file, at)
        data = at + _NODE.size + key_size
        if pointer < _HEADER.size or data > start + page_size:
            raise DamagedError(f"page {start // page_size} is damaged")
        yield data, low | high << 16, flags, file[at + _NODE.size : data]


def _checked(file: mmap, offset: int, size: int) -> Value:
    if offset + size > len(file):
        raise DamagedError(f"it has {len(file)} bytes, a value ends at {offset + size}")
    return Value(offset, size)
