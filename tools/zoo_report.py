#!/usr/bin/env python
"""Write the example report: training, scores and images of the bundled weights.

python tools/zoo_report.py
"""

import argparse
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.parser import Parser
from srgan_plugin.cli.progress import progress_bar
from srgan_plugin.errors import UserError, check_option

if TYPE_CHECKING:
    from srgan_plugin.io.array_types import RGBArray
    from srgan_plugin.reports.runs import Run

ROOT = Path(__file__).resolve().parent.parent
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee")
METRICS = ("PSNR", "SSIM", "PSNR_Y", "SSIM_Y", "SSIM_B", "NIQE")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--training", type=Path, default=ROOT / "docs/zoo/training.json")
    parser.add_argument("--results", type=Path, default=ROOT / "docs/zoo/results.json")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/report_example.html")
    return parser.parse_args(argv)


def photographs() -> dict[str, "RGBArray"]:
    """Return the photographs of scikit-image by name."""
    try:
        from skimage import data
    except ImportError:
        raise UserError(
            "photographs: expected scikit-image, got none; pip install scikit-image"
        ) from None
    return {name: getattr(data, name)() for name in PHOTOGRAPHS}


def write_run(folder: Path, name: str, training: Mapping[str, Any], sets: Any) -> None:
    """Write the folder of a run as a training leaves it, without times and machines.

    Args:
        folder: Folder to write.
        name: Name of the bundled weights.
        training: Summary of the training, as in `docs/zoo/training.json`.
        sets: Scores by test set and method, as in `docs/zoo/results.json`.
    """
    from srgan_plugin.checkpoints.hub import WEIGHTS
    from srgan_plugin.cli.configs import read_config
    from srgan_plugin.data.benchmark_sets import SIZES
    from srgan_plugin.metrics.results_files import results_text

    lines: dict[tuple[int, bool], dict[str, float]] = defaultdict(dict)
    for title, curve in training["curves"].items():
        for step, value in curve:
            validation = title.startswith("held-out ")
            lines[step, validation][title.replace("held-out ", "held-out/")] = value
    log = folder / "training/vis_data/scalars.json"
    log.parent.mkdir(parents=True)
    entries = (json.dumps({**line, "step": step}) for (step, _), line in sorted(lines.items()))
    log.write_text("\n".join(entries) + "\n")
    config = read_config(ROOT / "configs" / training["config"]).pretty_text
    for path in (folder / training["config"], log.with_name("config.py")):
        path.write_text(config, encoding="utf-8")
    scores = {title: {m: methods[name][m] for m in METRICS} for title, methods in sets.items()}
    (folder / "benchmarks.json").write_text(results_text(scores, SIZES))
    shutil.copy(WEIGHTS / f"{name}.safetensors", folder)


def read_runs(folder: Path, training: Path, results: Path) -> "list[Run]":
    """Return the trainings of the bundled weights as runs.

    Args:
        folder: Empty folder for the files of the runs.
        training: Summary of the trainings.
        results: Scores of the bundled weights.

    Raises:
        UserError: The scores are of other weights.
    """
    from zoo.tables import LABELS

    from srgan_plugin.checkpoints.hub import BUNDLED_MODELS, WEIGHTS
    from srgan_plugin.io.download import sha256
    from srgan_plugin.io.text_files import read_json
    from srgan_plugin.reports.runs import read_run

    summaries = read_json(training, "the summary that train_zoo.py writes")["models"]
    scores, runs = read_json(results, "the scores that zoo_cards.py writes"), []
    for name, summary in summaries.items():
        check_option("model", name, BUNDLED_MODELS)
        recorded = scores["weights"][name]["sha256"]
        if recorded != (digest := sha256(WEIGHTS / f"{name}.safetensors")):
            raise UserError(
                f"{results}: expected scores of the bundled {name} ({digest[:8]}), got those of "
                f"{recorded[:8]}; run tools/zoo_cards.py first"
            )
        write_run(folder / LABELS[name], name, summary, scores["sets"])
        run, chosen = read_run(folder / LABELS[name]), summary.get("start", 0) + summary["chosen"]
        run.info["bundled weights"] = f"of iteration {chosen}, by {summary['chosen_by']}"
        later = ("interpolation", "colours", "detail")  # changes of the weights after the training
        run.info |= {key: summary["recipe"][key] for key in later if key in summary["recipe"]}
        runs.append(run)
    return runs


def viewer_images(folder: Path) -> dict[str, Any]:
    """Upscale the photographs, downscaled before, and return the data of the image viewer.

    Args:
        folder: Empty folder for the photographs.
    """
    from zoo.cards import PUBLISHED
    from zoo.scores import SCALE

    from srgan_plugin.data.prepare.benchmark_sets import MULTIPLE
    from srgan_plugin.data.resize import imresize
    from srgan_plugin.io.writers import write_image
    from srgan_plugin.reports.comparison import CompareOptions, upscaled_gallery
    from srgan_plugin.reports.gallery import viewer_data

    def stop(path: Path, error: Exception) -> None:
        raise error

    for name, image in photographs().items():
        height, width = (size - size % MULTIPLE for size in image.shape[:2])
        hr = image[:height, :width]
        write_image(folder / f"hr/{name}.png", hr)
        write_image(folder / f"lr/{name}.png", imresize(hr, 1 / SCALE))
    models = ("bicubic", *PUBLISHED)  # not photo, because these LR images are clean
    options = CompareOptions(hr=folder / "hr", device="cpu")
    with progress_bar("upscale") as show:
        gallery = upscaled_gallery(
            [str(folder / "lr")], models, folder / "out", options, progress=show, failed=stop
        )
    notes = (f"LR and bicubic: MATLAB's imresize, x1/{SCALE} and x{SCALE}",)
    with progress_bar("images") as show:
        return viewer_data(gallery._replace(notes=notes), progress=show)


@command
def main(argv: list[str] | None = None) -> None:
    """Write the page."""
    args = parse_args(argv)
    os.environ.pop("SRGAN_DATA", None)  # the configs on the page must not contain its value
    from zoo.cards import PUBLISHED
    from zoo.tables import LABELS

    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.reports.run_page import run_page

    with TemporaryDirectory() as work:
        runs = read_runs(Path(work) / "runs", args.training, args.results)
        page = run_page(
            runs,
            title="The bundled weights: training and test",
            reference={LABELS[name]: row for name, (row, _) in PUBLISHED.items()},
            images=viewer_images(Path(work)),
        )
    write_text(page, args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
