"""BasicSR's training and test with our parts, by our tools, on small pictures."""

import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from basicsr_runs import Run, options
from same_state import differences

from srgan_plugin.checkpoints import identify, load_checkpoint_file
from srgan_plugin.data.degradation import check_degradation, degrade
from srgan_plugin.data.prepare.stores import create_store
from srgan_plugin.data.sampling import draw_sample_index
from tests.conftest import ROOT


def weights(opt: dict[str, Any], iteration: int | str = "latest") -> dict[str, torch.Tensor]:
    path = Path("experiments", opt["name"], "models", f"net_g_{iteration}.pth")
    loaded: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["params"]
    return loaded


def without_suffix(opt: Any) -> Any:
    """The options as BasicSR alone has them."""
    if isinstance(opt, dict):
        return {key: without_suffix(value) for key, value in opt.items() if key != "pretrained"}
    return opt.removesuffix("_srgan_plugin") if isinstance(opt, str) else opt


def test_srgan_trains_on_a_store_and_basicsrs_own_class_loads_the_result(
    run: Run, photographs: Path, random_vgg: Path, tmp_path: Path
) -> None:
    from basicsr.archs.srresnet_arch import MSRResNet

    create_store(photographs / "train", tmp_path / "store", layout="raw", workers=1)
    opt = options("train_srgan_x4.yml", photographs)
    opt["datasets"]["train"]["dataroot_gt"] = str(tmp_path / "store")
    opt["train"]["perceptual_opt"]["pretrained"] = str(random_vgg)
    said = run("basicsr_train", opt)
    for name in ("l_g_pix", "l_g_percep", "l_g_gan", "l_d_real", "l_d_fake", "psnr"):
        assert f"{name}: " in said
    MSRResNet(num_feat=8, num_block=1).load_state_dict(weights(opt))
    left = sorted(p.name for p in Path("experiments", opt["name"]).iterdir() if p.is_dir())
    assert left == ["models", "training_states", "visualization"]


