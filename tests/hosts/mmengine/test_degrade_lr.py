"""`DegradeLR` in a pipeline: what it changes, which samples it refuses, and its random numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srgan_plugin.data.sampling import SampleIndex
from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.datasets.transforms import find_augmentation
from srgan_plugin.registry import DATASETS, TRANSFORMS

CROP = {"type": "PairedRandomCrop", "gt_patch_size": 64}
# With its prefix, because tests before it in the process may have set another scope.
BENCHMARK = "srgan_plugin.BenchmarkDataset"
FLIP = {"type": "Flip", "flip_ratio": 1.0}


def build(**part: Any) -> Any:
    return TRANSFORMS.build({**part, "type": "srgan_plugin." + part["type"]})


def run(*steps: dict[str, Any], number: int = 5) -> dict[str, Any]:
    gt = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    sample: dict[str, Any] = {"img": gt[::4, ::4], "gt": gt, "scale": 4}
    sample["sample_index"] = SampleIndex(0, 1, number)
    for step in steps:
        sample = build(**step)(sample)
    return sample


def test_only_lr_changes_and_crop_and_flips_stay_those_of_the_sample() -> None:
    degraded = run(CROP, {"type": "DegradeLR", "clean_ratio": 0}, FLIP)
    plain = run(CROP, FLIP)
    assert (degraded["gt"] == plain["gt"]).all()
    assert degraded["img"].shape == plain["img"].shape == (16, 16, 3)
    assert degraded["img"].dtype == np.uint8
    assert (degraded["img"] != plain["img"]).any()


def test_each_sample_is_degraded_in_its_own_way_and_always_in_the_same() -> None:
    step = {"type": "DegradeLR", "clean_ratio": 0}
    first, again, other = (run(step, number=number)["img"] for number in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_bgr_images_are_degraded_as_their_rgb() -> None:
    step = build(type="DegradeLR", clean_ratio=0, jpeg_quality=(10, 10))
    rgb = run(CROP)
    bgr = {**rgb, "img": rgb["img"][..., ::-1], "img_channel_order": "BGR"}
    degraded = step(bgr)["img"]
    assert (degraded[..., ::-1] == step(rgb)["img"]).all()
    assert degraded.flags.c_contiguous  # for torch.from_numpy


def test_scores_of_images_that_a_pipeline_changed_are_marked(photographs: Path) -> None:
    options = {"name": "Set5", "data_root": str(photographs), "type": BENCHMARK}
    names = ("LoadPair", "DegradeLR", "PackInputs")
    steps = [{"type": f"srgan_plugin.{name}"} for name in names]
    classes = [{**step, "type": TRANSFORMS.get(step["type"])} for step in steps]
    changed, unchanged = (
        DATASETS.build({**options, "pipeline": pipeline}).metainfo["changed_by"]
        for pipeline in (steps, [steps[0], steps[2]])
    )
    assert DATASETS.build({**options, "pipeline": classes}).metainfo["changed_by"] == "DegradeLR"
    assert (changed, unchanged) == ("DegradeLR", "")


@pytest.mark.parametrize("pipeline", [{"type": "LoadPair"}, "LoadPair", ["LoadPair"], [None]])
def test_a_pipeline_that_is_no_list_of_dicts_is_refused(photographs: Path, pipeline: Any) -> None:
    options = {"name": "Set5", "data_root": str(photographs), "type": BENCHMARK}
    with pytest.raises(UserError, match=r"dict\(type='LoadPair'\), got "):
        DATASETS.build({**options, "pipeline": pipeline})


def test_a_pipeline_with_it_is_not_read_as_a_batch_and_its_repr_has_the_values() -> None:
    steps = [build(**step) for step in (CROP, {"type": "DegradeLR"}, {"type": "PackInputs"})]
    assert find_augmentation(steps, 4) is None
    assert "jpeg_quality=(40, 95)" in repr(steps[1])


def test_a_validation_degrades_an_image_in_the_same_way_each_time(photographs: Path) -> None:
    pipeline = [{"type": "LoadPair"}, {"type": "DegradeLR", "clean_ratio": 0}]
    options = {"name": "Set5", "data_root": str(photographs), "type": BENCHMARK}
    first, again = (
        [DATASETS.build({**options, "pipeline": pipeline})[n]["img"] for n in range(2)]
        for _ in range(2)
    )
    plain = [DATASETS.build({**options, "pipeline": pipeline[:1]})[n]["img"] for n in range(2)]
    for a, b, c in zip(first, again, plain, strict=True):
        assert (a == b).all()
        assert (a != c).any()


def test_a_key_that_a_sample_does_not_have_is_named_beside_those_it_has() -> None:
    with pytest.raises(UserError, match=r"DegradeLR: key: .*\(img, gt\), got 'lq'"):
        build(type="DegradeLR", key="lq")({"img": 1, "gt": 2})


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (np.zeros((8, 8), np.uint8), "(8, 8)"),
        (np.zeros((8, 8, 3), np.float32), "float32"),
        ([np.zeros((8, 8, 3), np.uint8)], "a list"),
    ],
)
def test_another_image_than_rgb_of_8_bit_is_refused(image: Any, got: str) -> None:
    with pytest.raises(UserError) as error:
        build(type="DegradeLR")({"img": image})
    assert "img: expected an RGB image" in str(error.value)
    assert got in str(error.value)
