"""Each argument of MMagic's parts does in ours what it does in theirs; MMagic's is the oracle."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapperDict
from torch import Tensor, nn

from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.datasets import transforms as our_transforms
from srgan_plugin.hosts.mmengine.datasets.transforms import PackInputs
from srgan_plugin.hosts.mmengine.engine.hooks import SaveImagesHook
from srgan_plugin.hosts.mmengine.engine.optim_wrapper_constructor import (
    MultiOptimWrapperConstructor,
)
from srgan_plugin.hosts.mmengine.evaluation import metrics as our_metrics
from srgan_plugin.hosts.mmengine.models.data_preprocessor import DataPreprocessor
from srgan_plugin.io.images import read_image
from srgan_plugin.metrics.psnr_ssim import quantize
from srgan_plugin.registry import MODELS

pytestmark = pytest.mark.usefixtures("fresh_mmengine", "mmagic")
UNIT = {"mean": [0.0] * 3, "std": [255.0] * 3}


def image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


# --- transforms and packing


def transforms(name: str) -> tuple[Any, Any]:
    from mmagic.datasets import transforms as theirs

    return getattr(theirs, name), getattr(our_transforms, name, PackInputs)


CERTAIN = [
    ("Flip", {"keys": "img", "flip_ratio": 1.0}),
    ("Flip", {"keys": ["img", "gt"], "flip_ratio": 1.0, "direction": "vertical"}),
    ("Flip", {"keys": ["img", "gt"], "flip_ratio": 0.0}),
    ("RandomTransposeHW", {"keys": "gt", "transpose_ratio": 1.0}),
    ("RandomTransposeHW", {"keys": ["img", "gt"], "transpose_ratio": 1.0}),
    ("RandomTransposeHW", {"keys": ["img"], "transpose_ratio": 0.0}),
    ("PairedRandomCrop", {"gt_patch_size": 32}),
    ("PairedRandomCrop", {"gt_patch_size": 32, "lq_key": "gt", "gt_key": "high"}),
]


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize(("name", "options"), CERTAIN)
def test_a_transform_leaves_what_mmagics_leaves(
    name: str, options: dict[str, Any], frames: bool
) -> None:
    results = []
    for kind in transforms(name):
        # As large as the crop, so that there is one window.
        sample = {"img": image(8, 8, 3), "gt": image(32, 32, 3, seed=1), "scale": 4}
        if "lq_key" in options:
            sample = {"gt": image(8, 8, 3), "high": image(32, 32, 3, seed=1), "scale": 4}
        if frames:
            sample |= {k: [v, v[::-1].copy()] for k, v in sample.items() if k != "scale"}
        transform = kind(**options)
        results.append(transform.transform(copy.deepcopy(sample)))
        assert repr(transform) == repr(transforms(name)[0](**options))
        assert getattr(transform, "keys", []) == getattr(transforms(name)[0](**options), "keys", [])
    theirs, ours = results
    ours.pop("sample_index", None)
    assert theirs.keys() == ours.keys()
    for key, value in theirs.items():
        assert np.array_equal(value, ours[key]) or value == ours[key], key


PACKINGS: list[dict[str, Any]] = [
    {},
    {"keys": "img"},
    {"keys": ["img", "noise"]},
    {"keys": ["lost"]},
    {"meta_keys": "flip"},
    {"meta_keys": ["flip", "gt_path"]},
    {"data_keys": "noise"},
    {"data_keys": ["noise", "gray", "frames"]},
    {"data_keys": ["gt"]},
    {"data_keys": "gt_label"},
]


@pytest.mark.parametrize("options", PACKINGS)
def test_packing_hands_on_what_mmagics_hands_on(options: dict[str, Any]) -> None:
    sample = {
        "img": image(4, 5, 3),
        "gt": image(16, 20, 3, seed=1),
        "noise": image(4, 5, 3, seed=2),
        "gray": image(4, 5, seed=3),
        "frames": [image(4, 5, 3, seed=n) for n in (4, 5)],
        "ref": image(4, 5, 3, seed=6),
        "gt_path": "a/b.png",
        "gt_channel_order": "rgb",
        "ori_gt_shape": (16, 20, 3),
        "flip": True,
        "gt_label": 1,
        "lost": None,
    }
    theirs, ours = (kind(**options)(dict(sample)) for kind in transforms("PackInputs"))
    assert repr(PackInputs(**options)) == repr(transforms("PackInputs")[0](**options))
    assert isinstance(ours["inputs"], dict) == isinstance(theirs["inputs"], dict)
    as_dicts = [x if isinstance(x, dict) else {"": x} for x in (theirs["inputs"], ours["inputs"])]
    for expected, got in (as_dicts, [x["data_samples"].to_dict() for x in (theirs, ours)]):
        assert expected.keys() <= got.keys()
        for key, value in expected.items():
            same = torch.equal(value, got[key]) if isinstance(value, Tensor) else value == got[key]
            assert same or key == "_gt_label", key
    assert set(ours["data_samples"].keys()) == set(theirs["data_samples"].keys())


# --- the preprocessor


def preprocessors(**options: Any) -> tuple[Any, Any]:
    from mmagic.models.data_preprocessors import DataPreprocessor as Theirs

    theirs = Theirs(**{**UNIT, **options})
    return theirs, DataPreprocessor(**{**UNIT, **options})


def samples(orders: str | None = "RGB", count: int = 2, **fields: Any) -> list[Any]:
    from mmagic.structures import DataSample

    notes = {"img_channel_order": orders, "gt_channel_order": orders} if orders else {}
    made = [DataSample(metainfo=dict(notes)) for _ in range(count)]
    for n, sample in enumerate(made):
        for key, shape in fields.items():
            sample.set_field(torch.from_numpy(image(*shape, seed=7 + n)), key)
    return made


OPTIONS: list[dict[str, Any]] = [
    {},
    {"mean": 127.5, "std": 127.5},
    {"mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0]},
    {"mean": None, "std": None, "data_keys": None},  # MMagic's fails with keys
    {"pad_size_divisor": 4},
    {"pad_size_divisor": 4, "pad_value": 9},
    {"pad_size_divisor": 4, "pad_mode": "reflect"},
    {"output_channel_order": "RGB"},
    {"output_channel_order": "BGR"},
    {"output_channel_order": "BGR", "pad_size_divisor": 8, "mean": [1.0, 2.0, 3.0]},
    {"data_keys": ["gt_img", "ref"]},
    {"data_keys": "ref"},
    {"data_keys": None},
    {"input_view": (1, -1, 1, 1), "output_view": (1, -1, 1, 1)},
    {"stack_data_sample": False},
]


@pytest.mark.parametrize("order", ["RGB", "BGR", None])
@pytest.mark.parametrize("as_list", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
def test_the_preprocessor_prepares_and_destructs_as_mmagics(
    options: dict[str, Any], as_list: bool, order: str | None
) -> None:
    batch = torch.from_numpy(image(2, 3, 6, 7)).float()  # reflection of uint8 fails in torch
    as_list = as_list and options.get("pad_mode") != "reflect"  # MMagic's fails on lists
    results = []
    for preprocessor in preprocessors(**options):
        data = {
            "inputs": list(batch) if as_list else batch,
            "data_samples": samples(order, gt_img=(3, 6, 7), ref=(3, 6, 7)),
        }
        done = preprocessor(data, False)
        restored = preprocessor.destruct(done["inputs"], done["data_samples"])
        noted = done["data_samples"]
        truths = [noted.gt_img, noted.ref] if options.get("stack_data_sample", True) else []
        truths += [x for s in noted for x in (s.gt_img, s.ref)] if isinstance(noted, list) else []
        results.append((done["inputs"], restored, *truths))
    assert len(results[0]) == len(results[1])
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours.float(), theirs.float(), atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize(
    "options",
    # MMagic's makes GT of five dimensions with a view, and does not pad lists by reflection.
    [o for o in OPTIONS if not {"stack_data_sample", "input_view", "pad_mode"} & {*o}],
)
def test_the_preprocessor_prepares_training_as_mmagics(options: dict[str, Any], order: str) -> None:
    batch = torch.from_numpy(image(2, 3, 6, 7)).float()
    results = []
    for preprocessor in preprocessors(**options):
        noted = samples(order, gt_img=(3, 6, 7), ref=(3, 6, 7))
        done = preprocessor({"inputs": list(batch), "data_samples": noted}, True)
        truth, keys = done["data_samples"], options.get("data_keys", "gt_img") or []
        fields = [truth.get(key) for key in ([keys] if isinstance(keys, str) else keys)]
        results.append((done["inputs"], *fields))
    for theirs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("pad_size_divisor", [1, 4])
def test_images_of_several_sizes_become_the_batch_that_mmagics_makes(pad_size_divisor: int) -> None:
    images = [torch.from_numpy(image(3, *size)) for size in ((6, 7), (5, 9))]
    results = []
    for preprocessor in preprocessors(pad_size_divisor=pad_size_divisor, pad_value=3):
        data = {"inputs": list(images), "data_samples": samples("RGB")}
        results.append(preprocessor(data, False)["inputs"])
    torch.testing.assert_close(results[1], results[0])
    ours = preprocessors(pad_size_divisor=pad_size_divisor)[1]
    done = ours({"inputs": list(images), "data_samples": samples("BGR")}, False)
    restored = ours.destruct(done["inputs"], done["data_samples"])
    for before, after in zip(images, restored, strict=True):
        torch.testing.assert_close(after, before.float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("mmagics", [True, False])
def test_predictions_for_several_sizes_are_those_for_each_alone(mmagics: bool) -> None:
    from mmengine.structures import BaseDataElement

    network = {"type": "MSRResNet", "mid_channels": 4, "num_blocks": 1}
    model = MODELS.build({"type": "srgan_plugin.SRModel", "generator": network}).eval()
    sizes = ((6, 7), (8, 5), (6, 7))

    def batch(chosen: tuple[tuple[int, int], ...]) -> dict[str, Any]:
        images = [torch.from_numpy(image(3, *size, seed=size[0])) for size in chosen]
        noted = samples("RGB", len(chosen)) if mmagics else [BaseDataElement() for _ in chosen]
        for sample, (h, w) in zip(noted, chosen, strict=True):
            sample.gt_img = torch.zeros(3, 4 * h, 4 * w, dtype=torch.uint8)
        return {"inputs": images, "data_samples": noted}

    alone = [model.test_step(batch((size,)))[0].output.pred_img for size in sizes]
    for one, together in zip(alone, model.test_step(batch(sizes)), strict=True):
        assert together.output.pred_img.shape == together.gt_img.shape
        torch.testing.assert_close(together.output.pred_img, one)


def test_predictions_of_padded_inputs_have_the_size_of_the_ground_truth() -> None:
    network = {"type": "MSRResNet", "mid_channels": 4, "num_blocks": 1}
    pads = {"type": "DataPreprocessor", "pad_size_divisor": 8}
    model = {"type": "srgan_plugin.SRModel", "generator": network, "data_preprocessor": pads}
    predicted = (
        MODELS.build(model)
        .eval()
        .test_step(
            {"inputs": [torch.zeros(3, 6, 7)], "data_samples": samples(count=1, gt_img=(3, 24, 28))}
        )
    )
    assert predicted[0].output.pred_img.shape == (3, 24, 28)


# --- metrics


METRIC_FUNCTIONS: list[dict[str, Any]] = [
    {},
    {"crop_border": 3},
    {"convert_to": "Y"},
    {"convert_to": "y", "crop_border": 2},
    {"input_order": "HWC"},
    {"input_order": "HWC", "convert_to": "Y"},
    {"gt_key": "truth", "pred_key": "guess"},
    {"prefix": "mine"},
]


@pytest.mark.parametrize("form", ["tensors", "arrays", "nested", "frames", "floats"])
@pytest.mark.parametrize("options", METRIC_FUNCTIONS)
@pytest.mark.parametrize("name", ["PSNR", "SSIM"])
def test_a_metric_measures_what_mmagics_measures(
    name: str, options: dict[str, Any], form: str
) -> None:
    from mmagic.evaluation import metrics

    if form == "frames" and options.get("input_order") == "HWC":
        pytest.skip("MMagic's takes frames CHW")
    shape = (24, 20, 3) if options.get("input_order") == "HWC" else (3, 24, 20)
    truth, guess = image(*shape), image(*shape, seed=1)
    if form == "frames":
        truth, guess = np.stack([truth, guess]), np.stack([guess, guess // 2])
    if form == "floats":
        guess = guess.astype(np.float32) * 0.99
    pair = [x if form == "arrays" else torch.from_numpy(x) for x in (truth, guess)]
    keys = options.get("gt_key", "gt_img"), options.get("pred_key", "pred_img")
    sample: dict[str, Any] = {keys[0]: pair[0], "output": {keys[1]: pair[1]}}
    if form == "nested":
        sample = {"data_samples": {keys[0]: {"data": pair[0]}}, "output": {keys[1]: pair[1]}}
    sample["gt_img_output_channel_order"] = "BGR"
    measured = []
    for kind in (getattr(metrics, name), getattr(our_metrics, name)):
        metric = kind(
            **options, **({"rounding": False} if kind is not getattr(metrics, name) else {})
        )
        loader = SimpleNamespace(dataset=[0])
        metric.prepare(SimpleNamespace(data_preprocessor=None), loader)
        metric.process(None, [copy.deepcopy(sample)])
        measured.append(metric.evaluate())
    assert measured[1] == pytest.approx(measured[0], abs=2e-4)


@pytest.mark.parametrize("data_keys", ["gt", ["gt"], None])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("name", ["PSNR", "SSIM"])
def test_gt_of_another_name_is_measured_as_by_mmagics_metric(
    name: str, order: str, data_keys: Any
) -> None:
    """MMagic's metric takes both for BGR: an oracle where its preprocessor makes GT BGR."""
    from mmagic.evaluation import metrics

    network = {"type": "MSRResNet", "mid_channels": 4, "num_blocks": 1}
    results = []
    for keys, kind in (("gt", getattr(metrics, name)), (data_keys, getattr(our_metrics, name))):
        torch.manual_seed(0)
        preprocessor = {"type": "DataPreprocessor", "data_keys": keys}
        model = {"type": "srgan_plugin.SRModel", "generator": network}
        built = MODELS.build({**model, "data_preprocessor": preprocessor}).eval()
        inputs = [torch.from_numpy(image(3, 6, 7))]
        noted = samples(order, 1, gt=(3, 24, 28))
        with torch.no_grad():
            predicted = built.test_step({"inputs": inputs, "data_samples": noted})
        options = {} if kind is getattr(metrics, name) else {"rounding": False}
        metric = kind(gt_key="gt", convert_to="Y", **options)
        metric.prepare(SimpleNamespace(data_preprocessor=None), SimpleNamespace(dataset=[0]))
        metric.process(None, [sample.to_dict() for sample in predicted])
        results.append(metric.evaluate()[name])
    assert results[1] == pytest.approx(results[0], abs=2e-4)


