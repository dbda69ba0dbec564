"""Given the same uint8 pictures, ours, MMagic's and BasicSR's measures are the same numbers.

SSIM is the one of Wang et al. on each channel, valid windows only, then the mean: MMagic's and
BasicSR's `calculate_ssim`, not the 3-D one of BasicSR's old tables.
"""

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from srgan_plugin.__main__ import main
from srgan_plugin.data.benchmark_sets import find_benchmark
from srgan_plugin.data.resize import imresize
from srgan_plugin.hosts.mmengine.evaluation.metrics import PSNR, SSIM
from srgan_plugin.io.images import read_image
from srgan_plugin.metrics import Scorer, average
from srgan_plugin.metrics.psnr_ssim import psnr, quantize, ssim
from srgan_plugin.networks import MSRResNet
from tests.conftest import ROOT, SHARED

PUBLISHED = ".mim/configs/srgan_resnet/msrresnet_x4c64b16_1xb16-1000k_div2k.py"
ImageList = list[tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module", params=["Set5", "Set14"])
def predictions(request: pytest.FixtureRequest, photographs: Path) -> ImageList:
    """Bicubic's uint8 pictures and the truth: of the real sets where they are, else small ones."""
    root = SHARED / "benchmark" if SHARED.is_dir() else photographs
    pairs = find_benchmark(request.param, root, 4).pairs
    chosen = [pairs[i] for i in range(0, len(pairs), 1 if request.param == "Set5" else 4)]
    return [
        (quantize(imresize(np.asarray(pair.lr) / 255.0, 4)), np.asarray(pair.gt)) for pair in chosen
    ]


METRIC_FUNCTIONS = [("PSNR", None), ("SSIM", None), ("PSNR", "Y"), ("SSIM", "Y")]


def ours(name: str, convert_to: str | None, predictions: ImageList) -> float:
    measure = {"PSNR": psnr, "SSIM": ssim}[name]
    channel = "y" if convert_to else "rgb"
    return float(np.mean([measure(p, t, border=4, channel=channel) for p, t in predictions]))


def bgr(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1)[::-1].copy())


@pytest.mark.parametrize(("name", "convert_to"), METRIC_FUNCTIONS)
def test_same_measure_as_mmagics_evaluators_and_ours_in_their_place(
    mmagic: ModuleType, predictions: ImageList, name: str, convert_to: str | None
) -> None:
    from mmagic.evaluation import metrics

    samples = [
        {
            "gt_img": bgr(truth),
            "output": {"pred_img": bgr(predicted)},
            "gt_img_output_channel_order": "BGR",
        }
        for predicted, truth in predictions
    ]
    measured = []
    for kind in (getattr(metrics, name), {"PSNR": PSNR, "SSIM": SSIM}[name]):
        metric = kind(crop_border=4, convert_to=convert_to)
        loader = SimpleNamespace(dataset=predictions)
        metric.prepare(SimpleNamespace(data_preprocessor=None), loader)
        assert metric.get_metric_sampler(None, loader, [metric]) is loader
        metric.process(None, samples)
        measured.append(metric.evaluate()[name])
    assert measured == pytest.approx([ours(name, convert_to, predictions)] * 2, abs=1e-4)


@pytest.mark.parametrize(("name", "convert_to"), METRIC_FUNCTIONS)
def test_same_measure_as_basicsrs_functions(
    basicsr: ModuleType, predictions: ImageList, name: str, convert_to: str | None
) -> None:
    from basicsr.metrics import calculate_metric

    options = {
        "type": f"calculate_{name.lower()}",
        "crop_border": 4,
        "test_y_channel": convert_to == "Y",
    }
    theirs = [
        calculate_metric({"img": p[..., ::-1], "img2": t[..., ::-1]}, options)  # BGR, as it saves
        for p, t in predictions
    ]
    # BasicSR computes luma in float32.
    assert float(np.mean(theirs)) == pytest.approx(ours(name, convert_to, predictions), abs=1e-4)


@pytest.fixture(scope="module")
def root(photographs: Path) -> Path:
    return SHARED / "benchmark" if SHARED.is_dir() else photographs


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generator that is neither bicubic nor noise, in a checkpoint of MMagic's layout."""
    torch.manual_seed(0)
    network = MSRResNet(mid_channels=8, num_blocks=1)
    state = {f"generator.{key}": value for key, value in network.state_dict().items()}
    path = tmp_path_factory.mktemp("checkpoint") / "small.pth"
    torch.save({"state_dict": state}, path)
    return path


SMALL = {"model.generator.mid_channels": 8, "model.generator.num_blocks": 1}


def run_test(
    cfg: Config, checkpoint: Path, work_dir: Path, save_images: Path | None = None
) -> dict[str, float]:
    """Test as the toolbox's tool does: a runner from the config."""
    cfg.merge_from_dict({**SMALL, "load_from": str(checkpoint), "work_dir": str(work_dir)})
    cfg.experiment_name = work_dir.name
    for part in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        cfg[part] = None
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = cfg.custom_hooks = None
    if save_images:
        cfg.custom_hooks = [{"type": "SaveImagesHook", "out_dir": str(save_images)}]
    for loader in cfg.test_dataloader:
        loader.num_workers = 0
    return dict(Runner.from_cfg(cfg).test())


