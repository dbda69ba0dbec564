"""NIQE against BasicSR's function, MATLAB's value, and files of the model."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.io.images import read_image
from srgan_plugin.metrics import niqe as module
from srgan_plugin.metrics.niqe import PristineModel, niqe, pristine_model


@pytest.fixture(scope="module")
def model() -> PristineModel:
    try:
        return pristine_model()
    except MissingFileError as error:
        pytest.skip(str(error))


def textured(height: int, width: int, seed: int) -> np.ndarray:
    """Return an image with detail of every size; its left part is flat, as in drawings."""
    rng = np.random.default_rng(seed)
    layers = (
        cv2.resize(rng.normal(0, 20, (-(-height // n), -(-width // n), 3)), (width, height))
        for n in (1, 2, 4, 8, 16)
    )
    image = np.clip(128 + sum(layers), 0, 255).astype(np.uint8)
    image[:, : seed * width // 8] = rng.integers(0, 256, 3)
    return image


@pytest.mark.parametrize("border", [0, 4])
@pytest.mark.parametrize("seed", [0, 1, 3, 5])
def test_niqe_is_basicsrs_also_where_the_image_is_flat(model, calculate_niqe, seed, border):
    image = textured(205, 300, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # BasicSR's, of patches without texture
        expected = calculate_niqe(image[..., ::-1], border)
    assert niqe(image, model, border=border) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["baboon", "ppt3"])
def test_niqe_is_basicsrs_on_photographs_and_on_a_slide(model, calculate_niqe, shared_data, name):
    image = read_image(shared_data / f"benchmark/Set14/GTmod12/{name}.png")
    expected = calculate_niqe(image[..., ::-1], 4)
    assert niqe(image, model, border=4) == pytest.approx(expected, abs=1e-4)


def test_niqe_is_matlabs_on_the_image_that_basicsr_names(model, shared_data):
    baboon = read_image(shared_data / "benchmark/Set14/GTmod12/baboon.png")
    assert niqe(baboon, model) == pytest.approx(5.72957338, abs=1e-3)


def test_the_model_is_read_of_the_authors_release_and_of_basicsrs_file(model, tmp_path):
    values = {"mu_prisparam": model.mean[None], "cov_prisparam": model.covariance}
    savemat(tmp_path / "modelparameters.mat", values)
    np.savez(tmp_path / "x.npz", mu_pris_param=model.mean[None], cov_pris_param=model.covariance)
    for name in ("modelparameters.mat", "x.npz"):
        read = pristine_model(tmp_path / name)
        assert np.array_equal(read.mean, model.mean)
        assert np.array_equal(read.covariance, model.covariance)


def test_without_a_model_it_is_said_what_brings_one(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingFileError, match=r"BasicSR or MMagic.*pip install"):
        pristine_model()
    with pytest.raises(MissingFileError, match=r"mine\.npz"):
        pristine_model(Path("mine.npz"))
    np.savez(tmp_path / "x.npz", mean=0)
    with pytest.raises(UserError, match=r"mu_pris_param.*got mean"):
        pristine_model(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((108, 120, 3), np.uint8), "two patches.* after 4 .* height 108 and width 120"),
        (np.zeros((300, 300), np.uint8), r"\(H, W, 3\), got \(300, 300\)"),
        (np.full((300, 300, 3), 9, np.uint8), "flat"),
        (np.full((300, 300, 3), np.nan), "expected finite values"),
    ],
)
def test_what_niqe_cannot_measure_is_refused(image, words):
    any_model = PristineModel(np.zeros(36), np.eye(36))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UserError, match=words):
            niqe(image, any_model, border=4)


@pytest.mark.parametrize("border", [-1, 4.0])
def test_a_border_that_is_not_a_number_of_pixels_is_refused(border):
    with pytest.raises(UserError, match=f"^border: expected an integer.*got {border}$"):
        niqe(textured(205, 300, 0), PristineModel(np.zeros(36), np.eye(36)), border=border)


@pytest.mark.parametrize(("side", "border"), [(200, 200), (256, 300), (400, 350)])
def test_a_border_larger_than_the_image_is_refused(side, border):
    with pytest.raises(UserError, match=f"two patches.* after {border} are cropped"):
        niqe(textured(side, side, 0), PristineModel(np.zeros(36), np.eye(36)), border=border)


def test_a_file_that_is_no_model_is_named_and_a_suffix_in_capitals_is_read(model, tmp_path):
    for name in ("text.npz", "text.mat", "empty.npz", "empty.mat"):
        (tmp_path / name).write_text("no model" if name.startswith("text") else "")
        with pytest.raises(UserError, match=rf"{name}: expected a \.(npz|mat) file"):
            pristine_model(tmp_path / name)
    np.savez(tmp_path / "x.npz", mu_pris_param=np.zeros(18), cov_pris_param=np.eye(3))
    with pytest.raises(
        UserError, match=r"mean of 36 values .* got the shapes \(18,\) and \(3, 3\)"
    ):
        pristine_model(tmp_path / "x.npz")
    values = {"mu_prisparam": model.mean[None], "cov_prisparam": model.covariance}
    savemat(tmp_path / "model.mat", values)
    (tmp_path / "model.mat").rename(tmp_path / "MODEL.MAT")
    assert np.array_equal(pristine_model(tmp_path / "MODEL.MAT").mean, model.mean)
