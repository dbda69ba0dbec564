#!/usr/bin/env python
"""Check every image of a store against its checksum.

python tools/verify_store.py data/DIV2K/train_x4
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from srgan_plugin.cli.errors import command, one_line
from srgan_plugin.cli.progress import progress_bar
from srgan_plugin.errors import UserError

if TYPE_CHECKING:
    from srgan_plugin.io.lmdb_store import ImageStore


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "store", metavar="STORE", type=Path, help="an LMDB store, or a folder with several"
    )
    parser.add_argument("--workers", type=int, help="threads (default: as Python chooses)")
    args = parser.parse_args(argv)
    if args.workers is not None and args.workers < 1:
        parser.error(f"--workers: expected at least 1, got {args.workers}")
    return args


@command
def main(argv: list[str] | None = None) -> None:
    """Check one store or several, print the damaged images, and exit with 1 if there are any."""
    args = parse_args(argv)
    inside = sorted(file.parent for file in args.store.glob("*/data.mdb"))
    damaged = [_verify(path, args.workers) for path in inside or [args.store]]
    if any(damaged):
        raise SystemExit(1)


def _verify(path: Path, workers: int | None) -> bool:
    """Print the damaged images of a store, then a summary; return whether there are any."""
    from srgan_plugin.io.lmdb_store import ImageStore

    try:
        store = ImageStore(path)
    except UserError as error:
        sys.stderr.write(f"error: {one_line(error)}\n")
        return True
    damaged = 0
    with ThreadPoolExecutor(workers) as pool, progress_bar("verify", "image") as show:
        for done, line in enumerate(pool.map(partial(_damage, store), store.keys), 1):
            if line is not None:
                damaged += 1
                sys.stderr.write(f"error: {line}\n")
            show(done, len(store.keys))
    how = "by checksum" if store.has_checksums else "by size and decoding: it has no checksums"
    print(f"{path}: {damaged} of {len(store.keys)} images are damaged (checked {how})")
    return damaged > 0


def _damage(store: "ImageStore", key: str) -> str | None:
    try:
        store.verify(key)
    except UserError as error:
        return one_line(error)
    return None


if __name__ == "__main__":
    main()
