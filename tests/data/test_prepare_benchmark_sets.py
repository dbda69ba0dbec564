"""Test sets from HR photographs, against the published files and the definition."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from srgan_plugin.data.prepare.benchmark_sets import prepare_test_set
from srgan_plugin.data.resize import imresize
from srgan_plugin.errors import UserError
from srgan_plugin.io.images import read_image
from srgan_plugin.io.writers import write_image

from .conftest import noise, tool


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for name, size in {"a": (37, 50), "b": (24, 61)}.items():
        write_image(tmp_path / "B100" / f"{name}.png", noise(*size))
    return tmp_path / "B100"


def test_gt_is_cropped_to_twelve_and_lr_is_its_bicubic_rounded_once(photographs: Path) -> None:
    assert prepare_test_set(photographs, photographs, workers=1) == 2
    gt = read_image(photographs / "GTmod12" / "a.png")
    np.testing.assert_array_equal(gt, noise(37, 50)[:36, :48])
    for scale in (2, 3, 4):
        lr = np.floor(np.clip(imresize(gt / 255, 1 / scale), 0, 1) * 255 + 0.5)
        np.testing.assert_array_equal(read_image(photographs / f"LRbicx{scale}" / "a.png"), lr)


def test_the_published_files_are_made_again_bit_for_bit(shared_data: Path, tmp_path: Path) -> None:
    reference = shared_data / "benchmark" / "Set5"
    prepare_test_set(reference / "GTmod12", tmp_path, scales=[4], workers=1)
    for folder in ("GTmod12", "LRbicx4"):
        there = sorted((reference / folder).iterdir())
        assert len(there) == 5
        for path in there:
            np.testing.assert_array_equal(
                read_image(tmp_path / folder / path.name), read_image(path)
            )


def test_running_again_checks_and_goes_on_without_writing_again(photographs: Path) -> None:
    prepare_test_set(photographs, photographs, scales=[4], workers=1)
    there = photographs / "LRbicx4" / "a.png"
    stamp = there.stat().st_mtime_ns
    (photographs / "LRbicx4" / "b.png").unlink()
    assert prepare_test_set(photographs, photographs, scales=[2, 4], workers=2) == 2
    assert there.stat().st_mtime_ns == stamp
    assert (photographs / "LRbicx4" / "b.png").is_file()
    assert (photographs / "LRbicx2" / "b.png").is_file()


def test_given_lr_may_differ_by_one_grey_level_and_no_more(photographs: Path) -> None:
    prepare_test_set(photographs, photographs, scales=[4], workers=1)
    path = photographs / "LRbicx4" / "a.png"
    lr = read_image(path)
    for difference in (1, 2):
        other = lr.astype(int)
        other[0, 0, 0] += difference if lr[0, 0, 0] < 128 else -difference
        write_image(path, other.astype(np.uint8))
        if difference == 1:
            prepare_test_set(photographs, photographs, scales=[4], workers=1)
    with pytest.raises(UserError, match=r"LRbicx4/a\.png"):
        prepare_test_set(photographs, photographs, scales=[4], workers=1)


def test_gt_of_another_photograph_is_refused(photographs: Path) -> None:
    write_image(photographs / "GTmod12" / "b.png", noise(24, 60, seed=9))
    with pytest.raises(UserError, match=r"GTmod12/b\.png"):
        prepare_test_set(photographs, photographs, workers=1)


def test_bad_folders_images_and_scales_are_named(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        prepare_test_set(tmp_path / "nowhere", tmp_path)
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        prepare_test_set(tmp_path, tmp_path)
    with pytest.raises(UserError, match=r"12.* 8\b"):
        prepare_test_set(photographs, tmp_path, scales=[8])
    write_image(photographs / "c.png", noise(11, 40))
    with pytest.raises(UserError, match=r"c\.png.*12x12"):
        prepare_test_set(photographs, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()  # a part of a set would be taken for all of it
    (photographs / "c.png").unlink()
    (photographs / "._a.png").write_text("what macOS leaves beside a file")
    prepare_test_set(photographs, tmp_path / "out", workers=1)
    (photographs / "a.jpg").touch()
    with pytest.raises(UserError, match=r"a\.jpg.*a\.png"):
        prepare_test_set(photographs, tmp_path / "out", workers=1)


def test_the_tool_names_the_set_by_its_folder(
    photographs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nested = tmp_path / "Set14" / "HR"
    shutil.copytree(photographs, nested)
    options = ["--data-root", str(tmp_path / "data"), "--workers", "1", "--scale", "4"]
    tool("prepare_benchmarks").main([str(photographs), str(nested), *options])
    for name in ("B100", "Set14"):
        assert len(list((tmp_path / "data" / name / "GTmod12").iterdir())) == 2
    assert capfd.readouterr().out.count("ready:") == 2