@pytest.mark.parametrize("data_keys", ["gt", None])
def test_saved_images_are_rgb_whatever_gt_is_called(data_keys: Any, tmp_path: Path) -> None:
    network = {"type": "MSRResNet", "mid_channels": 4, "num_blocks": 1}
    preprocessor = {"type": "DataPreprocessor", "data_keys": data_keys}
    model = {"type": "srgan_plugin.SRModel", "generator": network}
    built = MODELS.build({**model, "data_preprocessor": preprocessor}).eval()
    lr, noted = torch.from_numpy(image(3, 6, 7)), samples("RGB", 1, gt=(3, 24, 28))
    noted[0].set_metainfo({"gt_path": "a/b.png"})
    with torch.no_grad():
        predicted = built.test_step({"inputs": [lr], "data_samples": noted})
        expected = built.generator(lr[None] / 255)[0].permute(1, 2, 0).numpy()
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo={"dataset_name": "Set"}))
    runner = SimpleNamespace(test_loop=SimpleNamespace(dataloader=loader))
    hook = SaveImagesHook(str(tmp_path))
    hook.after_test_iter(runner, 0, outputs=predicted)
    assert np.array_equal(read_image(tmp_path / "Set/b.png"), quantize(expected))
    predicted[0].set_metainfo({"gt_path": "other/b.png"})  # as the frames of REDS
    with pytest.raises(UserError, match=r"b\.png: expected one image of this name.*other/b\.png"):
        hook.after_test_iter(runner, 1, outputs=predicted)
    hook.before_test(runner)
    hook.after_test_iter(runner, 0, outputs=predicted)


