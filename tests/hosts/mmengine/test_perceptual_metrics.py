"""NIQE, LPIPS and DISTS as metrics: their files, their values, their columns.

The networks' weights cannot be had everywhere: random ones stand in for them, in the file that
torchvision looks for, and other code reads the same file.
"""

import importlib
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from mmengine.config import Config
from mmengine.evaluator import BaseMetric

from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.hosts.mmengine.evaluation import perceptual
from srgan_plugin.metrics import PROTOCOLS
from srgan_plugin.metrics.niqe import pristine_model
from srgan_plugin.registry import METRICS
from tests.conftest import ROOT, image

# A test before in this process may have left the scope of MMagic as the default.
pytestmark = pytest.mark.usefixtures("fresh_mmengine")


def pair(height: int = 200, width: int = 304) -> tuple[np.ndarray, np.ndarray]:
    """A prediction of float32 and its GT of uint8, HWC."""
    gt = image(height, width, seed=1)
    noise = np.random.default_rng(0).normal(0, 30, gt.shape)
    return (gt + noise).astype(np.float32), gt


def measure(metric: Any, pred: np.ndarray, gt: np.ndarray) -> dict[str, float]:
    chw = [torch.from_numpy(x).permute(2, 0, 1) for x in (pred, gt)]
    metric.process(None, [{"gt_img": chw[1], "output": {"pred_img": chw[0]}}])
    return dict(metric.evaluate(1))


def saved(pred: np.ndarray) -> np.ndarray:
    return np.rint(pred.clip(0, 255)).astype(np.uint8)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights in torch's folder of downloads, under the names that torchvision asks for."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    # VGG-16's large layers, which are not looked at, would be filled by the second.
    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", lambda layer: None)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    models = torchvision.models
    torch.manual_seed(0)
    for network, kind in ((models.alexnet, "AlexNet_Weights"), (models.vgg16, "VGG16_Weights")):
        with torch.device("meta"):
            state = network().state_dict()
        # Only the convolutions are looked at; the large layers behind them are zeros.
        random = {
            key: torch.randn(w.shape) / max(1, w[0].numel()) ** 0.5
            if key.startswith("features")
            else torch.zeros(1).expand(w.shape)
            for key, w in state.items()
        }
        torch.save(random, folder / getattr(models, kind).DEFAULT.url.rsplit("/", 1)[-1])
    return folder


def test_niqe_is_basicsrs_of_the_image_that_is_saved(
    calculate_niqe: Callable[..., float],
) -> None:
    pred, gt = pair()
    expected = calculate_niqe(saved(pred)[..., ::-1], 4)
    assert measure(METRICS.build({"type": "NIQE"}), pred, gt)["NIQE"] == pytest.approx(
        expected, abs=1e-4
    )


def test_an_image_too_small_for_niqe_is_named() -> None:
    sample = {"gt_img": torch.zeros(3, 40, 50), "output": {"pred_img": torch.zeros(3, 40, 50)}}
    with pytest.raises(ValueError, match=r"^tiny: NIQE: expected .* height 40 and width 50"):
        METRICS.build({"type": "NIQE"}).process(None, [{**sample, "key": "tiny"}])


def test_lpips_is_that_of_its_authors(weights: Path) -> None:
    pytest.importorskip("torchmetrics", minversion="1.8")
    lpips = pytest.importorskip("lpips")
    pred, gt = pair(80, 96)
    inside = [
        torch.from_numpy(x[4:-4, 4:-4].copy()).permute(2, 0, 1)[None] / 127.5 - 1
        for x in (saved(pred), gt)
    ]
    expected = float(lpips.LPIPS(net="alex", verbose=False)(*inside))
    measured = measure(METRICS.build({"type": "LPIPS"}), pred, gt)
    assert measured["LPIPS"] == pytest.approx(expected, abs=1e-5)
    assert expected > 1e-3


def test_lpips_keeps_no_scores_of_earlier_images(weights: Path) -> None:
    pytest.importorskip("torchmetrics", minversion="1.8")
    metric = METRICS.build({"type": "LPIPS"})
    pred, gt = pair(48, 48)
    measure(metric, pred, gt)
    size = len(pickle.dumps(metric))
    for _ in range(3):
        measure(metric, pred, gt)
    assert len(pickle.dumps(metric)) == size


