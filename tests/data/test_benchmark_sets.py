"""CheckResult test sets in the layouts that people have."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from srgan_plugin.data.benchmark_sets import (
    IncompleteSetError,
    data_root,
    find_benchmark,
    warn_of_validation_images,
)
from srgan_plugin.data.pairs import ImagePairs
from srgan_plugin.data.resize import make_lr
from srgan_plugin.errors import PluginWarning
from srgan_plugin.io.writers import write_image


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def pixels(benchmark):
    return {p.key: (np.asarray(p.lr), np.asarray(p.gt)) for p in (benchmark.pairs[0],)}


def test_given_lr_is_taken_as_it_is(tmp_path):
    lr, gt = image(6, 9, 1), image(24, 36, 2)
    write_image(tmp_path / "Set5/GTmod12/baby.png", gt)
    write_image(tmp_path / "Set5/LRbicx4/baby.png", lr)
    write_image(tmp_path / "Set5/other.png", gt[:12])
    found = find_benchmark("set5", tmp_path)
    assert (found.name, found.lr_origin, found.pairs.keys) == ("Set5", "given", ("baby",))
    np.testing.assert_array_equal(pixels(found)["baby"][0], lr)
    np.testing.assert_array_equal(pixels(found)["baby"][1], gt)


@pytest.mark.parametrize("folder", ["Kodak24", "Kodak24/HR", "Kodak24/GTmod12"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_hr_alone_is_cropped_to_multiples_of_12_and_lr_made_of_it(tmp_path, folder, scale):
    hr = image(29, 47)
    write_image(tmp_path / folder / "kodim01.png", hr)
    found = find_benchmark("Kodak24", tmp_path, scale)
    lr, gt = pixels(found)["kodim01"]
    np.testing.assert_array_equal(gt, hr[:24, :36])
    np.testing.assert_array_equal(lr, make_lr(hr[:24, :36], scale))
    assert found.lr_origin == "MATLAB bicubic of GT cropped to mod 12"


def test_lr_of_another_scale_is_not_taken_for_this_one(tmp_path):
    hr = image(24, 24)
    write_image(tmp_path / "Set5/GTmod12/baby.png", hr)
    write_image(tmp_path / "Set5/LRbicx4/baby.png", hr[:6, :6])
    found = find_benchmark("Set5", tmp_path, scale=3)
    assert pixels(found)["baby"][0].shape == (8, 8, 3)


@pytest.mark.parametrize("folder", ["B100", "BSD100", "BSDS100"])
@pytest.mark.parametrize("asked", ["B100", "bsd100", "BSDS100"])
def test_b100_is_found_under_any_of_its_names_and_called_by_one(tmp_path, folder, asked):
    write_image(tmp_path / folder / "3096.png", image(24, 24))
    assert find_benchmark(asked, tmp_path).name == "B100"


@pytest.mark.parametrize("parent", ["", "DIV2K"])
def test_div2k_is_the_validation_set_with_its_own_lr_names(tmp_path, parent):
    lr, gt = image(6, 6, 1), image(24, 24, 2)
    write_image(tmp_path / parent / "DIV2K_valid_HR/0801.png", gt)
    write_image(tmp_path / parent / "DIV2K_valid_LR_bicubic/X4/0801x4.png", lr)
    found = find_benchmark("DIV2K", tmp_path)
    assert found.pairs.keys == ("0801",)
    np.testing.assert_array_equal(pixels(found)["0801"][0], lr)


def test_div2k_sub_images_are_those_that_the_list_names(tmp_path):
    for name in ("0001_s001", "0801_s001"):
        write_image(tmp_path / f"DIV2K/DIV2K_train_HR_sub/{name}.png", image(24, 24))
        write_image(tmp_path / f"DIV2K/DIV2K_train_LR_bicubic/X4_sub/{name}.png", image(6, 6))
    listed = tmp_path / "DIV2K/meta_info_DIV2K100sub_GT.txt"
    listed.write_text("0801_s001.png (24,24,3)\n")
    assert find_benchmark("div2ksub", tmp_path).pairs.keys == ("0801_s001",)


def test_a_missing_set_is_named_with_every_folder_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="test set B100") as caught:
        find_benchmark("BSD100", tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert "SRGAN_DATA" in message
    for folder in ("B100/GTmod12", "B100/LRbicx4", "BSD100/HR", "BSDS100"):
        assert str(tmp_path / folder) in message


@pytest.mark.parametrize("folder", ["Set5", "Set5/GTmod12", "BSD100"])
def test_an_empty_folder_of_a_set_is_named_as_empty_and_not_as_missing(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(IncompleteSetError, match="without images") as caught:
        find_benchmark(folder.partition("/")[0], tmp_path)
    assert f"{tmp_path / folder}," in str(caught.value)
    name = (tmp_path / folder).relative_to(tmp_path).parts[0]
    for layout in ("GTmod12", "LRbicx4", "HR"):
        assert str(tmp_path / name / layout) in str(caught.value)


def test_a_set_whose_list_is_missing_names_the_list(tmp_path):
    write_image(tmp_path / "DIV2K_train_HR_sub/0801_s001.png", image(24, 24))
    write_image(tmp_path / "DIV2K_train_LR_bicubic/X4_sub/0801_s001.png", image(6, 6))
    with pytest.raises(FileNotFoundError, match=r"meta_info_DIV2K100sub_GT\.txt.*no such path"):
        find_benchmark("DIV2Ksub", tmp_path)


def test_a_training_folder_without_this_scale_names_what_to_add_and_advises_to_remove_nothing(
    tmp_path,
):
    write_image(tmp_path / "DIV2K/DIV2K_train_HR_sub/0801_s001.png", image(24, 24))
    with pytest.raises(IncompleteSetError, match=r"X2_sub, got no such path") as caught:
        find_benchmark("DIV2Ksub", tmp_path, scale=2)
    assert "remove" not in str(caught.value)
    for folder in ("DIV2K", "."):
        for part in ("DIV2K_train_HR_sub", "DIV2K_train_LR_bicubic/X2_sub"):
            assert str(tmp_path / folder / part) in str(caught.value)


def test_a_folder_of_other_layouts_is_not_taken_for_images(tmp_path):
    write_image(tmp_path / "Set5/LRbicx4/baby.png", image(6, 6))
    with pytest.raises(FileNotFoundError):
        find_benchmark("Set5", tmp_path)


def test_images_in_folders_below_a_set_are_not_of_the_set(tmp_path):
    write_image(tmp_path / "Manga/a.png", image(24, 24, 1))
    write_image(tmp_path / "Manga/LR/X4/a.png", image(6, 6, 2))
    pairs = find_benchmark("Manga", tmp_path).pairs
    assert (len(pairs), pairs.keys, pairs[0].key) == (1, ("a",), "a")


def test_the_data_root_is_the_variable_or_data(monkeypatch):
    monkeypatch.delenv("SRGAN_DATA", raising=False)
    assert data_root() == Path("data")
    monkeypatch.setenv("SRGAN_DATA", "/somewhere")
    assert data_root() == Path("/somewhere")


def test_the_real_sets_have_the_usual_number_of_images(shared_data):
    root = shared_data / "benchmark"
    counts = {name: len(find_benchmark(name, root).pairs) for name in ("Set5", "Set14", "B100")}
    assert counts == {"Set5": 5, "Set14": 14, "B100": 100}
    ((lr, gt),) = pixels(find_benchmark("Kodak24", root)).values()
    assert (lr.shape, gt.shape) == ((126, 192, 3), (504, 768, 3))


@pytest.mark.parametrize("suffix", ["", "_s001"])
def test_a_training_set_with_the_validation_images_of_div2k_is_warned_of(tmp_path, suffix):
    def pairs(*names):
        folder = tmp_path / "-".join(names)
        for name in names:
            write_image(folder / f"{name}.png", np.zeros((48, 48, 3), np.uint8))
        return ImagePairs(folder)

    with pytest.warns(PluginWarning, match=f"0801{suffix} .*set ann_file to meta_info"):
        warn_of_validation_images(pairs(f"0001{suffix}", f"0801{suffix}"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_validation_images(pairs(f"0001{suffix}", f"0800{suffix}"))
        warn_of_validation_images(pairs(f"0001{suffix}", f"0801{suffix}", "1000"))  # other images
