"""What people get wrong with BasicSR's options and data ends in one line, or is not accepted."""

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from basicsr_runs import Run, options

from tests.conftest import image

NAME = "small.pth"


@pytest.fixture
def opt(run: Run, photographs: Path) -> dict[str, Any]:
    """Options of a test in BasicSR's own classes, with weights that fit."""
    from basicsr.archs.srresnet_arch import MSRResNet

    torch.save({"params": MSRResNet(num_feat=8, num_block=1).state_dict()}, NAME)
    opt = options("test_msrresnet_x4.yml", photographs)
    opt["model_type"] = "SRModel"
    opt["network_g"]["type"] = "MSRResNet"
    opt["path"] = {"pretrain_network_g": NAME, "strict_load_g": True}
    folders = ("GTmod12", "LRbicx4")
    gt, lq = (str(photographs / "Set5" / folder) for folder in folders)
    dataset = {"name": "Set5", "type": "PairedImageDataset", "dataroot_gt": gt, "dataroot_lq": lq}
    opt["datasets"] = {"test_1": {**dataset, "io_backend": {"type": "disk"}}}
    return opt


@pytest.fixture
def training(run: Run, photographs: Path) -> dict[str, Any]:
    """Options of a training in BasicSR's own classes."""
    opt = options("train_msrresnet_x4.yml", photographs)
    opt["network_g"]["type"] = "MSRResNet"
    opt["datasets"].pop("val")
    data = {"dataroot_gt": "GT", "dataroot_lq": "LQ", "io_backend": {"type": "disk"}}
    opt["datasets"]["train"] |= {"type": "PairedImageDataset", "batch_size_per_gpu": 1, **data}
    write_pairs(96)
    return opt


def write_pairs(side: int, lr_side: int = 24) -> None:
    for folder, size in (("GT", side), ("LQ", lr_side)):
        Path(folder).mkdir(exist_ok=True)
        cv2.imwrite(f"{folder}/a.png", image(size, size))


def line_of(run: Run, capsys: pytest.CaptureFixture[str], *call: Any) -> str:
    """Return the one line in which a run ends."""
    with pytest.raises(SystemExit) as end:
        run(*call)
    assert end.value.code == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    return line


def test_a_value_on_the_command_line_is_what_basicsr_reads(
    basicsr: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from basicsr.utils.options import parse_options

    from srgan_plugin.cli.basicsr import _apply_entries

    values = ["1e-4", "1.0e-4", "!!float 1e-4", "-1", "0.5", "yes", "null", "~", "None", "True"]
    values += ["[0.9, 0.99]", "[2] * 3", "'x'", "{a: 1}", "", "a b"]
    (tmp_path / "o.yml").write_text("{name: x, num_gpu: 0, datasets: {}, path: {}, val: {k: 1}}")
    for value in values:
        monkeypatch.setattr("sys.argv", ["t", "-opt", "o.yml", "--force_yml", f"val:k={value}"])
        monkeypatch.chdir(tmp_path)
        theirs = parse_options(str(tmp_path), is_train=False)[0]["val"]["k"]
        ours = _apply_entries({"val": {"k": 1}}, [f"val:k={value}"])["val"]["k"]
        assert (type(ours), ours) == (type(theirs), theirs), value


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("val.save_img=true", "write colons for the dots"),
        ("path:pretrain_network_g=a=b.pth", "expected one '='"),
        ('val:a"b=1', "expected SECTION:KEY=VALUE"),
        ("val:metrics:psnr:crop_border=[4", "expected a number after '!!float', or a list"),
        ("val:save_img=yes", "val.save_img: expected true or false, got 'yes'"),
        ("val:save_img=null", "val.save_img: expected true or false, got 'null'"),
        ("name=", "name: expected text, got ''"),
        ("scale=4.0", "scale: expected a whole number from 1, got 4.0"),
        ("network_g:num_feat=8.0", "num_feat: expected a whole number, got 8.0"),
        ("network_g:num_feat=16", "expected weights of num_feat=16, as in network_g, got 8"),
        ("network_g:upscale=5", "network_g.upscale: expected one of 2, 3, 4, got 5"),
        ("path:pretrain_network_g=no.pth", "path.pretrain_network_g: expected a checkpoint, got"),
        ("datasets:test_1:dataroot_lq=no", "datasets.test_1.dataroot_lq: expected a file or"),
        ("datasets:test_1:meta_info_file=no", "datasets.test_1.meta_info_file: expected a file"),
        ("datasets:test_1:type=SingleImageDataset", "test sets with GT, got datasets.test_1"),
        (
            "datasets:test_1:type=PairedImageDataset_srgan_plugin datasets:test_1:dataroot_gt=~",
            "for images without GT set type: SingleImageDataset",
        ),
        (
            "datasets:test_1:degradation=4",
            "datasets.test_1.degradation: expected options by name, got 4",
        ),
        ("val:metrics:psnr:crop_bordr=2", "val.metrics.psnr.crop_bordr: .*nearest: crop_border"),
        ("val:metrics:psnr:test_y=true", "psnr.test_y: expected an argument of calculate_psnr"),
        ("val:metrics:psnr:test_y_channel=no", "test_y_channel: expected true or false, got 'no'"),
        ("val:metrics:psnr:crop_border=~", "options: expected val.metrics.psnr.crop_border, got"),
    ],
)
def test_a_slip_leaves_the_results_of_the_run_before_in_place(
    run: Run, opt: dict[str, Any], capsys: pytest.CaptureFixture[str], entry: str, message: str
) -> None:
    before = Path("results", opt["name"])
    before.mkdir(parents=True)
    entries = entry.split(" ") if entry.count("=~") else [entry]
    line = line_of(run, capsys, "basicsr_test", opt, "--force_yml", *entries)
    assert all(part in line for part in message.split(".*")), line
    assert sorted(Path("results").iterdir()) == [before]


