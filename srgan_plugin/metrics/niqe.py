"""NIQE: how natural an image looks, without a reference (Mittal, Soundararajan and Bovik 2013).

NIQE needs a model of natural images, which its authors released for MATLAB under a licence for
"this code (the source files) and its documentation". Whether that includes the model is not stated,
so it is not bundled with this package; BasicSR and MMagic contain it.
"""

import functools
import math
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from srgan_plugin.errors import MissingFileError, UserError, check_count

from .psnr_ssim import NOT_FINITE, check_arrays

Float = NDArray[np.floating[Any]]

_PATCH = 96
_COUNT = 36  # features, 18 at each of two scales
_GAUSSIAN = cv2.getGaussianKernel(7, 7 / 6)
# Keys' cubic (a = -0.5), widened to halve, at 3.5, 2.5, … input pixels: exact in float32.
_HALVING = torch.tensor([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
_SHAPES = np.arange(0.2, 10.001, 0.001)  # candidates for the shape of a generalized Gaussian
# The authors' model in packages that may be installed; they are not imported.
_FILES = {
    "basicsr": "metrics/niqe_pris_params.npz",
    "mmagic": "evaluation/metrics/niqe_pris_params.npz",
}


class PristineModel(NamedTuple):
    """Mean (36,) and covariance (36, 36) of the features of natural images."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


def niqe(image: NDArray[Any], model: PristineModel, *, border: int = 0) -> float:
    """Compute NIQE of the luma of an image; lower is more natural.

    The value equals that of BasicSR's `calculate_niqe` to 1e-4, which equals that of the authors'
    MATLAB code. This function and BasicSR's compute in float32, whose rounding matters in flat
    areas.

    Args:
        image: RGB in [0, 255], (H, W, 3), integers or floating point.
        model: The model returned by `pristine_model`.
        border: Pixels to crop from each edge, at least 0; default 0.

    Returns:
        NIQE, at least 0.

    Raises:
        UserError: The image is not an array of this shape, `border` is not an integer of at least
            0, a pixel is NaN or infinite, or the cropped image has fewer than two patches of 96x96
            pixels, or fewer than two that are not flat.
    """
    check_arrays(image=image)
    check_count(0, border=border)
    if image.ndim != 3 or image.shape[2] != 3:
        raise UserError(
            f"NIQE: expected an RGB image of shape (H, W, 3), got {image.shape}; convert grey or "
            "RGBA to RGB"
        )
    if not np.isfinite(image).all():
        raise UserError(NOT_FINITE)
    height, width = (max(size - 2 * border, 0) for size in image.shape[:2])
    rows, columns = height // _PATCH, width // _PATCH
    if rows * columns < 2:
        raise UserError(
            f"NIQE: expected two patches of {_PATCH}x{_PATCH} pixels after {border} are cropped "
            f"from each edge, got height {image.shape[0]} and width {image.shape[1]}; use a larger "
            "image"
        )
    inside = (slice(border, border + rows * _PATCH), slice(border, border + columns * _PATCH))
    luma = _luma(image[inside])
    downscaled = _halve(luma / np.float32(255)) * 255
    features = np.hstack([_features(luma, _PATCH), _features(downscaled, _PATCH // 2)])
    complete = features[~np.isnan(features).any(axis=1)]
    if len(complete) < 2:
        raise UserError(
            "NIQE: expected an image with texture, got one that is flat nearly everywhere"
        )
    distance = model.mean - np.nanmean(features, axis=0)
    inverse = np.linalg.pinv((model.covariance + np.cov(complete, rowvar=False)) / 2)
    return float(np.sqrt(distance @ inverse @ distance))


def pristine_model(path: str | os.PathLike[str] | None = None) -> PristineModel:
    """Read the authors' model of natural images.

    Args:
        path: `modelparameters.mat` of the authors' release, or BasicSR's `niqe_pris_params.npz`.
            None or an empty path: the file of an installed BasicSR, or else of MMagic.

    Returns:
        Mean (36,) and covariance (36, 36), float64.

    Raises:
        MissingFileError: The file does not exist, or neither package is installed.
        UserError: The file has other contents, or a `.mat` file is read without scipy.
    """
    file = Path(path) if path else _installed_model()
    if not file.is_file():
        raise MissingFileError(f"{file}: expected NIQE's model of natural images, got no such file")
    is_mat = file.suffix.lower() == ".mat"
    names = ("mu_prisparam", "cov_prisparam") if is_mat else ("mu_pris_param", "cov_pris_param")
    content = _read_arrays(file, is_mat=is_mat)
    if not all(name in content for name in names):
        raise UserError(f"{file}: expected {names[0]} and {names[1]}, got {', '.join(content)}")
    mean, covariance = (np.asarray(content[name], np.float64) for name in names)
    if mean.size != _COUNT or covariance.shape != (_COUNT, _COUNT):
        raise UserError(
            f"{file}: expected a mean of {_COUNT} values and a covariance of {_COUNT}x{_COUNT}, "
            f"got the shapes {mean.shape} and {covariance.shape}"
        )
    return PristineModel(mean.ravel(), covariance)


def _installed_model() -> Path:
    for package, file in _FILES.items():
        spec = find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            if (path := Path(folder) / file).is_file():
                return path
    raise MissingFileError(
        "NIQE: expected the authors' model of natural images from BasicSR or MMagic, got neither "
        "package; pip install wheel && pip install --no-deps --no-build-isolation basicsr, or set "
        "model= to "
        "niqe_pris_params.npz or to the authors' modelparameters.mat"
    )


def _read_arrays(file: Path, *, is_mat: bool) -> dict[str, Any]:
    """Read the arrays of a `.mat` or `.npz` file by name; raise `UserError` for another one."""
    try:
        return dict(_read_mat(file) if is_mat else np.load(file, allow_pickle=False))
    except UserError:
        raise
    except Exception as error:  # the two readers raise a dozen kinds for damaged and other files
        kind = "a .mat file of version 7 or older" if is_mat else "a .npz file"
        raise UserError(
            f"{file}: expected {kind}, got another one or a damaged one ({type(error).__name__})"
        ) from None


def _read_mat(file: Path) -> Any:
    try:
        from scipy.io import loadmat  # type: ignore[import-untyped]
    except ImportError as error:
        raise UserError(f"{file}: expected scipy, got {error}; pip install scipy") from error
    return loadmat(file)


def _luma(image: NDArray[Any]) -> NDArray[np.float32]:
    """Compute luma rounded to integers, with the arithmetic of BasicSR."""
    y = (image.astype(np.float32) / np.float32(255)).dot([65.481, 128.553, 24.966]) + 16.0
    rounded: NDArray[np.float32] = ((y / 255).astype(np.float32) * 255).round()
    return rounded


def _halve(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute MATLAB's `imresize(image, 0.5)`, summed by torch in float32 as in BasicSR.

    In flat areas the last bit decides whether a pixel is above or below its surroundings, which
    NIQE counts: with another order of summation the result differs in the third digit.
    """
    padded = torch.from_numpy(np.pad(image, ((3, 3), (0, 0)), mode="symmetric"))
    rows = [padded[i : i + 8].t().mv(_HALVING) for i in range(0, image.shape[0], 2)]
    padded = torch.from_numpy(np.pad(torch.stack(rows).numpy(), ((0, 0), (3, 3)), mode="symmetric"))
    columns = [padded[:, i : i + 8].mv(_HALVING) for i in range(0, image.shape[1], 2)]
    halved: NDArray[np.float32] = torch.stack(columns, 1).numpy()
    return halved


def _features(luma: NDArray[np.float32], patch: int) -> NDArray[np.float64]:
    """Compute 18 features by patch, of normalised luma and of products of neighbouring pixels."""
    mean, square = _window_mean(luma), _window_mean(np.square(luma))
    deviation = np.sqrt(np.abs(square - np.square(mean)))
    normalised = (luma - mean) / (deviation + 1)
    rows, columns = (range(0, size, patch) for size in luma.shape)
    patches = (normalised[y : y + patch, x : x + patch] for x in columns for y in rows)
    with np.errstate(invalid="ignore", divide="ignore"):  # a flat patch has no features: NaN
        return np.array([list(_patch_features(p)) for p in patches])


def _patch_features(patch: NDArray[np.float32]) -> Iterator[float]:
    shape, left, right = _fit(patch)
    yield from (shape, (left + right) / 2)
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = _fit(patch * np.roll(patch, shift, axis=(0, 1)))
        mean = (right - left) * math.gamma(2 / shape) / math.gamma(1 / shape)
        yield from (shape, mean, left, right)


def _fit(values: NDArray[np.float32]) -> tuple[float, float, float]:
    """Fit an asymmetric generalized Gaussian to `values`: shape, left scale, right scale."""
    left, right = (_root_mean_square(values[side]) for side in (values < 0, values > 0))
    ratio = left / right
    moments = np.mean(np.abs(values)) ** 2 / np.mean(np.square(values))
    target = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shape = float(_SHAPES[np.argmin((_moment_ratios() - target) ** 2)])
    scale = math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
    return shape, left * scale, right * scale


def _root_mean_square(values: NDArray[np.float32]) -> Any:
    return np.sqrt(np.mean(np.square(values))) if values.size else np.float32(np.nan)


@functools.cache  # takes 3.5 ms, and an image needs them at 10 fits for each of its patches
def _moment_ratios() -> NDArray[np.float64]:
    """Compute (E|x|)^2 / E[x^2] of a generalized Gaussian for each shape in `_SHAPES`."""
    gamma = math.gamma
    ratios = [gamma(2 / s) ** 2 / (gamma(1 / s) * gamma(3 / s)) for s in _SHAPES.tolist()]
    return np.array(ratios)


def _window_mean(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute means over a 7x7 Gaussian window, summed in float64 and rounded to float32."""
    exact: NDArray[np.float64] = cv2.sepFilter2D(
        x.astype(np.float64), cv2.CV_64F, _GAUSSIAN, _GAUSSIAN, borderType=cv2.BORDER_REPLICATE
    )
    return exact.astype(np.float32)
