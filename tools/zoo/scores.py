"""The table of the weights that ship: bicubic, both networks and originals on every test set."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from srgan_plugin.checkpoints.hub import BUNDLED_MODELS
from srgan_plugin.data.benchmark_sets import Benchmark
from srgan_plugin.data.resize import imresize
from srgan_plugin.errors import UserError
from srgan_plugin.inference import Upscaler, open_model
from srgan_plugin.metrics import Scorer, quantize
from srgan_plugin.metrics.niqe import niqe, pristine_model

from .image_quality import checkerboard, colour_shift

Image = NDArray[np.uint8]
Upscale = Callable[[Image], Image]
Scores = dict[str, float]

SETS: Final = ("Set5", "Set14", "B100", "Kodak24")
SCALE: Final = 4
ORIGINAL: Final = "HR"


def bicubic(lr: Image) -> Image:
    """Enlarges (h, w, 3) uint8 by MATLAB's bicubic, rounded once."""
    return quantize(imresize(lr / 255, SCALE))


def methods(weights: Path) -> dict[str, Upscale]:
    """Bicubic, and the networks of a folder that ship, as functions of (h, w, 3) uint8 images.

    Raises:
        FileNotFoundError: Weights are not there.
    """
    networks = {
        name: Upscaler(open_model(str(weights / f"{name}.safetensors"))) for name in BUNDLED_MODELS
    }
    return {"bicubic": bicubic, **networks}


def whole(benchmark: Benchmark) -> Benchmark:
    """Check that a test set is complete: cards compare with published numbers.

    Raises:
        ValueError: It is not.
    """
    if benchmark.missing_images:
        raise UserError(
            f"{benchmark.name} has {benchmark.missing_images}, and cards need all: complete it"
        )
    return benchmark


def measure(
    benchmark: Benchmark,
    upscale: Mapping[str, Upscale],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Scores]:
    """Measures methods on a test set.

    Args:
        benchmark: The test set.
        upscale: The methods by name, bicubic among them.
        progress: Called with the numbers of images done and in all.

    Returns:
        For each method, PSNR and SSIM (RGB and Y), SSIM of blue, NIQE and `checkerboard`, averaged
        over the images, and the largest `colour_shift` of any. For the originals, "HR", those that
        need no original to compare with.
    """
    rows: dict[str, list[Scores]] = {name: [] for name in (*upscale, ORIGINAL)}
    total = len(benchmark.pairs)
    for index in range(total):
        pair = benchmark.pairs[index]
        lr, gt = np.asarray(pair.lr), np.asarray(pair.gt)
        made = {name: method(lr) for name, method in upscale.items()}
        for name, image in made.items():
            rows[name].append(_compared(image, gt) | _alone(image, made["bicubic"]))
        rows[ORIGINAL].append(_alone(gt, made["bicubic"]))
        progress(index + 1, total)
    return {name: _summary(scores) for name, scores in rows.items()}


def _compared(image: Image, gt: Image) -> Scores:
    return {**Scorer(border=SCALE).score(image, gt), "colour_shift": colour_shift(image, gt)}


def _alone(image: Image, smooth: Image) -> Scores:
    natural = niqe(image, pristine_model(), border=SCALE)
    return {"NIQE": natural, "checkerboard": checkerboard(image, smooth)}


def _summary(rows: list[Scores]) -> Scores:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        name: round(float(max(values) if name == "colour_shift" else np.mean(values)), 4)
        for name, values in columns.items()
    }