def test_a_checkpoint_that_was_cut_short_does_not_get_its_name(
    run: Run, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = torch.save

    def full(state: Any, path: str, **kwargs: Any) -> None:
        whole(state, path, **kwargs)
        if path.endswith("4.state"):
            Path(path).write_bytes(Path(path).read_bytes()[:1000])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr("time.sleep", lambda _: None)
    opt = options("train_msrresnet_x4.yml", photographs)
    with pytest.raises(SystemExit):
        run("basicsr_train", opt)
    states = Path("experiments", opt["name"], "training_states")
    assert [path.name for path in states.iterdir()] == ["2.state"]


@pytest.mark.parametrize("name", ["4.state", "net_g_4.pth"])
def test_a_file_that_could_not_be_saved_at_all_is_an_error(
    run: Run,
    photographs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    whole = torch.save

    def forbidden(state: Any, path: str, **kwargs: Any) -> None:
        if path.endswith(name):
            raise PermissionError(13, "Permission denied")
        whole(state, path, **kwargs)

    monkeypatch.setattr(torch, "save", forbidden)
    monkeypatch.setattr("time.sleep", lambda _: None)
    opt = options("train_msrresnet_x4.yml", photographs)
    with pytest.raises(SystemExit):
        run("basicsr_train", opt)
    assert f"{name}: expected a complete checkpoint" in capsys.readouterr().err
    saved = Path("experiments", opt["name"])
    assert [path.name for path in (saved / "training_states").iterdir()] == ["2.state"]
    assert [path.name for path in (saved / "models").iterdir()] == ["net_g_2.pth"]


def test_validation_crops_gt_as_basicsr_does_and_names_results_apart(
    basicsr: ModuleType, tmp_path: Path
) -> None:
    from srgan_plugin.hosts.basicsr.data import PairedImageDataset

    for key in ("a/photo.1", "a/photo.2"):
        (tmp_path / "gt" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lr" / key).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / f"gt/{key}.png"), np.zeros((27, 34, 3), np.uint8))
        cv2.imwrite(str(tmp_path / f"lr/{key}.png"), np.zeros((6, 8, 3), np.uint8))
    opt = {"dataroot_gt": tmp_path / "gt", "dataroot_lq": tmp_path / "lr", "scale": 4}
    samples = [PairedImageDataset({**opt, "phase": "val"})[i] for i in range(2)]
    assert samples[0]["gt"].shape == (3, 24, 32)
    assert [s["lq_path"] for s in samples] == ["a_photo.1.png", "a_photo.2.png"]
    with pytest.raises(ValueError, match="expected 4 times"):
        PairedImageDataset({**opt, "phase": "train", "gt_size": 8})[0]


def test_degraded_lr_has_the_same_gt_crops_and_a_wrong_range_is_named(
    basicsr: ModuleType, photographs: Path
) -> None:
    from srgan_plugin.hosts.basicsr.data import PairedImageDataset

    opt = {"dataroot_gt": str(photographs / "train"), "phase": "train", "scale": 4, "gt_size": 32}
    degradation = {"noise_sigma": [4, 4], "clean_ratio": 0}
    samples = []
    for more in ({}, {"degradation": degradation}):
        torch.manual_seed(0)  # from which the numbers of the sample are drawn
        samples.append(PairedImageDataset({**opt, **more})[0])
    plain, degraded = samples
    assert torch.equal(plain["gt"], degraded["gt"])
    torch.manual_seed(0)
    lr = (plain["lq"] * 255).round().byte().permute(1, 2, 0).numpy()
    expected = degrade(lr, check_degradation(degradation), draw_sample_index())
    assert ((degraded["lq"] * 255).round().byte().permute(1, 2, 0).numpy() == expected).all()
    assert (expected != lr).any()
    validation = {**opt, "phase": "val", "degradation": degradation}
    twice = [PairedImageDataset(validation)[1]["lq"] for _ in range(2)]
    assert torch.equal(*twice)
    assert not torch.equal(twice[0], PairedImageDataset({**opt, "phase": "val"})[1]["lq"])
    with pytest.raises(ValueError, match="degradation: noise_sigma: expected"):
        PairedImageDataset({**opt, "degradation": {"noise_sigma": 4}})


@pytest.mark.slow
def test_basicsrs_own_options_train_and_resume_with_only_types_and_roots_changed(
    run: Run, photographs: Path, random_vgg: Path, tmp_path: Path
) -> None:
    """Pictures as large as the crop and no flips: both train the same weights from one start."""
    for folder, size in (("gt", 128), ("lq", 32)):
        (tmp_path / folder).mkdir()
        for i in range(4):
            image = np.random.default_rng(i).integers(0, 256, (size, size, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / folder / f"{i}.png"), image)
    ours = options("train_srgan_x4.yml", photographs)
    ours["train"]["perceptual_opt"]["layer_weights"] = {"conv2_2": 1}
    ours["network_d"]["input_size"] = 128
    data = {"gt_size": 128, "use_hflip": False, "use_rot": False, "io_backend": {"type": "disk"}}
    roots = {f"dataroot_{kind}": str(tmp_path / kind) for kind in ("gt", "lq")}
    ours["datasets"]["train"] |= {**data, **roots, "filename_tmpl": "{}"}
    # BasicSR takes a folder in the order of the file system.
    Path("list.txt").write_text("".join(f"{i}.png (128,128,3)\n" for i in range(4)))
    ours["datasets"]["train"]["meta_info_file"] = "list.txt"
    ours["datasets"]["val"]["io_backend"] = {"type": "disk"}
    theirs = without_suffix(ours)
    run("basicsr_train", {**theirs, "name": "start", "train": {**theirs["train"], "total_iter": 0}})
    for opt in (ours, theirs):
        for kind in "gd":
            start = Path("experiments/start/models", f"net_{kind}_latest.pth").resolve()
            opt["path"][f"pretrain_network_{kind}"] = str(start)
    ours["train"]["perceptual_opt"]["pretrained"] = str(random_vgg)
    results = []
    for name, opt in (("theirs", theirs), ("ours", ours)):
        run("basicsr_train", {**opt, "name": name})
        results.append(weights({"name": name}))
    assert any(
        not torch.equal(results[0][key], value) for key, value in weights({"name": "start"}).items()
    )
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value, rtol=0, atol=1e-5)
    # The state of BasicSR alone continues after the suffix was added.
    shutil.copytree("experiments/theirs", "experiments/suffix_added")
    for name, opt in (("theirs", theirs), ("suffix_added", ours)):
        longer = {**opt, "name": name, "train": {**opt["train"], "total_iter": 6}}
        said = run("basicsr_train", longer, "--auto_resume")
        assert re.search(r"Resuming training from epoch: \d, iter: 4\.", said)
    for key, value in weights({"name": "theirs"}).items():
        added = weights({"name": "suffix_added"})[key]
        torch.testing.assert_close(added, value, rtol=0, atol=1e-5)
    assert not torch.equal(value, results[0][key])


def test_the_relativistic_loss_is_a_model_of_basicsr_and_curves_go_to_tensorboard(
    run: Run, photographs: Path, random_vgg: Path
) -> None:
    pytest.importorskip("tensorboard")
    opt = options("train_srgan_x4.yml", photographs, total_iter=2)
    opt["train"]["perceptual_opt"] |= {
        "pretrained": str(random_vgg),
        "layer_weights": {"conv2_2": 1},
    }
    opt |= {"model_type": "ESRGANModel", "logger": {**opt["logger"], "use_tb_logger": True}}
    assert "l_g_gan: " in run("basicsr_train", opt)
    assert list(Path("tb_logger", opt["name"]).glob("events*"))


def test_auto_resume_goes_on_from_the_newest_state_without_a_gpu(
    run: Run, photographs: Path
) -> None:
    opt = options("train_msrresnet_x4.yml", photographs, total_iter=2)
    run("basicsr_train", opt)
    words = ["--auto_resume", "--force_yml", "train:total_iter=4"]
    said = run("basicsr_train", opt, *words)
    assert "Resuming training from epoch: 0, iter: 2" in said
    assert Path("experiments", opt["name"], "models", "net_g_4.pth").is_file()
    changed = [not torch.equal(weights(opt, 2)[key], w) for key, w in weights(opt, 4).items()]
    assert any(changed)


def test_a_schedule_of_basicsr_is_the_same_after_two_resumes_before_its_milestones(
    run: Run, photographs: Path
) -> None:
    scheduler = {"type": "MultiStepLR", "milestones": [5, 5, 7], "gamma": 0.5}

    def train(name: str, *lengths: int) -> Any:
        for length in lengths:
            opt = options(
                "train_msrresnet_x4.yml", photographs, total_iter=length, scheduler=scheduler
            )
            run("basicsr_train", opt | {"name": name}, "--auto_resume")
        path = Path("experiments", name, "training_states", f"{lengths[-1]}.state")
        state = torch.load(path, weights_only=False)
        return [state["schedulers"], [o["param_groups"] for o in state["optimizers"]]]

    assert differences(train("whole", 8), train("resumed", 2, 4, 8)) == []


def test_the_test_tool_measures_what_ours_measures(run: Run, photographs: Path) -> None:
    from srgan_plugin.data.benchmark_sets import find_benchmark
    from srgan_plugin.metrics import Scorer, evaluate
    from srgan_plugin.networks import MSRResNet

    network = MSRResNet(mid_channels=8, num_blocks=1, activate_after_shuffle=True)
    torch.save({"params": network.state_dict()}, "small.pth")
    opt = options("test_msrresnet_x4.yml", photographs)
    for key, name in (("test_1", "Set5"), ("test_2", "Set14")):
        opt["datasets"][key] |= {
            "dataroot_gt": str(photographs / name / "GTmod12"),
            "dataroot_lq": str(photographs / name / "LRbicx4"),
        }
    opt["network_g"]["activate_after_shuffle"] = True  # the file has MMagic's keys, which mean none
    said = run("basicsr_test", opt, "--force_yml", "path:pretrain_network_g=small.pth")

    @torch.no_grad()
    def upscale(lr: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(lr).permute(2, 0, 1)[None] / 255
        return network(batch)[0].permute(1, 2, 0).numpy()

    for name in ("Set5", "Set14"):
        scores = evaluate(upscale, find_benchmark(name, photographs, 4), Scorer())
        section = said.split(f"Validation {name}\n")[1]
        assert f"# psnr: {scores['PSNR']:.4f}" in section
        assert f"# ssim: {scores['SSIM']:.4f}" in section


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_typ": "SRModel"}, "model_typ: expected a known .*; nearest: model_type"),
        ({"model_type": "SRGANModle"}, "got 'SRGANModle'; nearest: SRGANModel"),
        ({"train": {"ema_decai": 0.9}}, "train.ema_decai: .*; nearest: ema_decay"),
        ({"datasets": {"train": {"gt_szie": 1}}}, "datasets.train.gt_szie: .*nearest: gt_size"),
        (
            {"network_g": {"num_feats": 8}},
            r"network_g.num_feats: .*of MSRResNet_srgan_plugin \(num_",
        ),
        ({"train": {"pixel_opt": {"wieght": 8}}}, r"train.pixel_opt.wieght: .*\(loss_weight"),
        (
            {"train": {"pixel_opt": {"type": "PSNRLoss_srgan_plugin", "eps": -1}}},
            "train.pixel_opt: eps: expected a finite number",
        ),
        ({"train": {"pixel_opt": {"type": "PSNRLoss"}}}, "nearest: PSNRLoss_srgan_plugin$"),
        (
            {"datasets": {"train": {"degradation": {"noise": [0, 4]}}}},
            "datasets.train.degradation: noise: expected one of blur_sigma, noise_sigma",
        ),
        (
            {"datasets": {"train": {"degradation": {"jpeg_quality": [40.5, 95]}}}},
            "datasets.train.degradation: jpeg_quality: expected",
        ),
        (
            {"train": {"optim_g": {"type": "SOAP"}}},
            "train.optim_g.type: .*Adam, got 'SOAP'; SOAP is for mmengine",
        ),
        ({"train": {"optim_g": {"weight_decai": 0}}}, "train.optim_g: .* of Adam: .*weight_decai"),
        ({"num_gpu": ...}, "options: expected num_gpu, got none"),
        ({"scale": ...}, "options: expected scale, got none"),
        ({"datasets": {"train": {"gt_size": ...}}}, r"expected datasets\.train\.gt_size, got none"),
        ({"datasets": {"train": None}}, "datasets.train: expected options by name, got None"),
        *[
            ({section: {key: value}}, rf"{section}\.{key}: expected {kind}, got")
            for section, key, value, kind in (
                ("network_g", "num_feat", "64", "a whole number"),
                ("network_g", "num_block", 1.5, "a whole number"),
                ("path", "pretrain_network_g", 3, "text"),
                ("train", "optim_g", 3, "options by name"),
                ("train", "total_iter", "many", "a number"),
                ("val", "metrics", 3, "options by name"),
                ("logger", "print_freq", "x", "a number above 0"),
            )
        ],
        ({"path": None}, "path: expected options by name, got None"),
        ({"train": {"optim_g": {"lr": "1e-4"}}}, r"lr: expected a number, got '1e-4'.*1\.0e-4"),
        ({"train": {"optim_g": {"betas": 3}}}, r"optim_g\.betas: expected two numbers.*got 3"),
        ({"train": {"optim_g": {"betas": [0.9, 1]}}}, r"betas: expected two numbers.*below 1, got"),
        ({"num_gpu": -1}, "num_gpu: expected a whole number from 0, or auto, got -1"),
        ({"scale": 0}, "scale: expected a whole number from 1, got 0"),
        ({"datasets": {"train": {"batch_size_per_gpu": 0}}}, r"gpu: expected .* from 1, got 0"),
        ({"datasets": {"train": {"num_worker_per_gpu": -2}}}, r"gpu: expected .* from 0, got -2"),
        ({"train": {"scheduler": {"type": ...}}}, r"expected train\.scheduler\.type"),
        ({"train": {"scheduler": {"periods": [1, 0, 0, 0]}}}, r"periods: expected at least train"),
        ({"network_g": {"type": ...}}, "network_g: expected a class by its type, got none"),
        ({"val": {"metrics": {"psnr": {"type": "psnrr"}}}}, r"val\.metrics\.psnr: .*'psnrr'"),
        ({"logger": ...}, r"expected logger\.print_freq, logger\.save"),
        ({"datasets": {"train": {"color": "y"}}}, "color: .*got y"),
        (
            {"datasets": {"train": {"dataroot_gt": "nowhere"}}},
            "nowhere: expected a folder or store of images",
        ),
    ],
)
def test_a_slip_in_the_options_is_answered_by_one_line_that_names_it(
    run: Run,
    photographs: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    message: str,
) -> None:
    def merge(into: dict[str, Any], given: dict[str, Any]) -> None:
        for key, value in given.items():
            if value is ...:
                del into[key]
            elif isinstance(value, dict):
                merge(into.setdefault(key, {}), value)
            else:
                into[key] = value

    opt = options("train_msrresnet_x4.yml", photographs)
    merge(opt, change)
    with pytest.raises(SystemExit) as end:
        run("basicsr_train", opt)
    assert end.value.code == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert re.search(message, line)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-opt", "missing.yml"], "missing.yml: expected a file with options"),
        (
            ["--force_yml", "trian:total_iter=4"],
            "'trian:total_iter=4'",
        ),
        (["--force_yml", "train:totl_iter=4"], "got 'totl_iter'; nearest: total_iter"),
    ],
)
def test_a_slip_on_the_command_line_is_answered_by_one_line(
    run: Run,
    photographs: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    with pytest.raises(SystemExit):
        run("basicsr_train", options("train_msrresnet_x4.yml", photographs), *words)
    assert message in capsys.readouterr().err


def test_options_that_a_test_needs_are_asked_for_in_one_line(
    run: Run, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opt = options("train_msrresnet_x4.yml", photographs)
    for val, key in (({}, "save_img"), ({"save_img": True}, "suffix")):
        opt["val"] = val
        with pytest.raises(SystemExit):
            run("basicsr_test", opt)
        assert f"expected val.{key}" in capsys.readouterr().err


def test_weights_of_another_layout_are_answered_by_one_line(
    run: Run, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opt = options("train_msrresnet_x4.yml", photographs)
    for location in ("srgan_plugin/checkpoints/weights/msrresnet.safetensors", "bare.pth"):
        path = ROOT / location
        if location == "bare.pth":
            path = Path(location).resolve()
            torch.save({"state_dict": {"conv_first.weight": torch.zeros(64, 3, 3, 3)}}, path)
        with pytest.raises(SystemExit):
            run("basicsr_train", opt, "--force_yml", f"path:pretrain_network_g={path}")
        (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
        assert "expected BasicSR's own layout" in line or "expected weights of" in line
        assert f"path.pretrain_network_g: {path}: " in line


NAME = "activate_after_shuffle"


def test_weights_of_another_function_are_answered_by_one_line(
    run: Run, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from srgan_plugin.checkpoints.convert import convert
    from srgan_plugin.inference import open_model

    weights = Path("weights.pth")  # without the record of the function that bundled weights have
    torch.save(open_model("msrresnet").state_dict(), weights)
    opt = options("test_msrresnet_x4.yml", photographs)
    words = ["path:pretrain_network_g=m.pth", "path:param_key_g=state_dict"]
    for arch_options, said in (
        ({}, "keys are MMagic's"),
        ({NAME: False}, f"expected weights trained with {NAME}=True"),
    ):
        convert(weights, "m.pth", to="plugin", arguments=arch_options)
        with pytest.raises(SystemExit):
            run("basicsr_test", opt, "--force_yml", *words)
        error = capsys.readouterr().err
        assert said in error
        assert "m.pth" in error
        assert f"set network_g.{NAME}" in error


def test_without_the_activation_a_checkpoint_is_not_basicsrs(
    basicsr: ModuleType,
) -> None:
    from srgan_plugin.checkpoints import identify
    from srgan_plugin.hosts.basicsr.archs import MSRResNet

    network = MSRResNet(num_feat=8, num_block=1, activate_after_shuffle=False)
    state = network.state_dict()
    found = identify({"params": state})
    assert found.arguments.get("activate_after_shuffle", False) is False
    network.load_state_dict(state, strict=True)


@pytest.mark.parametrize("scale", [2, 3])
def test_the_recipes_of_other_scales_train(run: Run, photographs: Path, scale: int) -> None:
    opt = options(f"train_msrresnet_x{scale}.yml", photographs, total_iter=1)
    opt["datasets"]["train"]["gt_size"] = 16 * scale
    del opt["val"], opt["datasets"]["val"]
    run("basicsr_train", opt)
    found = identify(load_checkpoint_file(f"experiments/{opt['name']}/models/net_g_latest.pth"))
    assert found.arguments["upscale_factor"] == scale
