"""Our parts with MMagic's names take MMagic's arguments, and refuse the values they do not keep."""

import inspect
from types import ModuleType
from typing import Any

import pytest
import torch

from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.datasets.transforms import META_KEYS, find_augmentation
from srgan_plugin.registry import METRICS, MODELS, TRANSFORMS

KINDS = {
    METRICS: ("PSNR", "SSIM"),
    MODELS: ("DataPreprocessor",),
    TRANSFORMS: ("PairedRandomCrop", "Flip", "RandomTransposeHW", "PackInputs"),
}
PARTS = [(registry, name) for registry, names in KINDS.items() for name in names]


@pytest.mark.slow
@pytest.mark.parametrize(("registry", "name"), PARTS)
def test_ours_takes_every_argument_of_theirs_and_their_order(
    mmagic: ModuleType, registry: Any, name: str
) -> None:
    theirs = list(inspect.signature(registry.get(f"mmagic.{name}").__wrapped__).parameters)
    ours = list(inspect.signature(registry.get(f"srgan_plugin.{name}")).parameters)
    assert ours[: len(theirs)] == theirs


@pytest.mark.parametrize(
    ("registry", "part"),
    [
        (MODELS, {"type": "DataPreprocessor", "non_image_keys": ["noise"]}),
        (MODELS, {"type": "DataPreprocessor", "non_concentate_keys": "mode"}),
        (MODELS, {"type": "DataPreprocessor", "output_channel_order": "GBR"}),
        (MODELS, {"type": "DataPreprocessor", "input_view": (1, 1, -1)}),
        (MODELS, {"type": "DataPreprocessor", "output_view": (1, 1, -1)}),
    ],
)
def test_a_value_that_ours_does_not_keep_is_refused_by_its_name(
    registry: Any, part: dict[str, Any]
) -> None:
    kind, name = part["type"], list(part)[1]
    with pytest.raises(ValueError, match=rf"{kind}.*{name}.*got .*mmagic\.{kind}'$"):
        registry.build({**part, "type": f"srgan_plugin.{kind}"})


def build(**part: Any) -> Any:
    return TRANSFORMS.build({**part, "type": "srgan_plugin." + part["type"]})


def test_the_values_that_mmagics_configs_give_are_taken() -> None:
    build(type="PackInputs", keys="img", meta_keys=[], data_keys=[])
    views = {"input_view": (1, -1, 1, 1), "output_view": [1, -1, 1, 1]}
    options = {**views, "pad_value": 7, "data_keys": ["gt_img"], "output_channel_order": "RGB"}
    plain = MODELS.build({"type": "srgan_plugin.DataPreprocessor", "mean": None, "std": None})
    full = MODELS.build({"type": "srgan_plugin.DataPreprocessor", "std": [255.0] * 3, **options})
    batch = torch.arange(48, dtype=torch.uint8).view(1, 3, 4, 4)
    assert torch.equal(plain({"inputs": batch})["inputs"], batch.float())
    assert torch.equal(full({"inputs": batch})["inputs"], batch / 255)


def test_keys_have_the_meaning_they_have_in_mmagic() -> None:
    gt = torch.arange(64 * 64 * 3).view(64, 64, 3).numpy().astype("uint8")
    crop = build(type="PairedRandomCrop", gt_patch_size=32, lq_key="low", gt_key="high")
    cut = crop({"low": gt[::4, ::4], "high": gt, "scale": 4})
    assert (cut["low"].shape, cut["high"].shape) == ((8, 8, 3), (32, 32, 3))
    assert (cut["high"][::4, ::4] == cut["low"]).all()
    sample = {"img": gt, "gt": gt, "key": "x", "noise_level": 3, "secret": 4}
    packed = build(type="PackInputs", meta_keys=["noise_level"])(sample)["data_samples"]
    assert packed.metainfo == {"key": "x", "noise_level": 3}
    assert (build(type="Flip", keys="gt", flip_ratio=1.0)({"gt": gt})["gt"] == gt[:, ::-1]).all()


@pytest.mark.parametrize(
    ("kind", "key"), [("Flip", "flip_ratio"), ("RandomTransposeHW", "transpose_ratio")]
)
def test_two_random_steps_on_different_keys_agree(kind: str, key: str) -> None:
    steps = [build(type=kind, keys=name, **{key: 0.5}) for name in ("img", "gt")]
    image = torch.arange(12, dtype=torch.uint8).view(2, 2, 3).numpy()
    changed = 0
    for _ in range(20):
        sample = {"img": image, "gt": image}
        for step in steps:
            sample = step(sample)
        assert (sample["img"] == sample["gt"]).all()
        changed += not (sample["img"] == image).all()
    assert 0 < changed < 20


@pytest.mark.parametrize("size", [True, 0, 1.5])
def test_a_crop_size_that_is_not_a_number_of_pixels_is_refused(size: Any) -> None:
    with pytest.raises(UserError, match=f"gt_patch_size: .* got {size}"):
        build(type="PairedRandomCrop", gt_patch_size=size)


def test_images_keep_their_dtype_and_single_frames_have_no_time_axis() -> None:
    image = torch.rand(4, 5, 3).numpy()
    pack = build(type="PackInputs")
    assert pack({"img": image})["inputs"].dtype == torch.float32
    shapes = [
        tuple(pack({"img": v})["inputs"].shape) for v in (image[..., 0], [image], [image] * 2)
    ]
    assert shapes == [(1, 4, 5), (3, 4, 5), (2, 3, 4, 5)]
    assert pack({"gt": image})["inputs"] == {}
    assert set(pack({"img": image, "merged": image})["inputs"]) == {"img", "merged"}
    assert str(build(type="LoadPair")) == "LoadPair()"


@pytest.mark.parametrize(
    ("crop", "pack", "usual"),
    [
        ({}, {"meta_keys": [META_KEYS[0]]}, True),
        ({"gt_key": "high"}, {}, False),
        ({}, {"meta_keys": "noise_level"}, False),
    ],
)
def test_a_pipeline_of_other_keys_is_not_read_as_a_batch(
    crop: dict[str, Any], pack: dict[str, Any], usual: bool
) -> None:
    steps = [
        build(type="PairedRandomCrop", gt_patch_size=32, **crop),
        build(type="PackInputs", **pack),
    ]
    assert (find_augmentation(steps, 4) is not None) == usual


@pytest.mark.parametrize(
    ("step", "name"), [("Flip", "flip_ratio"), ("RandomTransposeHW", "transpose_ratio")]
)
@pytest.mark.parametrize("value", [7, -0.5])
def test_a_ratio_that_is_no_probability_is_named(step: str, name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"{name}.*{value}"):
        build(type=step, **{name: value})


@pytest.mark.parametrize("name", ["PSNR", "SSIM", "BenchmarkMetric"])
@pytest.mark.parametrize("value", ["x", -1])
def test_a_border_that_is_no_number_of_pixels_is_named(name: str, value: object) -> None:
    with pytest.raises(UserError, match=f"crop_border.*{value}"):
        METRICS.build({"type": f"srgan_plugin.{name}", "crop_border": value})
