#!/usr/bin/env python
"""Score the bundled weights; write their cards, curves, image and the table of the README.

python tools/zoo_cards.py --benchmarks data
"""

import argparse
import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.parser import Parser
from srgan_plugin.cli.progress import progress_bar
from srgan_plugin.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
BEGIN = "<!-- zoo: tools/zoo_cards.py writes this part -->"
END = "<!-- /zoo -->"
# Windows of images of Kodak24 with visible differences, by number: top, left, height, width.
SHOWN = {
    23: (140, 370, 160, 208),
    7: (150, 290, 160, 208),
    21: (170, 50, 160, 208),
}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--benchmarks", type=Path, help="folder of Set5, Set14, B100, Kodak24 (default: data)"
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to write into")
    return parser.parse_args(argv)


def describe_weights(folder: Path) -> dict[str, dict[str, Any]]:
    """Return hash, size and number of parameters of each weight file."""
    from srgan_plugin.checkpoints.hub import BUNDLED_MODELS
    from srgan_plugin.inference.models import open_model
    from srgan_plugin.io.download import sha256

    files = {}
    for name in BUNDLED_MODELS:
        path = folder / f"{name}.safetensors"
        count = sum(p.numel() for p in open_model(str(path)).parameters())
        files[name] = {
            "sha256": sha256(path),
            "bytes": path.stat().st_size,
            "parameters": count,
        }
    return files


def update_scores(weights: Path, benchmarks: Path, kept: Path) -> dict[str, Any]:
    """Score the weights on test sets that are not in `kept` yet, and add them there.

    Args:
        weights: Folder of the bundled weights.
        benchmarks: Folder of the test sets.
        kept: JSON file of scores.

    Returns:
        The content of the file: hashes and sizes of the weights, origins of the LR images, and
        scores by test set and method, of the LR images ("sets") and of them after JPEG ("jpeg").
    """
    from zoo.scores import JPEG_QUALITY, SETS, measure, methods, require_complete
    from zoo.tables import COLUMNS

    from srgan_plugin.data.benchmark_sets import find_benchmark
    from srgan_plugin.data.degradation import compress_jpeg
    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.io.text_files import read_json

    results: dict[str, Any] = {"weights": describe_weights(weights), "lr_origins": {}}
    results |= {"sets": {}, "jpeg": {}}
    if kept.is_file():
        before = read_json(kept, "results of an earlier run")
        results |= before if before["weights"] == results["weights"] else {}
    for name in SETS:
        # In a file of an older version, scores that the cards show may be missing.
        if COLUMNS.keys() <= results["jpeg"].get(name, {}).get("bicubic", {}).keys():
            continue
        benchmark = require_complete(find_benchmark(name, benchmarks))
        with progress_bar(name) as show:
            results["sets"][name] = measure(benchmark, methods(weights), show)
        compress = partial(compress_jpeg, quality=JPEG_QUALITY)
        with progress_bar(f"{name}, JPEG") as show:
            results["jpeg"][name] = measure(benchmark, methods(weights), show, compress)
        results["lr_origins"][name] = benchmark.lr_origin
        write_text(json.dumps(results, indent=2) + "\n", kept)
    return results


def before_after(
    weights: Path, benchmarks: Path, target: Path, names: Sequence[str], quality: int | None
) -> None:
    """Write an image of windows of Kodak24, upscaled by several methods, beside the originals.

    Args:
        weights: Folder of the bundled weights.
        benchmarks: Folder of the test sets.
        target: WebP file to write.
        names: Methods to show.
        quality: Quality of the JPEG compression of LR images; None leaves it out.
    """
    import cv2
    import numpy as np
    from zoo.scores import methods
    from zoo.tables import LABELS

    from srgan_plugin.data.benchmark_sets import find_benchmark
    from srgan_plugin.data.degradation import compress_jpeg
    from srgan_plugin.io.atomic import atomic_path
    from srgan_plugin.reports.contact_sheet import Region, sheet

    pairs, rows = find_benchmark("Kodak24", benchmarks).pairs, []
    shown = {name: method for name, method in methods(weights).items() if name in names}
    numbers = [int(re.sub(r"\D", "", key)) for key in pairs.keys]  # 7, kodim07
    for number, region in SHOWN.items():
        pair, window = pairs[numbers.index(number)], Region(*region)
        lr = np.asarray(pair.lr)
        lr = lr if quality is None else compress_jpeg(lr, quality)
        row = {LABELS[name]: window.of(method(lr)) for name, method in shown.items()}
        rows.append({**row, LABELS["HR"]: window.of(np.asarray(pair.gt))})
    bgr = cv2.cvtColor(sheet(rows), cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, 95])
    with atomic_path(target) as temporary:
        temporary.write_bytes(encoded.tobytes())


def put_between_marks(text: str, readme: Path) -> None:
    """Replace the section of the README that this tool writes."""
    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.io.text_files import read_text

    before, begin, rest = read_text(readme, "a README").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UserError(f"{readme}: expected the lines {BEGIN} and {END}, got none; restore them")
    write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", readme)


@command
def main(argv: list[str] | None = None) -> None:
    """Score the weights and write all files."""
    args = parse_args(argv)
    from zoo import cards, curves
    from zoo.scores import JPEG_QUALITY

    from srgan_plugin.checkpoints.hub import SUMS
    from srgan_plugin.data.benchmark_sets import data_root
    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.io.text_files import read_json

    weights, docs = args.root / "srgan_plugin/checkpoints/weights", args.root / "docs/zoo"
    benchmarks = args.benchmarks or data_root()
    training_summary = read_json(docs / "training.json", "the summary that train_zoo.py writes")
    results = update_scores(weights, benchmarks, docs / "results.json")
    sums = [f"{files['sha256']}  {name}.safetensors" for name, files in results["weights"].items()]
    write_text("\n".join(sums) + "\n", weights / SUMS)
    for name, training in training_summary["models"].items():
        chosen = training.get("start", 0) + training["chosen"]
        curves.draw(training["curves"], chosen, docs / f"{name}.svg")
        write_text(cards.card(name, results, training_summary), weights / f"{name}.md")
    clean, blind = ("bicubic", "msrresnet", "srgan"), ("bicubic", "msrresnet", "photo")
    before_after(weights, benchmarks, docs / "before_after.webp", clean, None)
    before_after(weights, benchmarks, docs / "photo.webp", blind, JPEG_QUALITY)
    put_between_marks(cards.readme(results, training_summary), args.root / "README.md")
    print(f"cards in {weights}, numbers, curves and image in {docs}, table in README.md")


if __name__ == "__main__":
    main()
