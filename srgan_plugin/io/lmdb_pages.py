"""Find the values in an LMDB file without LMDB.

LMDB does not check its file: a truncated or damaged one kills the process by a bus error. This
module checks every number that it reads. The format is that of LMDB 0.9 (`MDB_meta`, `MDB_page` and
`MDB_node` in `mdb.c`) on little-endian 64-bit machines.
"""

import struct
from collections.abc import Iterator
from mmap import mmap
from typing import Final, NamedTuple

_MAGIC: Final = 0xBEEFC0DE
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<QHHHH")  # page number, unused, flags, lower, upper
_NODE: Final = struct.Struct("<HHHH")  # size or page (low, high), flags, length of the key
_PAGE_NUMBER: Final = struct.Struct("<Q")
_DATABASE: Final = "IHHQQQQQ"  # page size, flags, depth, three counts of pages, entries, root
_META: Final = struct.Struct(f"<IIQQ{_DATABASE}{_DATABASE}QQ")
# Flags of pages.
_BRANCH: Final = 1
_LEAF: Final = 2
_OVERFLOW: Final = 4
_BIG = 1  # the value is in overflow pages
_NO_PAGE: Final = 2**64 - 1


class DamagedError(Exception):
    """Error in a file that is damaged or not an LMDB file; the message has the place."""


class Value(NamedTuple):
    """Offset and size of a value in the file, in bytes."""

    offset: int
    size: int


class _Database(NamedTuple):
    page_size: int
    flags: int
    entries: int
    root: int
    transaction: int


def find_values(file: mmap) -> dict[bytes, Value]:
    """Return offset and size of each value, by key.

    Raises:
        DamagedError: The file is truncated, damaged, or in another format.
    """
    try:
        database = _newest(file)
        values = dict(_iter_values(file, database))
    except struct.error as error:
        raise DamagedError("it is truncated") from error
    if len(values) != database.entries:
        raise DamagedError(f"expected {database.entries} values, got {len(values)}")
    return values


def _newest(file: mmap) -> _Database:
    """Return the main database after the last complete transaction."""
    first = _read_meta(file, 0)
    if first is None:
        raise DamagedError("expected the first page of an LMDB 0.9 file, got another one")
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
    return _Database(
        page_size=page_size, flags=flags, entries=entries, root=root, transaction=transaction
    )


def _iter_values(file: mmap, database: _Database) -> Iterator[tuple[bytes, Value]]:
    """Yield every key with its value, following the tree from its root."""
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
                    raise DamagedError(f"page {page} is not an overflow page")
                yield key, _check_range(file, overflow + _HEADER.size, size)
            elif node_flags == 0:
                yield key, _check_range(file, at, size)
            else:
                raise DamagedError(f"{key!r} is not a plain value")


def _check_page(file: mmap, start: int, number: int) -> int:
    """Check that a page is inside the file and has its own number; return its flags."""
    if start + _HEADER.size > len(file):
        raise DamagedError(f"it ends before page {number}")
    own, _, flags, _, _ = _HEADER.unpack_from(file, start)
    if own != number or flags not in (_BRANCH, _LEAF, _OVERFLOW):
        raise DamagedError(f"page {number} is damaged")
    return int(flags)


def _nodes(file: mmap, start: int, page_size: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield offset of the data, size or page, flags and key of each node of a page."""
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


def _check_range(file: mmap, offset: int, size: int) -> Value:
    if offset + size > len(file):
        raise DamagedError(f"expected at least {offset + size} bytes, got {len(file)}")
    return Value(offset, size)