def test_dists_is_that_of_its_paper(weights: Path) -> None:
    torchmetrics = pytest.importorskip("torchmetrics", minversion="1.8")
    pred, gt = pair(80, 96)
    metric = METRICS.build({"type": "DISTS"})
    measured = measure(metric, pred, gt)["DISTS"]
    assert measured == pytest.approx(slow_dists(saved(pred), gt, torchmetrics), abs=1e-5)
    assert measured > 1e-3
    same = measure(metric, gt.astype(np.float32), gt)["DISTS"]
    assert same == pytest.approx(0, abs=1e-5)


def slow_dists(a: np.ndarray, b: np.ndarray, torchmetrics: Any) -> float:
    """Ding et al. 2020, eq. 4 to 7: per feature map, from its mean, variance and covariance."""
    folder = Path(torchmetrics.__file__).parent / "functional/image/dists_models"
    learned = torch.load(folder / "weights.pt")
    stages = [maps(torch.from_numpy(x[4:-4, 4:-4].copy())) for x in (a, b)]
    total = learned["alpha"].sum() + learned["beta"].sum()
    similarity, index = 0.0, 0
    for p, q in zip(*stages, strict=True):
        for x, y in zip(p, q, strict=True):
            alpha, beta = (float(learned[k].flatten()[index] / total) for k in ("alpha", "beta"))
            mean_x, mean_y = float(x.mean()), float(y.mean())
            covariance = float(((x - mean_x) * (y - mean_y)).mean())
            variances = float(x.var(correction=0) + y.var(correction=0))
            similarity += alpha * (2 * mean_x * mean_y + 1e-6) / (mean_x**2 + mean_y**2 + 1e-6)
            similarity += beta * (2 * covariance + 1e-6) / (variances + 1e-6)
            index += 1
    return 1 - similarity


def maps(picture: torch.Tensor) -> list[torch.Tensor]:
    """Return the image and the maps of five stages of VGG-16, pooled by a Hann window (L2)."""
    x = picture.permute(2, 0, 1)[None].double() / 255
    found = [x[0]]
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(1, 3, 1, 1)
    hann = torch.from_numpy(np.hanning(5)[1:-1])
    window = torch.outer(hann, hann) / torch.outer(hann, hann).sum()
    for layer in torchvision.models.vgg16(weights="DEFAULT").features.double():
        if isinstance(layer, torch.nn.MaxPool2d):
            found.append(x[0])
            filters = window.expand(x.shape[1], 1, 3, 3)
            squares = torch.nn.functional.conv2d(
                x**2, filters, stride=2, padding=1, groups=x.shape[1]
            )
            x = (squares + 1e-12).sqrt()
        else:
            x = layer(x)
    return [plane.detach() for plane in found]


