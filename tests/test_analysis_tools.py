"""The analysis tools: what they print and write, against counts and pictures made by hand."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from srgan_plugin.data.resize import make_lr
from srgan_plugin.io.images import read_image

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
MSRRESNET = str(CONFIGS / "msrresnet_x4c64b16_g1_1000k_div2k.py")

# A run before leaves mmengine its scope, under which names without a prefix are another toolbox's.
pytestmark = pytest.mark.usefixtures("fresh_mmengine")


def tool(name: str) -> ModuleType:
    path = ROOT / "tools" / "analysis_tools" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"tool_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_printed_config_runs_and_has_the_changes_of_the_command_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tool("print_config").main([MSRRESNET, "--cfg-options", "model.generator.num_blocks=3"])
    (tmp_path / "printed.py").write_text(capfd.readouterr().out)
    printed, original = (Config.fromfile(path) for path in (tmp_path / "printed.py", MSRRESNET))
    assert printed.model.generator.num_blocks == 3
    printed.model.generator.num_blocks = 16
    assert printed.to_dict() == original.to_dict()


def multiply_adds(channels: int, blocks: int, height: int, width: int) -> int:
    """Of MSRResNet x4: 3x3 convolutions, and four for each pixel of the bilinear base."""
    lr = 3 * channels + 2 * blocks * channels**2 + 4 * channels**2
    x2 = 4 * channels**2
    x4 = channels**2 + 3 * channels
    return height * width * (9 * (lr + 4 * x2 + 16 * x4) + 4 * 16 * 3)


def test_flops_and_parameters_equal_the_count_by_hand(capfd: pytest.CaptureFixture[str]) -> None:
    found = tool("get_flops")
    from srgan_plugin.networks import MSRResNet

    for channels, blocks, shape in ((64, 16, [3, 32, 32]), (8, 2, [3, 9, 20])):
        network = MSRResNet(mid_channels=channels, num_blocks=blocks)
        counted = found.analyse(network, shape, tables=False)
        assert counted["flops"] == multiply_adds(channels, blocks, *shape[1:])
        assert counted["params"] == sum(p.numel() for p in network.parameters())
    found.main([MSRRESNET, "--shape", "3", "32", "32", "--activations", "--out-table"])
    said = capfd.readouterr().out
    assert "Input shape: (3, 32, 32)" in said
    assert "Flops: 2.597G" in said
    assert "Params: 1.518M" in said
    assert "Activations: 4.571M" in said
    assert "trunk_net.15.conv2" in said
    assert "WARNING" not in said


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_browsing_writes_lr_beside_gt_as_they_are_trained_on(
    photographs: Path, tmp_path: Path, scale: int
) -> None:
    config = CONFIGS / f"msrresnet_x{scale}c64b16_g1_1000k_div2k.py"
    options = [f"train_dataloader.dataset.gt={photographs}/train"]
    options += [f"train_dataloader.dataset.pipeline.0.gt_patch_size={24 * scale}"]
    arguments = [str(config), "--output-dir", str(tmp_path / "out"), "--number", "5", "--not-show"]
    tool("browse_dataset").main([*arguments, "--cfg-options", *options])
    written = sorted((tmp_path / "out").iterdir())
    assert len(written) == 5
    for path in written:
        image = read_image(path)
        assert image.shape == (24 * scale, 48 * scale, 3)
        upscaled, gt = np.split(image, 2, axis=1)
        lr = upscaled[::scale, ::scale]
        np.testing.assert_array_equal(lr.repeat(scale, 0).repeat(scale, 1), upscaled)
        # Away from the patch's edge LR depends on nothing outside the patch.
        difference = cv2.absdiff(make_lr(gt, scale), lr)[4:-4, 4:-4]
        assert difference.max() <= 1


def test_browsing_a_test_set_takes_its_images_in_order(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRGAN_DATA", str(photographs))
    arguments = [MSRRESNET, "--phase", "test", "--output-dir", str(tmp_path), "--number", "9"]
    tool("browse_dataset").main(arguments)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["0000_0000.png", "0001_0001.png"]
    gt = read_image(photographs / "Set5" / "GTmod12" / "0001.png")
    np.testing.assert_array_equal(read_image(tmp_path / "0001_0001.png")[:, 60:], gt)


def test_bad_usage_ends_with_a_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = str(CONFIGS / "bicubic_x4.py")
    for name, arguments, status, word in (
        ("browse_dataset", [demo], 1, "train_dataloader"),
        ("browse_dataset", [demo, "--number", "0"], 2, "--number"),
        ("get_flops", [demo, "--shape", "3", "0", "8"], 2, "--shape"),
        ("get_flops", [MSRRESNET, "--shape", "1", "8", "8"], 1, "--shape 1 8 8"),
        ("print_config", [str(tmp_path / "none.py")], 1, "none.py"),
    ):
        with pytest.raises(SystemExit) as stop:
            tool(name).main(arguments)
        said = capfd.readouterr().err
        assert stop.value.code == status
        assert word in said.splitlines()[-1]
        assert "Traceback" not in said


BASICSR_LINE = (
    "2026-01-01 10:00:00,000 INFO: [name..][epoch:  0, iter:  {}, lr:(1.000e-04,)] "
    "[eta: 0:00:00, time (data): {:.3f} (0.010)] l_g_pix: {:.4e} \n"
)


@pytest.fixture
def logs(tmp_path: Path) -> tuple[Path, Path]:
    """Return the folder of a run of mmengine and a log of BasicSR, of the same losses."""
    data = tmp_path / "ours" / "20260101_100000" / "vis_data"
    data.mkdir(parents=True)
    times = {100: 9.0, 200: 0.5, 300: 0.25}
    lines = [
        {"generator.lr": 1e-4, "loss_pix": at / 1e4, "time": s, "step": at}
        for at, s in times.items()
    ]
    lines += [{f"Set{n}/PSNR": 20.0 + n, "step": 300} for n in (5, 14)]
    (data / "scalars.json").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    theirs = tmp_path / "train_x_20260101_100000.log"
    theirs.write_text("".join(BASICSR_LINE.format(at, s, at / 1e4) for at, s in times.items()))
    return tmp_path / "ours", theirs


def drawn(tool: ModuleType, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what a chart shows: for each curve its text and its points."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    with monkeypatch.context() as patch:
        patch.setattr(pyplot, "close", lambda figure: None)
        tool.main(["plot_curve", *arguments])
    curves = [(line.get_label(), line.get_xydata().tolist()) for line in pyplot.gca().lines]
    pyplot.close()
    return curves


def test_curves_of_logs_of_both_toolboxes_are_drawn_under_the_given_texts(
    logs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = map(str, logs)
    scalars = str(next(logs[0].rglob("scalars.json")))
    out = tmp_path / "curves.png"
    losses = [[100, 0.01], [200, 0.02], [300, 0.03]]
    arguments = [ours, theirs, scalars, "--keys", "l_g_pix", "--out", str(out)]
    found = drawn(tool("analyze_logs"), arguments, monkeypatch)
    assert [label for label, _ in found] == [
        "ours loss_pix",
        "train_x_20260101_100000 loss_pix",
        "ours/20260101_100000 loss_pix",
    ]
    assert all(points == losses for _, points in found)
    assert read_image(out).shape[2] == 3
    both = [ours, "--keys", "l_g_pix", "loss_pix", "--out", str(out)]  # two names of one curve
    assert [label for label, _ in drawn(tool("analyze_logs"), both, monkeypatch)] == [
        "ours loss_pix"
    ]
    named = drawn(tool("analyze_logs"), [*arguments, "--legend", "a", "b", "c"], monkeypatch)
    assert [label for label, _ in named] == ["a", "b", "c"]
    ends = drawn(
        tool("analyze_logs"), [ours, "--keys", "psnr", "lr", "--out", str(out)], monkeypatch
    )
    assert [label for label, _ in ends] == [
        "ours Set14/PSNR",
        "ours Set5/PSNR",
        "ours generator.lr",
    ]


def test_the_time_of_an_iteration_leaves_the_start_out(
    logs: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    for log in logs:
        for more, average in ([], "0.3750"), (["--include-outliers"], "3.2500"):
            tool("analyze_logs").main(["cal_train_time", str(log), *more])
            said = capfd.readouterr().out
            assert f"average iter time: {average} s/iter" in said
            assert "fastest at iteration 300, 0.2500 s/iter" in said
            assert f"slowest at iteration {'100, 9.0' if more else '200, 0.5'}" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plot_curve", "LOG", "--keys", "loss_gan", "--out", "a.png"], "loss_pix"),
        (["plot_curve", "LOG", "--legend", "a", "--out", "a.png"], "expected 2 names"),
        (["plot_curve", "LOG", "--out", "a.bmp"], ".svg"),
        (["plot_curve", "LOG", "--out", "a.png", "--style", "x"], "ggplot"),
        (["plot_curve", "LOG", "--backend", "x"], "--backend x"),
        (["plot_curve", "setup.py", "--out", "a.png"], "setup.py"),
        (["cal_train_time", "none.log"], "none.log"),
    ],
)
def test_what_the_analysis_of_logs_cannot_do_is_said_in_one_line(
    logs: tuple[Path, Path],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit):
        tool("analyze_logs").main([str(logs[0]) if a == "LOG" else a for a in arguments])
    said = capfd.readouterr().err
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1
