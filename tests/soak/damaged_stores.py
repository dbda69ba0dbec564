"""Cut and flip stores; what is read afterwards must be refused by name, or be what was written.

    python tests/soak/damaged_stores.py --cuts 200 --flips 400 --seed 0

Half of the stores are uncompressed, half of PNG. Each damage is made before anything is read, and
met by a forked process that opens the store and reads every image: a crash is seen as its signal.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402

from srgan_plugin.errors import UserError  # noqa: E402
from srgan_plugin.io.lmdb_store import ImageStore  # noqa: E402
from srgan_plugin.io.lmdb_writer import StoreWriter  # noqa: E402

EQUAL, REFUSED, UNNAMED, WRONG = 0, 1, 2, 3
OUTCOMES = {EQUAL: "harmless", REFUSED: "refused", UNNAMED: "NOT NAMED", WRONG: "WRONG PIXELS"}


def make_store(path: Path, layout: str, images: dict[str, np.ndarray]) -> None:
    """Write a store whose values are of one page and of many."""
    with StoreWriter(path, layout) as writer:  # type: ignore[arg-type]
        for key, image in images.items():
            writer.put(key, image)


def read_all(path: Path, images: dict[str, np.ndarray]) -> int:
    """Open a store, read every image, and return what came of it."""
    try:
        store = ImageStore(path)
        same = store.keys == tuple(sorted(images)) and all(
            np.array_equal(np.asarray(store[key]), image) for key, image in images.items()
        )
    except UserError as error:
        return REFUSED if str(path) in str(error) and "\n" not in str(error) else UNNAMED
    return EQUAL if same else WRONG


def forked(path: Path, images: dict[str, np.ndarray]) -> int:
    """Read in a process of its own; a negative result is the signal that ended it."""
    child = os.fork()
    if child == 0:
        os._exit(read_all(path, images))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Damage, read, print a summary; status 1 if anything crashed or was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--flips", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    pixels = np.random.default_rng(args.seed)
    sizes = [(4, 5), (40, 44), (96, 120), (200, 160)]
    images = {
        f"{number:03}" + "_a_long_name" * (number % 5): pixels.integers(
            0, 256, (*sizes[number % len(sizes)], 3), np.uint8
        )
        for number in range(60)
    }
    found: Counter[tuple[str, str, str]] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        stores = {layout: Path(temporary, f"{layout}.lmdb") for layout in ("raw", "png")}
        for layout, path in stores.items():
            make_store(path, layout, images)
        for kind, number in [("cut", n) for n in range(args.cuts)] + [
            ("flip", n) for n in range(args.flips)
        ]:
            layout = ("raw", "png")[number % 2]
            copy = shutil.copytree(stores[layout], Path(temporary, "x.lmdb"), dirs_exist_ok=True)
            file = copy / ("meta_info.txt" if rng.random() < 0.1 else "data.mdb")
            position = rng.randrange(file.stat().st_size)
            if kind == "cut":
                os.truncate(file, position)
            else:
                with file.open("r+b") as opened:
                    opened.seek(position)
                    (byte,) = opened.read(1)
                    opened.seek(position)
                    opened.write(bytes([byte ^ 1 << rng.randrange(8)]))
            outcome = forked(copy, images)
            word = OUTCOMES.get(outcome, f"CRASH {outcome}")
            found[kind, layout, word] += 1
            if word.isupper() or word.startswith("CRASH"):
                print(f"{kind} of {layout} at {position} of {file.name}: {word}", flush=True)
    for (kind, layout, word), count in sorted(found.items()):
        print(f"{kind:5s} {layout:4s} {word:14s} {count}")
    if any(word not in ("harmless", "refused") for _, _, word in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
