"""The example report shows the training and the scores of the bundled weights."""

import json
import re
import sys

import pytest

from srgan_plugin.checkpoints.hub import BUNDLED_MODELS, WEIGHTS
from srgan_plugin.io.download import sha256

CURVES = {"loss_pix": [[25, 0.5], [50, 0.25]], "held-out PSNR": [[25, 20.5], [50, 21.5]]}
SCORES = dict.fromkeys(("PSNR", "SSIM", "PSNR_Y", "SSIM_Y", "SSIM_B", "NIQE"), 0.5)


@pytest.fixture
def files(tmp_path):
    """A short training of both networks, and scores of one test set, as command-line options."""
    summary = {
        "config": "zoo_msrresnet_x4c64b16_cpu.py", "device": "a cellar", "hours": 77.25,
        "seconds": 66.5, "iterations": 60, "chosen": 50, "chosen_by": "PSNR", "curves": CURVES,
        "recipe": {"batch": "4 patches"},
    }  # fmt: skip
    srgan = summary | {
        "config": "zoo_srgan_x4c64b16_cpu.py",
        "curves": CURVES | {"loss_d_real": [[50, 0.75]], "held-out NIQE": [[50, 4.5]]},
        "recipe": {"interpolation": "0.8 of these weights"},
    }
    sums = {name: {"sha256": sha256(WEIGHTS / f"{name}.safetensors")} for name in BUNDLED_MODELS}
    sets = {"Set5": {"msrresnet": SCORES | {"PSNR": 29.125}, "srgan": SCORES | {"PSNR": 28.375}}}
    contents = {
        "training": {"models": {"msrresnet": summary, "srgan": srgan}},
        "results": {"weights": sums, "sets": sets},
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return [word for name in contents for word in (f"--{name}", str(tmp_path / f"{name}.json"))]


@pytest.fixture
def report(tool, textured, tmp_path, monkeypatch):
    module = tool("zoo_report")
    monkeypatch.setenv("SRGAN_DATA", str(tmp_path / "images"))  # configs read it
    shown = {"wall": textured(49, 60), "cat": textured(48, 48, seed=1)}
    monkeypatch.setattr(module, "photographs", lambda: shown)
    return module


def test_the_page_has_the_curves_scores_and_images_of_both_networks_and_no_times(
    files, report, tmp_path
):
    report.main([*files, "--out", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    data = {
        name: json.loads(text)
        for name, text in re.findall(r'id="(\w+)-data">(.*?)</script>', page, re.DOTALL)
    }
    curves = {
        (chart["title"], data["curves"]["runs"][series["run"]]): list(
            map(list, zip(series["x"], series["y"], strict=True))
        )
        for chart in data["curves"]["charts"]
        for series in chart["series"]
    }
    both = {
        (title, run): CURVES[name]
        for run in ("MSRResNet", "SRGAN")
        for title, name in (("pixel loss", "loss_pix"), ("held-out/PSNR", "held-out PSNR"))
    }
    assert curves == both | {
        ("discriminator loss", "SRGAN"): [[50, 0.75]],
        ("held-out/NIQE", "SRGAN"): [[50, 4.5]],
    }
    viewer = data["viewer"]
    sizes = {image["name"]: (image["width"], image["height"]) for image in viewer["images"]}
    assert sizes == {"cat": (48, 48), "wall": (60, 48)}
    methods = ["LR", "bicubic", "MSRResNet", "SRGAN", "HR"]
    assert viewer["methods"] == methods
    assert all(list(image["sources"]) == methods for image in viewer["images"])
    text = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", "", text)
    for wanted in ("29.125", "28.375", "0.8 of these weights", "of iteration 50, by PSNR"):
        assert wanted in text
    assert all(sha256(WEIGHTS / f"{name}.safetensors") in text for name in ("msrresnet", "srgan"))
    for absent in ("started", "total time", "a cellar", "77.25", "66.5", str(tmp_path)):
        assert absent not in text


def test_scores_of_other_weights_are_refused(files, report, tmp_path, capsys):
    path = tmp_path / "results.json"
    content = json.loads(path.read_text())
    content["weights"]["srgan"]["sha256"] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(SystemExit):
        report.main([*files, "--out", str(tmp_path / "page.html")])
    assert re.search(r"results\.json.*srgan.*zoo_cards\.py", capsys.readouterr().err)
    assert not (tmp_path / "page.html").exists()


def test_without_scikit_image_one_line_states_how_to_install_it(tool, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ValueError, match=r"scikit-image.*pip install scikit-image"):
        tool("zoo_report").photographs()