@pytest.fixture
def by_mmagic(
    mmagic: ModuleType, root: Path, checkpoint: Path, tmp_path: Path, fresh_mmengine: None
) -> dict[str, float]:
    """MMagic's own config, tested by MMagic's own tool."""
    cfg = Config.fromfile(Path(mmagic.__file__).parent / PUBLISHED)
    cfg.merge_from_dict({**SMALL, "experiment_name": "theirs"})
    cfg.test_dataloader, cfg.test_evaluator = cfg.test_dataloader[:2], cfg.test_evaluator[:2]
    for loader, name in zip(cfg.test_dataloader, ("Set5", "Set14"), strict=True):
        loader.num_workers = 0
        loader.dataset.data_root = str(root / name)
    cfg.custom_hooks = None  # it would write every picture
    cfg.dump(tmp_path / "theirs.py")
    out = tmp_path / "measured.json"
    words = [tmp_path / "theirs.py", checkpoint, "--work-dir", tmp_path / "theirs", "--out", out]
    main(["mmagic", "test", *map(str, words)])
    measured: dict[str, float] = json.loads(out.read_text())
    return measured


def plugin_config(root: Path, name: str = "msrresnet_x4c64b16_g1_1000k_div2k.py") -> Config:
    cfg = Config.fromfile(ROOT / "configs" / name)
    cfg.test_dataloader = cfg.test_dataloader[:2]
    for loader in cfg.test_dataloader:
        loader.dataset.data_root = str(root)
    return cfg


@pytest.mark.slow
def test_same_measure_of_mmagics_whole_test_run_and_ours_with_rounding_off(
    by_mmagic: dict[str, float], root: Path, checkpoint: Path, tmp_path: Path
) -> None:
    cfg = plugin_config(root)
    cfg.test_evaluator.rounding = False
    measured = run_test(cfg, checkpoint, tmp_path / "ours")
    assert set(by_mmagic) == {f"{s}/{m}" for s in ("Set5", "Set14") for m in ("PSNR", "SSIM")}
    for name, value in by_mmagic.items():
        assert measured[name] == pytest.approx(value, abs=1e-4), name


@pytest.mark.slow
def test_same_measure_of_mmagics_metrics_inside_our_config(
    by_mmagic: dict[str, float], root: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Luma as well: it is what goes wrong where red and blue change places."""
    cfg = plugin_config(root)
    cfg.test_evaluator = [
        {"type": f"{scope}PSNR", "crop_border": 4, "convert_to": "Y", "prefix": scope or "ours"}
        for scope in ("mmagic.", "")
    ] + [{"type": "mmagic.SSIM", "crop_border": 4}, {"type": "mmagic.PSNR", "crop_border": 4}]
    cfg.test_evaluator[1]["rounding"] = False
    cfg.test_dataloader = cfg.test_dataloader[:1]
    measured = run_test(cfg, checkpoint, tmp_path / "ours")
    assert measured["mmagic./PSNR"] == pytest.approx(measured["ours/PSNR"], abs=1e-4)
    assert measured["Set5/SSIM"] == pytest.approx(by_mmagic["Set5/SSIM"], abs=1e-4)
    assert measured["Set5/PSNR"] == pytest.approx(by_mmagic["Set5/PSNR"], abs=1e-4)


@pytest.mark.slow
def test_same_measure_of_our_model_on_mmagics_pipeline_and_evaluators(
    by_mmagic: dict[str, float], root: Path, checkpoint: Path, tmp_path: Path
) -> None:
    cfg = Config.fromfile(ROOT / "configs/mmagic/srgan_x4c64b16_g1_1000k_div2k_mmagic.py")
    for loader, name in zip(cfg.test_dataloader, ("Set5", "Set14"), strict=True):
        loader.dataset.data_root = str(root / name)
    cfg.model.perceptual_loss = None
    assert run_test(cfg, checkpoint, tmp_path / "ours") == pytest.approx(by_mmagic, abs=1e-4)


def test_same_measure_of_the_images_that_are_saved_where_mmagics_samples_are_bgr(
    mmagic: ModuleType,
    root: Path,
    checkpoint: Path,
    tmp_path: Path,
    fresh_mmengine: None,
) -> None:
    cfg = Config.fromfile(ROOT / "configs/mmagic/srgan_x4c64b16_g1_1000k_div2k_mmagic.py")
    cfg.test_dataloader = cfg.test_dataloader[:1]
    cfg.test_dataloader[0].dataset.data_root = str(root / "Set5")
    cfg.model.perceptual_loss = None
    cfg.test_evaluator = [{"type": "BenchmarkMetric"}]
    measured = run_test(cfg, checkpoint, tmp_path / "ours", save_images=tmp_path / "pictures")
    saved = {path.stem: read_image(path) for path in (tmp_path / "pictures/Set5").iterdir()}
    pairs = find_benchmark("Set5", root, 4).pairs
    scores = [
        Scorer().score(saved[pair.key], np.asarray(pair.gt))
        for pair in map(pairs.__getitem__, range(len(pairs)))
    ]
    assert measured["Set5/PSNR_Y"] == pytest.approx(average(scores)["PSNR_Y"], abs=1e-4)