@pytest.mark.parametrize(
    ("gt", "lq", "message"),
    [
        ((12, 12), (48, 48), "LR and GT may be swapped"),
        ((45, 48), (12, 12), "expected at least 4 times the 12x12"),
        (None, (12, 12), "got one that OpenCV cannot decode"),
        ((48, 48), None, "got one that OpenCV cannot decode"),
    ],
)
def test_a_pair_that_does_not_match_is_named_also_by_basicsrs_own_dataset(
    run: Run,
    opt: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    gt: Any,
    lq: Any,
    message: str,
) -> None:
    for folder, size in (("GT", gt), ("LQ", lq)):
        Path(folder).mkdir()
        encoded = cv2.imencode(".png", image(*(size or (12, 12))))[1].tobytes()
        Path(folder, "a.png").write_bytes(encoded if size else encoded[: len(encoded) // 8])
    opt["datasets"]["test_1"] |= {"dataroot_gt": "GT", "dataroot_lq": "LQ"}
    line = line_of(run, capsys, "basicsr_test", opt)
    assert message in line
    assert str(Path("GT", "a.png")) in line


@pytest.mark.parametrize(
    ("side", "gt_size", "message"), [(88, 32, "Scale mismatches"), (96, 128, "smaller than patch")]
)
def test_a_crop_that_basicsr_cannot_take_is_one_line(
    run: Run,
    training: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    side: int,
    gt_size: int,
    message: str,
) -> None:
    write_pairs(side)
    training["datasets"]["train"]["gt_size"] = gt_size
    del training["val"]
    line = line_of(run, capsys, "basicsr_train", training)
    assert message in line
    assert str(Path("GT", "a.png")) in line


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("datasets:train:gt_size=30", "datasets.train.gt_size: expected a multiple of the scale 4"),
        ("datasets:train:dataset_enlarge_ratio=0", "enlarge_ratio: expected a number above 0"),
        ("datasets:train:batch_size_per_gpu=9", "gpu: expected at most the 1 samples of an epoch"),
        ("logger:print_freq=0", "logger.print_freq: expected a number above 0, got 0"),
        ("val:val_freq=0", "val.val_freq: expected a number above 0, got 0"),
        ("train:warmup_iter=-1", "warmup_iter: expected a number, got '-1'; write it without"),
        ("train:optim_g:lr=1.0e-4", "(in --force_yml as '!!float 1e-4')"),
        ("train:total_iters=4", "train.total_iters: expected a known option, got 'total_iters'"),
        ("manual_seed=3", "--force_yml: expected other options than manual_seed and dist_params"),
        ("path:resume_state=other.pth", "expected a training state (N.state), got another file"),
    ],
)
def test_a_slip_in_a_training_is_one_line(
    run: Run,
    training: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    entry: str,
    message: str,
) -> None:
    torch.save({"params": {}}, "other.pth")
    if "total_iters" in entry:
        del training["train"]["total_iter"]
    assert message in line_of(run, capsys, "basicsr_train", training, "--force_yml", entry)


