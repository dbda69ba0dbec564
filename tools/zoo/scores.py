"""Score bicubic, the bundled networks and the originals on every test set."""

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
from srgan_plugin.metrics.niqe import PristineModel, niqe, pristine_model

from .image_quality import checkerboard, colour_shift

Image = NDArray[np.uint8]
#: Function of images; most upscale them.
Upscale = Callable[[Image], Image]
Scores = dict[str, float]

SETS: Final = ("Set5", "Set14", "B100", "Kodak24")
SCALE: Final = 4
#: Quality of the JPEG compression of LR images, for which `photo` is made.
JPEG_QUALITY: Final = 60
ORIGINAL: Final = "HR"


def bicubic(lr: Image) -> Image:
    """Upscale an image (h, w, 3), uint8, by MATLAB's bicubic, rounded once."""
    return quantize(imresize(lr / 255, SCALE))


def methods(weights: Path) -> dict[str, Upscale]:
    """Return bicubic and the bundled networks in a folder, as functions of images (h, w, 3), uint8.

    Raises:
        MissingFileError: Weights are missing.
    """
    networks = {
        name: Upscaler(open_model(str(weights / f"{name}.safetensors"))) for name in BUNDLED_MODELS
    }
    return {"bicubic": bicubic, **networks}


def require_complete(benchmark: Benchmark) -> Benchmark:
    """Return a test set if it is complete, because cards compare with published values.

    Raises:
        UserError: The test set is incomplete.
    """
    if benchmark.missing_images:
        raise UserError(
            f"{benchmark.name}: expected a complete test set, got {benchmark.missing_images}; add "
            "the missing ones"
        )
    return benchmark


def measure(
    benchmark: Benchmark,
    upscale: Mapping[str, Upscale],
    progress: Callable[[int, int], None] = lambda done, total: None,
    degrade: Upscale = lambda lr: lr,
) -> dict[str, Scores]:
    """Score methods on a test set.

    Args:
        benchmark: The test set.
        upscale: Methods by name, with "bicubic" among them.
        progress: Called with the number of images done and the total.
        degrade: Function of each LR image, (h, w, 3), uint8, before it is upscaled.

    Returns:
        Scores by method: PSNR and SSIM (RGB and Y), SSIM of the blue channel, NIQE and
        `checkerboard`, averaged over images, and the largest `colour_shift`. For the originals,
        "HR", only NIQE and `checkerboard`.
    """
    rows: dict[str, list[Scores]] = {name: [] for name in (*upscale, ORIGINAL)}
    total, pristine = len(benchmark.pairs), pristine_model()
    for index in range(total):
        pair = benchmark.pairs[index]
        lr, gt = degrade(np.asarray(pair.lr)), np.asarray(pair.gt)
        sr = {name: method(lr) for name, method in upscale.items()}
        for name, image in sr.items():
            without_gt = _score_without_gt(image, sr["bicubic"], pristine)
            rows[name].append(_score_with_gt(image, gt) | without_gt)
        rows[ORIGINAL].append(_score_without_gt(gt, sr["bicubic"], pristine))
        progress(index + 1, total)
    return {name: _summary(scores) for name, scores in rows.items()}


def _score_with_gt(image: Image, gt: Image) -> Scores:
    return {**Scorer(border=SCALE).score(image, gt), "colour_shift": colour_shift(image, gt)}


def _score_without_gt(image: Image, smooth: Image, pristine: PristineModel) -> Scores:
    natural = niqe(image, pristine, border=SCALE)
    return {"NIQE": natural, "checkerboard": checkerboard(image, smooth)}


def _summary(rows: list[Scores]) -> Scores:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        name: round(float(max(values) if name == "colour_shift" else np.mean(values)), 4)
        for name, values in columns.items()
    }