# --- optimisers


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1))
        self.discriminator = nn.Linear(3, 1)
        self.text = nn.ModuleDict({"embedding": nn.Embedding(4, 2)})


ADAM = {"type": "Adam", "lr": 1e-3}
WRAPPERS: list[dict[str, Any]] = [
    {"generator": {"optimizer": ADAM}, "discriminator": {"optimizer": ADAM}},
    {".*embedding": {"optimizer": ADAM}, "generator": {"optimizer": ADAM}},
    {"generator.0": {"type": "OptimWrapper", "optimizer": ADAM}},
    {r"generator\.\d": {"optimizer": ADAM, "accumulative_counts": 2}},
    {"both": {"modules": ["generator", ".*embedding"], "optimizer": ADAM}},
    {"modules": ["generator", "text"], "optimizer": ADAM, "accumulative_counts": 3},
    {"modules": "discriminator", "optimizer": ADAM},
]


@pytest.mark.parametrize("config", WRAPPERS)
def test_a_name_of_networks_gives_the_optimiser_that_it_gives_in_mmagic(
    config: dict[str, Any],
) -> None:
    from mmagic.engine.optimizers import MultiOptimWrapperConstructor as Theirs

    model = Nested()
    theirs, ours = (
        kind(copy.deepcopy(config))(model) for kind in (Theirs, MultiOptimWrapperConstructor)
    )
    assert isinstance(theirs, OptimWrapperDict) == isinstance(ours, OptimWrapperDict)
    if not isinstance(theirs, OptimWrapperDict):
        theirs, ours = {"": theirs}, {"": ours}
    assert list(theirs.keys()) == list(ours.keys())
    for name in theirs.keys():  # noqa: SIM118 - OptimWrapperDict iterates over nothing
        groups = [w[name].optimizer.param_groups for w in (theirs, ours)]
        for expected, got in zip(*groups, strict=True):
            assert [*map(id, expected["params"])] == [*map(id, got["params"])]
            assert expected["lr"] == got["lr"]
        assert theirs[name]._accumulative_counts == ours[name]._accumulative_counts