def test_a_state_is_resumed_under_the_name_of_its_run(
    run: Run, training: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run("basicsr_train", training)
    state = f"experiments/{training['name']}/training_states/2.state"
    entries = ["name=other", f"path:resume_state={state}"]
    line = line_of(run, capsys, "basicsr_train", training, "--force_yml", *entries)
    assert "net_g_2.pth, got no such file; keep the name" in line


@pytest.mark.parametrize("key", ["val_freq", "save_img"])
def test_a_validation_without_what_it_reads_is_refused_before_the_training(
    run: Run, training: dict[str, Any], capsys: pytest.CaptureFixture[str], key: str
) -> None:
    training["val"] = {"val_freq": 5000, "save_img": False}
    del training["val"][key]
    assert f"expected val.{key}, got none" in line_of(run, capsys, "basicsr_train", training)


def test_options_of_a_test_are_not_trained(
    run: Run, opt: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "tools/basicsr_test.py" in line_of(run, capsys, "basicsr_train", opt)


@pytest.mark.parametrize("launcher", ["pytorch", "slurm"])
def test_a_launcher_that_did_not_start_the_process_is_one_line(
    run: Run,
    opt: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    launcher: str,
) -> None:
    for name in ("RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    line = line_of(run, capsys, "basicsr_test", opt, "--launcher", launcher)
    assert f"--launcher {launcher}: expected" in line
    assert "in the environment" in line


def test_factors_of_basicsrs_networks_may_be_fractions(basicsr: Any) -> None:
    from basicsr.utils.registry import ARCH_REGISTRY

    from srgan_plugin.hosts.basicsr.options import _check_arguments

    edsr = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "res_scale": 0.1}  # of BasicSR's file
    _check_arguments(edsr, ARCH_REGISTRY, "network_g")


def test_weights_in_the_home_folder_are_checked_like_others(
    run: Run,
    opt: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    opt["path"]["pretrain_network_g"] = f"~/{NAME}"
    opt["network_g"]["num_feat"] = 16
    assert "expected weights of num_feat=16" in line_of(run, capsys, "basicsr_test", opt)


def test_a_degradation_that_basicsrs_own_dataset_would_ignore_is_refused(
    run: Run, opt: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    opt["datasets"]["test_1"]["degradation"] = {"clean_ratio": 0.5}
    line = line_of(run, capsys, "basicsr_test", opt)
    assert "datasets.test_1.degradation: expected the type PairedImageDataset_srgan" in line


def test_a_test_of_random_weights_or_crops_warns(run: Run, opt: dict[str, Any]) -> None:
    said = run("basicsr_test", opt)
    assert "WARNING: path" not in said
    assert "WARNING: datasets" not in said
    opt["path"] = {"pretrain_network_g": None}
    crops = {"gt_size": 32, "use_hflip": True, "use_rot": True}
    crops |= {"batch_size_per_gpu": 1, "num_worker_per_gpu": 0}
    opt["datasets"]["train"] = opt["datasets"]["test_1"] | crops
    opt["name"] = "random"
    said = run("basicsr_test", opt)
    assert "WARNING: path.pretrain_network_g: expected a checkpoint" in said
    assert "WARNING: datasets.train: expected test sets" in said


def test_images_without_gt_are_tested_without_metrics(run: Run, opt: dict[str, Any]) -> None:
    lq = opt["datasets"]["test_1"]["dataroot_lq"]
    dataset = {"name": "LQ", "type": "SingleImageDataset", "dataroot_lq": lq}
    opt["datasets"] = {"test_1": {**dataset, "io_backend": {"type": "disk"}}}
    opt["val"] = {"save_img": True, "suffix": "mine"}
    run("basicsr_test", opt)
    (saved,) = Path("results", opt["name"], "visualization/LQ").glob("0000_mine.png")
    lr = cv2.imread(str(Path(lq, "0000.png")))
    assert cv2.imread(str(saved)).shape == (lr.shape[0] * 4, lr.shape[1] * 4, 3)
    assert np.ptp(cv2.imread(str(saved))) > 0


@pytest.mark.parametrize("tool", ["basicsr_test", "basicsr_train"])
def test_the_console_names_the_folder_that_is_written(
    run: Run, training: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    from srgan_plugin.cli import basicsr_console

    described: list[str] = []
    monkeypatch.setattr(basicsr_console, "write_lines", described.extend)
    monkeypatch.setattr(logging.getLogger("basicsr"), "filters", [])
    folder = "results" if tool == "basicsr_test" else "experiments"
    basicsr_console.show_console(training, test=tool == "basicsr_test")
    assert described[-1] == f"log: {folder}/{training['name']}"
    assert any("to iteration" in line for line in described) == (tool == "basicsr_train")
