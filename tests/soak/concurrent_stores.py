"""Writers and readers of one store at once; no reader may get a pixel that nobody wrote.

    python tests/soak/concurrent_stores.py --seconds 60

Two processes make the same store again and again, replacing it; forked and spawned readers, 64 of
them at a time, open it and read. Each image is of one colour, the same for all images of a store:
whatever a reader gets must be of one store. To be told that the store was replaced is right, too.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402

from srgan_plugin.errors import UserError  # noqa: E402
from srgan_plugin.io.atomic import atomic_directory  # noqa: E402
from srgan_plugin.io.lmdb_store import ImageStore  # noqa: E402
from srgan_plugin.io.lmdb_writer import StoreWriter  # noqa: E402

KEYS, SIZE = "abcdef", 50


def write(path: Path, colour: int) -> str:
    """Make the store in one colour, replacing another."""
    try:
        with (
            atomic_directory(path, replace=True) as folder,
            StoreWriter(folder / "GT.lmdb", "raw" if colour % 2 else "png") as writer,
        ):
            for key in KEYS:
                writer.put(key, np.full((SIZE, SIZE, 3), colour, np.uint8))
    except OSError as error:
        return f"writer: {error}"
    return "written"


def read(path: Path, store: ImageStore | None = None) -> str:
    """Read every image twice, in a store that is opened here or was opened by the parent."""
    try:
        store = store or ImageStore(path / "GT.lmdb")
        colours = {int(c) for key in KEYS * 2 for c in np.unique(np.asarray(store[key]))}
    except (UserError, OSError) as error:
        return "refused" if "GT.lmdb" in str(error) else f"NOT NAMED: {error}"
    return "read" if len(colours) == 1 else f"WRONG: {sorted(colours)}"


def _keep_writing(
    path: Path, first: int, until: float, results: "multiprocessing.Queue[str]"
) -> None:
    colour = first
    while time.time() < until:
        results.put(write(path, colour % 256))
        colour += 2


def _read_into(
    results: "multiprocessing.Queue[str]", path: Path, store: ImageStore | None = None
) -> None:
    results.put(read(path, store))


def main() -> None:
    """Write and read for a while, print what happened; status 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--readers", type=int, default=64)
    args = parser.parse_args()
    fork, spawn = (multiprocessing.get_context(method) for method in ("fork", "spawn"))
    results: multiprocessing.Queue[str] = spawn.Queue()
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "store"
        write(path, 1)
        until = time.time() + args.seconds
        writers = [
            fork.Process(target=_keep_writing, args=(path, first, until, results))
            for first in (1, 2)
        ]
        for writer in writers:
            writer.start()
        while time.time() < until:
            try:
                opened = ImageStore(path / "GT.lmdb")
            except (UserError, OSError):
                opened = None
            readers = [
                (spawn if number % 32 == 0 else fork).Process(
                    target=_read_into, args=(results, path, opened if number % 2 else None)
                )
                for number in range(args.readers)
            ]
            for reader in readers:
                reader.start()
            for reader in readers:
                while reader.is_alive() or not results.empty():
                    while not results.empty():
                        found[results.get()] += 1
                    reader.join(0.01)
                if reader.exitcode:
                    found[f"CRASH {reader.exitcode}"] += 1
        for writer in writers:
            while writer.is_alive() or not results.empty():
                while not results.empty():
                    found[results.get()] += 1
                writer.join(0.01)
        left = sorted(p.name for p in Path(temporary).iterdir())
    for word, count in sorted(found.items()):
        print(f"{word:20s} {count}")
    print(f"left in the folder: {', '.join(left)}")
    if left != ["store"] or any(word[0].isupper() for word in found) or not found["read"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
