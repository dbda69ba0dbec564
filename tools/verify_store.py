#!/usr/bin/env python
"""Check every image of a store against its checksum, and that LR and HR are complete pairs.

python tools/verify_store.py data/DIV2K/train_x4
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from srgan_plugin.cli.errors import command, one_line
from srgan_plugin.cli.parser import Parser
from srgan_plugin.cli.progress import progress_bar
from srgan_plugin.errors import UserError

if TYPE_CHECKING:
    from srgan_plugin.io.lmdb_store import ImageStore


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
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
    """Check stores, print their damaged and missing parts, and exit with 1 if there are any."""
    args = parse_args(argv)
    from srgan_plugin.io.lmdb_store import DATA, META

    # Either file of a store, or its name: a part whose files are gone is a part nevertheless.
    inside = {file.parent for name in (DATA, META) for file in args.store.glob(f"*/{name}")}
    inside |= {path for path in args.store.glob("*.lmdb") if path.is_dir()}
    stores = {path: _open(path) for path in sorted(inside) or [args.store]}
    damaged = [store is None or _verify(store, args.workers) for store in stores.values()]
    misfits = list(_misfits(args.store, stores)) if inside else []
    for line in misfits:
        sys.stderr.write(f"error: {line}\n")
    if any(damaged) or misfits:
        raise SystemExit(1)


def _open(path: Path) -> "ImageStore | None":
    """Open a store; if that fails, print the reason and return None."""
    from srgan_plugin.io.lmdb_store import ImageStore

    try:
        return ImageStore(path)
    except UserError as error:
        sys.stderr.write(f"error: {one_line(error)}\n")
        return None


def _misfits(folder: Path, stores: "Mapping[Path, ImageStore | None]") -> Iterator[str]:
    """Yield a line for each problem of the HR and LR stores in a folder of `create_store.py`."""
    from srgan_plugin.data.pairs import GT_STORE, ImagePairs, lr_store_name

    gt, form = folder / GT_STORE, lr_store_name("*")
    lrs = [path for path in stores if path.match(form)]
    again = "copy it, or make the store again by tools/create_store.py FOLDER --out STORE"
    if lrs and gt not in stores:
        yield f"{folder}: expected {GT_STORE} beside {lrs[0].name}, got none; {again}"
    elif gt in stores and not lrs:
        yield f"{folder}: expected {form} beside {GT_STORE}, got none; {again}"
    for lr in lrs:
        if stores.get(gt) is None or stores[lr] is None:
            continue  # reported already
        scale = lr.stem.removeprefix(form.partition("*")[0])
        try:
            ImagePairs(gt, lr, scale=int(scale))
        except (UserError, ValueError) as error:
            yield one_line(error)


def _verify(store: "ImageStore", workers: int | None) -> bool:
    """Print the damaged images of a store, then a summary; return whether there are any."""
    damaged = 0
    with ThreadPoolExecutor(workers) as pool, progress_bar("verify", "image") as show:
        for done, line in enumerate(pool.map(partial(_damage, store), store.keys), 1):
            if line is not None:
                damaged += 1
                sys.stderr.write(f"error: {line}\n")
            show(done, len(store.keys))
    how = "by checksum" if store.has_checksums else "by size and decoding: it has no checksums"
    print(f"{store.path}: {damaged} of {len(store.keys)} images are damaged (checked {how})")
    return damaged > 0


def _damage(store: "ImageStore", key: str) -> str | None:
    try:
        store.verify(key)
    except UserError as error:
        return one_line(error)
    return None


if __name__ == "__main__":
    main()