def test_what_several_expressions_match_is_one_parameter_each() -> None:
    config = {"all": {"modules": ["generator", r"generator\.0"], "optimizer": ADAM}}
    (group,) = MultiOptimWrapperConstructor(config)(Nested())["all"].optimizer.param_groups
    assert len(group["params"]) == 4


@pytest.mark.parametrize(
    ("name", "said"), [("genrator", "generator, discriminator"), ("*x", "\\*x")]
)
def test_a_name_that_matches_nothing_is_named(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"optim_wrapper.*{said}"):
        MultiOptimWrapperConstructor({name: {"optimizer": ADAM}})(Nested())


def test_a_parameter_that_is_matched_twice_counts_once_with_settings_for_parameters_too() -> None:
    settings = {
        "optimizer": {**ADAM, "weight_decay": 0.1},
        "paramwise_cfg": {"norm_decay_mult": 0.0},
    }
    config = {"all": {"modules": r"generator(\.\d)?", **settings}}
    groups = MultiOptimWrapperConstructor(config)(Nested())["all"].optimizer.param_groups
    counted = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(counted) == len(set(counted)) == 4


def test_a_network_is_found_by_each_of_its_names() -> None:
    model = Nested()
    model.second = model.generator
    (group,) = MultiOptimWrapperConstructor({"second": {"optimizer": ADAM}})(model)[
        "second"
    ].optimizer.param_groups
    assert len(group["params"]) == 4


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"type": "OptimWrapper", "optimizer": ADAM}, r"optim_wrapper\.type: expected the config"),
        ({"discriminator": None}, r"optim_wrapper\.discriminator: expected the config"),
        ({"all": {"modules": [], "optimizer": ADAM}}, r"all\.modules: expected names of networks"),
        (
            {"modules": 3, "optimizer": ADAM},
            r"optim_wrapper\.modules: expected names of networks, got 3",
        ),
        ({"generator": {"type": "OptimWrapper"}}, r"dict\(optimizer=…\)"),
        (
            {
                "modules": ["generator", "discriminator"],
                "optimizer": ADAM,
                "paramwise_cfg": {"custom_keys": {"generator": {"lr_mult": 0.1}}},
            },
            "expected no custom_keys for several networks",
        ),
    ],
)
def test_a_config_that_is_not_that_of_a_wrapper_is_named(config: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        MultiOptimWrapperConstructor(copy.deepcopy(config))(Nested())