@pytest.mark.parametrize(
    ("name", "file"), [("LPIPS", "alexnet-owt-.*pth"), ("DISTS", "vgg16-.*pth")]
)
def test_weights_are_not_downloaded_unasked(
    name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(
        MissingFileError, match=rf"{name}: expected .*{file}.*download=True"
    ) as caught:
        METRICS.build({"type": name})
    # The command in the message, which the documents have as well, downloads that file.
    (command,) = re.findall(r'python -c "(.*?)"', str(caught.value))
    assert f'python -c "{command}"\n' in (ROOT / "docs/protocols.md").read_text()
    fetched: list[str] = []

    def download(url: str, target: str, *_: object, **__: object) -> None:
        fetched.append(target)
        torch.save({}, target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    exec(command, {})
    assert str(caught.value).split(" at ")[1].startswith(f"{fetched[0]},")


def test_without_torchmetrics_it_is_said_what_to_install(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(perceptual, "import_module", missing)
    with pytest.raises(UserError, match=r"LPIPS: .*pip install .torchmetrics>=1\.8"):
        METRICS.build({"type": "LPIPS"})


@METRICS.register_module()
class MeanLevel(BaseMetric):
    """Somebody's own metric."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += [float(s["output"]["pred_img"].float().mean()) for s in data_samples]

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        return {"mean_level": float(np.mean(results))}


@pytest.mark.usefixtures("fresh_mmengine")
def test_protocols_and_metrics_of_the_command_line_become_columns(
    photographs: Path, tool: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("SRGAN_DATA", str(photographs))
    config = str(ROOT / "configs/bicubic_x4.py")
    arguments = [config, "none", "--out", "out.json", "--protocol", "mmagic-1.x", "openmmlab-2020"]
    tool("test").main([*arguments, "--metric", "MeanLevel"])
    measures = ["PSNR_unrounded", "SSIM_unrounded", "PSNR", "SSIM_B"]
    (head, *_) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("set ")]
    assert head.split()[1:] == [*measures, "mean_level"]
    scores = json.loads(Path("out.json").read_text())
    assert list(scores["Set5"]) == [*measures, "mean_level", "images"]
    assert 0 < abs(scores["Set5"]["PSNR_unrounded"] - scores["Set5"]["PSNR"]) < 0.01


@pytest.mark.usefixtures("fresh_mmengine")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--protocol", "ssim"], ["openmmlab-2020", "'ssim'"]),
        (["--metric", "NIQUE"], ["NIQUE", "NIQE"]),
        (
            ["--protocol", "y", "--cfg-options", "test_evaluator.type=PSNR"],
            ["--protocol", "BenchmarkMetric", "PSNR"],
        ),
    ],
)
def test_a_wrong_protocol_or_metric_is_one_line(
    photographs: Path,
    tool: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.setenv("SRGAN_DATA", str(photographs))
    with pytest.raises(SystemExit):
        tool("test").main([str(ROOT / "configs/bicubic_x4.py"), "none", *arguments])
    last = capsys.readouterr().err.splitlines()[-1]
    assert [word for word in words if word not in last] == []


@pytest.mark.usefixtures("fresh_mmengine")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--protocol", "basicsrr"], ["--protocol", "did you mean 'basicsr'?"]),
        (["--metric", "NIQUE"], ["NIQUE", "NIQE"]),
        (["--cfg-options", "test_evaluator.protocols=[yy]"], ["protocols", "'yy'", "'y'"]),
    ],
)
def test_a_wrong_protocol_or_metric_is_refused_before_the_test_sets_are_looked_for(
    tmp_path: Path,
    tool: Callable[[str], Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    arguments: list[str],
    words: list[str],
) -> None:
    monkeypatch.setenv("SRGAN_DATA", str(tmp_path / "no_data"))
    with pytest.raises(SystemExit) as ended:
        tool("test").main([str(ROOT / "configs/bicubic_x4.py"), "none", *arguments])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert [word for word in words if word not in line] == []


def test_niqe_takes_a_file_of_the_model(tmp_path: Path) -> None:
    pred, gt = pair()
    np.savez(tmp_path / "x.npz", mu_pris_param=np.zeros(36), cov_pris_param=np.eye(36))
    own = measure(METRICS.build({"type": "NIQE", "model": str(tmp_path / "x.npz")}), pred, gt)
    assert own["NIQE"] > 0
    try:
        pristine_model()
    except MissingFileError as error:
        pytest.skip(str(error))
    assert own != measure(METRICS.build({"type": "NIQE"}), pred, gt)


def test_the_help_lists_all_protocols(tool: Callable[[str], Any]) -> None:
    assert (*PROTOCOLS,) == tool("test")._PROTOCOLS


def test_a_metric_is_added_to_the_evaluator_of_each_set(tool: Callable[[str], Any]) -> None:
    sets = [
        {"type": "Evaluator", "metrics": [{"type": "PSNR", "prefix": name}]} for name in ("a", "b")
    ]
    cfg = Config({"default_scope": "srgan_plugin", "test_evaluator": sets})
    tool("test").choose_metrics(cfg, [], ["NIQE"])
    added = [evaluator.metrics[-1].to_dict() for evaluator in cfg.test_evaluator]
    assert added == [{"type": "NIQE", "prefix": name} for name in ("a", "b")]


@pytest.mark.usefixtures("fresh_mmengine")
@pytest.mark.parametrize("scope", ["mmengine", "mmagic", "srgan_plugin"])
def test_an_unknown_metric_is_refused_in_every_scope(
    tool: Callable[[str], Any], scope: str
) -> None:
    if scope == "mmagic":
        pytest.importorskip("mmagic")
        importlib.import_module("srgan_plugin.hosts.mmagic")
    cfg = Config({"default_scope": scope, "test_evaluator": {"type": "PSNR"}})
    near = "DumpResult" if scope == "mmengine" else "NIQE"
    with pytest.raises(UserError, match=f"{near}.*got|got.*{near}"):
        tool("test").choose_metrics(cfg, [], ["NIQUE"])
    tool("test").choose_metrics(cfg, [], [f"{near}s" if scope == "mmengine" else near])
    added = {"mmengine": "DumpResults", "mmagic": "srgan_plugin.NIQE"}.get(scope, "NIQE")
    assert cfg.test_evaluator[-1].type == added  # MMagic's NIQE fails on samples of its own loops
