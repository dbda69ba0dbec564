"""Values are found where LMDB itself finds them."""

from mmap import ACCESS_READ, mmap
from pathlib import Path

import lmdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan_plugin.io.lmdb_pages import DamagedError, find_values

KEYS = st.binary(min_size=1, max_size=511)
VALUES = st.one_of(st.binary(max_size=40), st.integers(1, 20000).map(bytes))
STEPS = st.lists(st.tuples(KEYS, st.none() | VALUES), max_size=40)


def values_of(path: Path) -> dict[bytes, bytes]:
    with (path / "data.mdb").open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        found = find_values(data)
        return {key: data[offset : offset + size] for key, (offset, size) in found.items()}


@settings(max_examples=40, deadline=None)
@given(transactions=st.lists(STEPS, max_size=6))
def test_values_are_those_of_lmdb_after_any_transactions(
    tmp_path_factory: pytest.TempPathFactory, transactions: list[list[tuple[bytes, bytes | None]]]
) -> None:
    path = tmp_path_factory.mktemp("x")
    with lmdb.open(str(path), map_size=1 << 26, sync=False) as environment:
        for steps in transactions:
            with environment.begin(write=True) as writing:
                for key, value in steps:
                    if value is None:
                        writing.delete(key)
                    else:
                        writing.put(key, value)
        with environment.begin() as reading:
            expected = dict(reading.cursor())
    assert values_of(path) == expected


def test_a_tree_of_many_levels_is_followed_to_its_ends(tmp_path: Path) -> None:
    expected = {f"{n:0400}".encode(): str(n).encode() * (n % 900) for n in range(2000)}
    with lmdb.open(str(tmp_path), map_size=1 << 26, sync=False) as environment:
        with environment.begin(write=True) as writing:
            for key, value in expected.items():
                writing.put(key, value)
        assert environment.stat()["depth"] > 2
    assert values_of(tmp_path) == expected


def test_a_file_with_named_databases_is_refused(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), map_size=1 << 20, max_dbs=1) as environment:
        environment.open_db(b"named")
    with pytest.raises(DamagedError, match="named"):
        values_of(tmp_path)
