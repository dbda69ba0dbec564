"""The commands as a user types them: what they write, and their errors for wrong input."""

import importlib.util
import json
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from mmengine.utils.dl_utils import collect_env

from srgan_plugin.cli.configs import check_resumable, read_config, require_settings
from srgan_plugin.data.resize import imresize
from srgan_plugin.errors import UserError
from srgan_plugin.networks import MSRResNet
from srgan_plugin.registry import MODELS

ROOT = Path(__file__).resolve().parent.parent
MSRRESNET = str(ROOT / "configs/msrresnet_x4c64b16_g1_1000k_div2k.py")
SRGAN = str(ROOT / "configs/srgan_x4c64b16_g1_1000k_div2k.py")
BICUBIC = str(ROOT / "configs/bicubic_x4.py")
SMALL = (
    "model.generator.mid_channels=8",
    "model.generator.num_blocks=2",
    "train_dataloader.num_workers=0",
    "train_dataloader.pin_memory=False",
    "train_dataloader.batch_size=2",
    "train_dataloader.dataset.pipeline.0.gt_patch_size=64",
    "train_cfg.max_iters=2",
    "train_cfg.val_interval=2",
)


def tool(name: str) -> ModuleType:
    """Import a script of `tools/`."""
    spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pytestmark = pytest.mark.usefixtures("fresh_mmengine")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SRGAN_DEBUG", raising=False)


@pytest.fixture
def data(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SRGAN_DATA", str(photographs))
    return photographs


@pytest.fixture
def fails(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a tool that has to fail: its last line on standard error, and only one `error:`."""

    def run(name: str, *arguments: str, status: int = 1) -> str:
        with pytest.raises(SystemExit) as stop:
            tool(name).main(list(arguments))
        said = capfd.readouterr().err
        assert stop.value.code == status, said
        assert "Traceback" not in said
        last = said.strip().splitlines()[-1]
        assert last.startswith("error: ") or status == 2
        return last

    return run


def test_bicubic_through_the_test_tool_equals_the_resize_measured_by_hand(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tool("test").main([BICUBIC, "none", "--out", "out/b.json", "--save-images", "pictures"])
    results = json.loads(Path("out/b.json").read_text())
    assert set(results) == {"Set5", "Set14"}  # B100 and DIV2K are not there
    errors = []
    for path in sorted((data / "Set5" / "GTmod12").iterdir()):
        gt = cv2.imread(str(path))[4:-4, 4:-4].astype(float)
        lr = cv2.imread(str(data / "Set5/LRbicx4" / path.name))
        sr = np.rint(np.clip(imresize(lr / 255, 4), 0, 1) * 255)
        saved = cv2.imread(f"pictures/Set5/{path.name}")
        assert np.array_equal(saved, sr)
        errors.append(10 * np.log10(255**2 / np.mean((sr[4:-4, 4:-4] - gt) ** 2)))
    assert results["Set5"]["PSNR"] == pytest.approx(np.mean(errors), abs=1e-9)
    said = capfd.readouterr()
    assert "4 pixels" in said.out
    assert "skipped: " in said.out + said.err


def test_the_name_of_a_test_set_that_a_pipeline_changed_has_the_transform_in_the_results(
    data: Path,
) -> None:
    Path("degraded.py").write_text(f"""
_base_ = [{BICUBIC!r}]
pipelines = [[dict(type=name) for name in names] for names in (
    ('LoadPair', 'DegradeLR', 'PackInputs'), ('LoadPair', 'PackInputs'))]
test_dataloader = [dict(
    batch_size=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='BenchmarkDataset', name=name, data_root={str(data)!r}, pipeline=pipeline),
) for name, pipeline in zip(('Set5', 'Set14'), pipelines)]
""")
    tool("test").main(["degraded.py", "none", "--out", "r.json"])
    assert list(json.loads(Path("r.json").read_text())) == ["Set5 (DegradeLR)", "Set14"]


def test_training_validates_keeps_the_best_checkpoint_and_its_result_can_be_tested(
    data: Path,
) -> None:
    options = [*SMALL, f"train_dataloader.dataset.gt={data}/train"]
    tool("train").main([MSRRESNET, "--work-dir", "run", "--cfg-options", *options])
    assert {path.name for path in Path("run").glob("*.pth")} == {
        "iter_2.pth",
        "best_Set5_PSNR_iter_2.pth",
    }
    tool("test").main([MSRRESNET, "run/iter_2.pth", "--out", "r.json", "--cfg-options", *SMALL[:2]])
    scores = json.loads(Path("r.json").read_text())["Set14"]
    assert list(scores) == ["PSNR", "SSIM", "PSNR_Y", "SSIM_Y", "SSIM_B", "images"]
    assert scores["images"] == len(list((data / "Set14/GTmod12").iterdir()))


def test_a_generator_alone_starts_a_gan_without_a_warning_of_its_missing_discriminator(
    data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": MSRResNet(mid_channels=8, num_blocks=2).state_dict()}, "g.pth")
    small = (
        *("model.discriminator.mid_channels=4", "model.discriminator.input_size=64"),
        *("model.perceptual_loss=None", "train_cfg.max_iters=1", "val_cfg=None"),
        *("val_dataloader=None", "val_evaluator=None", "load_from=g.pth"),
    )
    options = [*SMALL, f"train_dataloader.dataset.gt={data}/train", *small]
    tool("train").main([SRGAN, "--work-dir", "run", "--cfg-options", *options])
    said = capfd.readouterr()
    assert "missing keys" not in said.out + said.err
    assert "missing keys" in next(Path("run").glob("*/*.log")).read_text()


@pytest.mark.parametrize(
    ("state", "missing", "resumes", "expected"),
    [
        ("generator.a", "discriminator.a, step_counter", False, True),
        ("generator.a", "discriminator.a", True, False),
        ("generator.a", "discriminator.a, other.a", False, False),
        ("discriminator.b", "discriminator.a", False, False),
    ],
)
def test_only_a_new_run_from_a_generator_alone_may_lack_a_discriminator(
    state: str, missing: str, resumes: bool, expected: bool
) -> None:
    from srgan_plugin.cli.mmengine_console import ConsoleRunner

    runner = object.__new__(ConsoleRunner)
    runner.resumes = resumes
    assert runner._is_start({"state_dict": {state: 0}}, f"{missing}\n") == expected


def test_a_config_that_is_not_there_is_answered_by_those_that_are(
    fails: Callable[..., str],
) -> None:
    assert "msrresnet_x4c64b16_g1_1000k_div2k.py" in fails("train", str(ROOT / "configs/x.py"))


def test_missing_training_data_is_one_line_that_names_the_folders(
    fails: Callable[..., str],
) -> None:
    said = fails("train", MSRRESNET, "--cfg-options", *SMALL)
    assert "DIV2K_train_HR_sub" in said
    assert "SRGAN_DATA" in said


def test_missing_test_sets_are_an_error_when_none_is_left(fails: Callable[..., str]) -> None:
    said = fails("test", BICUBIC, "none")
    assert "Set5" in said
    assert "GTmod12" in said


def test_a_checkpoint_for_a_network_without_weights_is_refused_by_its_name(
    data: Path, fails: Callable[..., str]
) -> None:
    said = fails("test", BICUBIC, "msrresnet")
    assert "'none'" in said
    assert "bicubic_x4.py" in said
    assert "got msrresnet" in said


def test_an_unknown_type_is_answered_by_the_nearest_names_and_the_scope(
    data: Path, fails: Callable[..., str]
) -> None:
    said = fails("test", BICUBIC, "none", "--cfg-options", "model.generator.type=MSResNet")
    assert "'none'" in said
    assert "MSResNet" in said
    torch.save({}, "x.pth")
    said = fails("test", BICUBIC, "x.pth", "--cfg-options", "model.generator.type=MSResNet")
    assert "'MSResNet'" in said
    assert "MSRResNet" in said
    assert "srgan_plugin" in said


def test_a_checkpoint_of_another_size_is_tested_as_what_it_is_and_not_trained_from(
    data: Path, fails: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    state = MSRResNet(mid_channels=16, num_blocks=3).state_dict()
    torch.save({"state_dict": {f"generator.{k}": v for k, v in state.items()}}, "other.pth")
    tool("test").main([MSRRESNET, "other.pth", "--cfg-options", *SMALL[:2]])
    said = capfd.readouterr().err
    assert "MSRResNet x4 (16 features, 3 blocks)" in said
    assert "mid_channels=16, num_blocks=3" in said
    options = [*SMALL, f"train_dataloader.dataset.gt={data}/train", "load_from=other.pth"]
    said = fails("train", MSRRESNET, "--cfg-options", *options)
    assert "MSRResNet x4 (16 features, 3 blocks)" in said
    assert "MSRResNet x4 (8 features, 2 blocks)" in said


def test_a_checkpoint_of_another_scale_is_refused(data: Path, fails: Callable[..., str]) -> None:
    state = MSRResNet(mid_channels=8, num_blocks=2, upscale_factor=2).state_dict()
    torch.save(state, "x2.pth")
    said = fails("test", MSRRESNET, "x2.pth", "--cfg-options", *SMALL[:2])
    assert "x4" in said
    assert "upscale_factor=2" in said


def test_a_checkpoint_of_another_network_is_refused_with_the_config_of_its_scale(
    data: Path, fails: Callable[..., str]
) -> None:
    torch.save(MSRResNet(mid_channels=8, num_blocks=2, upscale_factor=2).state_dict(), "x2.pth")
    said = fails("test", MSRRESNET.replace("msrresnet", "srresnet"), "x2.pth")
    assert "configs/msrresnet_x2c64b16_g1_1000k_div2k.py" in said


def test_weights_of_basicsr_are_tested_with_their_activation_and_not_trained_without(
    data: Path, fails: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    state = MSRResNet(mid_channels=8, num_blocks=2).state_dict()
    renames = {"trunk_net": "body", "upsample1.upsample_conv": "upconv1"}
    renames["upsample2.upsample_conv"] = "upconv2"
    for ours, theirs in renames.items():
        state = {key.replace(ours, theirs): value for key, value in state.items()}
    torch.save({"params": state}, "basicsr.pth")
    options = [*SMALL, f"train_dataloader.dataset.gt={data}/train", "load_from=basicsr.pth"]
    assert "activate_after_shuffle=True" in fails("train", MSRRESNET, "--cfg-options", *options)
    tool("test").main([MSRRESNET, "basicsr.pth", "--cfg-options", *SMALL[:2]])
    assert "activate_after_shuffle=True" in capfd.readouterr().err


def test_a_checkpoint_that_is_not_there_is_one_line(data: Path, fails: Callable[..., str]) -> None:
    assert "no_such.pth" in fails("test", MSRRESNET, "no_such.pth")


def test_a_file_that_is_no_checkpoint_is_one_line(data: Path, fails: Callable[..., str]) -> None:
    Path("bad.pth").write_bytes(b"not a checkpoint")
    assert "bad.pth" in fails("test", MSRRESNET, "bad.pth")


def test_an_image_smaller_than_the_crop_is_named(
    data: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    cv2.imwrite(str(folder / "tiny.png"), np.zeros((40, 200, 3), np.uint8))
    options = [*SMALL, f"train_dataloader.dataset.gt={folder}"]
    said = fails("train", MSRRESNET, "--cfg-options", *options)
    assert "tiny" in said
    assert "40x200" in said
    said = fails("train", MSRRESNET, "--cfg-options", *options, "train_dataloader.num_workers=1")
    assert said.startswith("error: ")
    assert "40x200" in said


def test_a_crop_that_the_scale_does_not_divide_is_one_line(
    data: Path, fails: Callable[..., str]
) -> None:
    options = [*SMALL, f"train_dataloader.dataset.gt={data}/train"]
    options[5] = "train_dataloader.dataset.pipeline.0.gt_patch_size=66"
    said = fails("train", MSRRESNET, "--cfg-options", *options)
    assert "66" in said
    assert "scale 4" in said


def test_a_truncated_image_is_named(data: Path, tmp_path: Path, fails: Callable[..., str]) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(data / "train", folder)
    whole = (folder / "0003.png").read_bytes()
    (folder / "0003.png").write_bytes(whole[: len(whole) // 2])
    options = [*SMALL, f"train_dataloader.dataset.gt={folder}", "train_cfg.max_iters=6"]
    assert "0003.png" in fails("train", MSRRESNET, "--cfg-options", *options)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("model.generator.num_block=3", "MSRResNet 'num_block' num_blocks"),
        ("model.pixel_loss.weight=3", "L1Loss 'weight' loss_weight"),
        ("train_dataloader.dataset.pipeline.1.ratio=.5", "Flip 'ratio'"),
        ("model.pixel_los.type=L1Loss", "SRModel 'pixel_los' pixel_loss"),
        ("train_cfg.val_intervall=9", "SRTrainLoop 'val_intervall' val_interval"),
        ("train_cfg.max_iters=2.5", "SRTrainLoop max_iters int 2.5"),
        ("optim_wrapper.optimizer.beta=1", "Adam 'beta' betas"),
        ("optim_wrapper.optimizer.lr=-1", "Adam lr=-1"),
        ("optim_wrapper.optimizer.lr=1e-3x", "optim_wrapper.optimizer.lr: number '1e-3x'"),
        ("optim_wrapper.optimizer.lr=fast", "Adam lr: number 'fast'"),
        ("optim_wrapper.optimizer.weight_decay=1e-4x", "Adam weight_decay: float '1e-4x'"),
        ("optim_wrapper.optimizer.betas=[0.9,0.99.9]", "betas: number '0.99.9'"),
        ("optim_wrapper.accumulative_counts=0", "OptimWrapper accumulative_counts=0"),
        ("train_dataloader.batch_size=0", "batch_size=0"),
        ("param_scheduler.periods=[1]", "CosineRestartLR periods=[1] restart_weights"),
        ("log_level=LOUD", "LOUD"),
        ("default_hooks.checkpoint.save_best=PSNR", "save_best Set5/PSNR 'PSNR'"),
        ("default_hooks.logger.intervall=1", "LoggerHook 'intervall' interval"),
        ("val_evaluator.border=4", "BenchmarkMetric 'border' crop_border"),
        ("test_dataloader.9.batch_size=2", "test_dataloader.9.batch_size 4 '9'"),
        ("train_dataloader.batch_size.x=2", "train_dataloader.batch_size.x 16 'x'"),
        ("scale=2", "scale print_config.py"),
        ("train_dataloder.batch_size=1", "train_dataloder train_dataloader"),
        ("optim_wrapper.optimizer.betas=[(1,2]", "--cfg-options brackets"),
        ("model.generator._delete_=True", "type model"),
        ("train_dataloader.dataset.pipeline.0.gt_patch_size=-32", "-32"),
        ("train_dataloader.dataset.pipeline.0.gt_patch_size=0", "0"),
    ],
)
def test_a_slip_in_a_setting_is_one_line_that_names_it(
    data: Path, fails: Callable[..., str], option: str, words: str
) -> None:
    options = [*SMALL, f"train_dataloader.dataset.gt={data}/train", "visualizer=None", option]
    said = fails("train", MSRRESNET, "--cfg-options", *options)
    assert [word for word in words.split() if word not in said] == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (None, "custom_imports my_networks_of_a_test PYTHONPATH"),
        ("import no_such_dependency", "custom_imports my_networks_of_a_test no_such_dependency"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_short_line(
    data: Path,
    fails: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str | None,
    words: str,
) -> None:
    if source is not None:
        (tmp_path / "my_networks_of_a_test.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
    config = tmp_path / "own.py"
    text = f"_base_ = {MSRRESNET!r}\ncustom_imports = dict(imports=['my_networks_of_a_test'])\n"
    config.write_text(text)
    said = fails("train", str(config))
    assert [word for word in words.split() if word not in said] == []
    assert ("PYTHONPATH" in said) == (source is None)
    assert "sys.path" not in said
    assert len(said) < 300


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_bug_in_a_network_keeps_its_stack_trace(
    data: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def forward(self: MSRResNet, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("a bug")

    torch.save(MSRResNet(mid_channels=8, num_blocks=2).state_dict(), "x.pth")
    monkeypatch.setattr(MSRResNet, "forward", forward)
    options = [*SMALL, f"train_dataloader.dataset.gt={data}/train", "visualizer=None"]
    checkpoint = ["x.pth"] if name == "test" else []
    with pytest.raises(ValueError, match="a bug"):
        tool(name).main([MSRRESNET, *checkpoint, "--cfg-options", *options])


def test_a_launcher_that_started_nothing_is_one_line(
    fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("SLURM_PROCID", "RANK"):
        monkeypatch.delenv(variable, raising=False)
    assert "SLURM_PROCID" in fails("train", MSRRESNET, "--launcher", "slurm")
    assert "RANK" in fails("train", MSRRESNET, "--launcher", "pytorch")


def test_a_missing_setuptools_is_one_line_with_the_command_that_installs_it(
    data: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distutils", None)  # type: ignore[arg-type]
    monkeypatch.setattr("mmengine.runner.runner.collect_env", collect_env)  # see conftest.py
    options = [*SMALL, f"train_dataloader.dataset.gt={data}/train"]
    said = fails("train", MSRRESNET, "--cfg-options", *options)
    assert "distutils" in said
    assert 'pip install "setuptools<82"' in said


@pytest.mark.slow
def test_workers_that_are_spawned_as_on_windows_and_macos_train_the_same_weights(
    data: Path,
) -> None:
    before = multiprocessing.get_start_method()
    saved = []
    for workers in (0, 1):
        options = [
            *(option for option in SMALL if "num_workers" not in option),
            f"train_dataloader.num_workers={workers}",
            f"train_dataloader.dataset.gt={data}/train",
            "env_cfg.mp_cfg.mp_start_method=spawn",
            "default_hooks.checkpoint.save_best=None",
            "randomness.seed=0",
            *(f"val_{part}=None" for part in ("dataloader", "evaluator", "cfg")),
        ]
        options = [option for option in options if "val_interval" not in option]
        tool("train").main([MSRRESNET, "--work-dir", f"run{workers}", "--cfg-options", *options])
        saved.append(torch.load(f"run{workers}/iter_2.pth", weights_only=False)["state_dict"])
    multiprocessing.set_start_method(before, force=True)
    assert all(torch.equal(weight, saved[1][name]) for name, weight in saved[0].items())


def test_an_error_of_another_cause_keeps_its_stack_trace() -> None:
    @MODELS.register_module(name="BrokenInside", force=True)
    class BrokenInside:
        def __init__(self, size: int) -> None:
            len(size)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="has no len"):
        MODELS.build({"type": "srgan_plugin.BrokenInside", "size": 3})
    with pytest.raises(UserError, match=r"BrokenInside.*'size'"):
        MODELS.build({"type": "srgan_plugin.BrokenInside"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = 1\nmodel = dict(\n", "line 2"),
        ("a = 1\nb = a * wdth\n", "broken.py, line 2: NameError: 'wdth'"),
        (f"_base_ = {MSRRESNET!r}\nx = _base_.modell\n", "modell"),
        ("_base_ = 'srgan_plugin::srgan.py'\n", "broken.py: config 'srgan.py'"),
        ("a = 1\n", "broken.py model"),
        ("model = 3\n", "broken.py model"),
    ],
)
@pytest.mark.parametrize("name", ["train", "test"])
def test_a_broken_config_is_one_line_with_its_place(
    fails: Callable[..., str], name: str, text: str, words: str
) -> None:
    Path("broken.py").write_text(text)
    arguments = ["broken.py"] if name == "train" else ["broken.py", "none"]
    said = fails(name, *arguments)
    assert [word for word in words.split() if word not in said] == []


def test_none_for_a_checkpoint_is_refused_where_the_model_has_no_generator(
    fails: Callable[..., str],
) -> None:
    Path("bare.py").write_text("model = dict(type='SRModel')\n")
    assert "bare.py" in fails("test", "bare.py", "none")


def test_a_config_that_trains_nothing_is_told_from_one_that_does() -> None:
    needed = ("train_dataloader", "train_cfg", "optim_wrapper.optimizer")
    require_settings(read_config(MSRRESNET), *needed, hint="test it")
    with pytest.raises(UserError, match=r"bicubic_x4\.py.*no train_dataloader, train_cfg.*test it"):
        require_settings(read_config(BICUBIC), *needed, hint="test it")


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"weight": torch.ones(2)},
        {"state_dict": {}, "meta": {"epoch": 1}, "optimizer": {}},
        {"state_dict": {}, "meta": {"iter": 300_000}},
        {"state_dict": {}, "meta": {"iter": 300_000}, "optimizer": {}},  # of mmcv 1.x
    ],
)
def test_weights_alone_and_checkpoints_of_mmcv_1_are_not_resumed(
    checkpoint: dict[str, object],
) -> None:
    torch.save(checkpoint, "weights.pth")
    with pytest.raises(ValueError, match=r"weights\.pth .*load_from=weights"):
        check_resumable("weights.pth")


def test_a_training_state_of_basicsr_is_not_resumed_and_the_weights_beside_it_are_named() -> None:
    torch.save({"epoch": 1, "iter": 5000, "optimizers": [], "schedulers": []}, "5000.state")
    with pytest.raises(UserError, match=r"5000\.state.*BasicSR.*models/net_g_5000\.pth"):
        check_resumable("5000.state")


def test_what_a_run_saved_can_be_resumed() -> None:
    saved = {"state_dict": {}, "meta": {"iter": 2}, "optimizer": {}, "message_hub": {}}
    torch.save(saved, "iter_2.pth")
    assert check_resumable("iter_2.pth") == 2
    check_resumable("s3://bucket/iter_2.pth")
    with pytest.raises(FileNotFoundError, match=r"no\.pth"):
        check_resumable("no.pth")


def two_folders(data: Path, *names: str) -> Path:
    """A config that measures two folders, whose datasets have these names."""
    sets = [
        {
            "batch_size": 1,
            "num_workers": 0,
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "dataset": {
                "type": "PairedImageDataset",
                "gt": str(data / folder),
                "metainfo": {"dataset_name": name} if name else {},
                "pipeline": [{"type": "LoadPair"}, {"type": "PackInputs"}],
            },
        }
        for folder, name in zip(("Set5/GTmod12", "train"), names, strict=True)
    ]
    path = Path("two.py")
    path.write_text(f"_base_ = {BICUBIC!r}\ntest_dataloader = {sets!r}\n")
    return path


def test_test_sets_without_a_name_are_called_as_their_folders(data: Path) -> None:
    tool("test").main([str(two_folders(data, "", "")), "none", "--out", "two.json"])
    assert set(json.loads(Path("two.json").read_text())) == {"GTmod12", "train"}


def test_two_test_sets_of_one_name_are_refused(data: Path, fails: Callable[..., str]) -> None:
    said = fails("test", str(two_folders(data, "mine", "mine")), "none")
    assert "'mine'" in said
    assert "dataset_name" in said


def test_a_syntax_error_is_named_with_its_file_also_in_a_base_config(
    fails: Callable[..., str],
) -> None:
    Path("base.py").write_text("model = dict(\n")
    Path("mine.py").write_text("_base_ = './base.py'\n")
    assert "base.py, line 1: '(' was never closed" in fails("train", "mine.py")
    Path("mine.py").write_text("_base_ = './bose.py'\n")
    said = fails("train", "mine.py")
    assert [part for part in ("mine.py: _base_", "bose.py") if part not in said] == []


def test_options_of_basicsr_in_place_of_a_config_are_named(fails: Callable[..., str]) -> None:
    path = ROOT / "configs/basicsr/train_msrresnet_x4.yml"
    assert f"tools/basicsr_train.py -opt {path}" in fails("train", str(path))


def test_arguments_in_the_wrong_order_and_an_out_that_cannot_be_written_are_told_at_once(
    fails: Callable[..., str],
) -> None:
    assert "CONFIG CHECKPOINT" in fails("test", "none", BICUBIC, status=2)
    assert "--out: expected a file" in fails("test", BICUBIC, "none", "--out", ".")
    Path("file").touch()
    for name, arguments in (
        ("test", [BICUBIC, "none"]),
        ("benchmark", ["loader"]),
        ("analysis_tools/analyze_logs", ["plot_curve", "file"]),
    ):
        said = fails(name, *arguments, "--out", "file/out.png")
        assert "--out: expected a folder for out.png, got a file" in said


def test_metrics_that_the_table_has_already_are_refused_before_the_test(
    fails: Callable[..., str],
) -> None:
    assert "--protocol" in fails("test", BICUBIC, "none", "--metric", "NIQE", "SSIM")


def test_an_option_without_a_value_is_one_line(fails: Callable[..., str]) -> None:
    assert "KEY=VALUE" in fails("train", MSRRESNET, "--cfg-options", "model")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("train_dataloader.dataset=3", "train_dataloader.dataset: expected a dict, got 3"),
        ("train_dataloader.sampler=x", "train_dataloader.sampler: expected a dict, got 'x'"),
        ("default_hooks=3", "default_hooks: expected a dict, got 3"),
        ("env_cfg.dist_cfg=3", "env_cfg.dist_cfg: expected a dict, got 3"),
        ("val_dataloader=3", "val_dataloader: expected a dict or a list, got 3"),
        ("custom_hooks=3", "custom_hooks: expected a list or a tuple, got 3"),
        (
            "visualizer.vis_backends=3",
            "visualizer.vis_backends: expected a dict or a list or a tuple, got 3",
        ),
        ("default_hooks.loger.interval=1", "default_hooks.loger: expected a hook with type"),
        ("default_hooks.loger.interval=1", "nearest: logger"),
        ("model.pixel_loss.loss_weight=-1", "error: L1Loss: loss_weight: expected a finite number"),
        ("train_cfg.max_iters=0", "train_cfg.max_iters: expected a number of at least 1, got 0"),
        ("model.generator.upscale_factor=2", "the scale of train_dataloader.dataset, got 2"),
        ("val_dataloader.0.dataset.scale=3", "expected 3, the scale of val_dataloader.0.dataset"),
        ("val_evaluator.0.protocols=y", "expected a list as val_evaluator, got a dict"),
        ("randomness.sed=0", "did you mean 'seed'?"),
    ],
)
def test_a_plain_value_in_place_of_a_section_is_named(
    fails: Callable[..., str], option: str, said: str
) -> None:
    assert said in fails("train", MSRRESNET, "--cfg-options", option)


def test_a_wrong_flag_is_a_usage_error(fails: Callable[..., str]) -> None:
    fails("train", MSRRESNET, "--no-such-flag", status=2)


@pytest.mark.slow
def test_on_a_full_disk_the_old_checkpoint_stays_and_one_line_says_so(
    data: Path, tmp_path: Path
) -> None:
    # A limit on the size of files is the full disk that any user can have.
    code = f"""
import resource, sys
sys.argv = ['train.py', {MSRRESNET!r}, '--work-dir', 'run', '--cfg-options', *{SMALL!r},
            'train_dataloader.dataset.gt={data}/train', 'model.generator.mid_channels=32',
            'train_cfg.max_iters=4', 'default_hooks.checkpoint.interval=2',
            'default_hooks.checkpoint.max_keep_ckpts=1', 'default_hooks.limit.type=Limit']
from mmengine.hooks import Hook
from srgan_plugin.registry import HOOKS

@HOOKS.register_module()
class Limit(Hook):
    priority = 'LOWEST'
    def after_train_iter(self, runner, *_, **__):
        if runner.iter == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

import runpy
runpy.run_path({str(ROOT / "tools/train.py")!r}, run_name='__main__')
"""
    result = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 1, result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "File too large" in last
    assert "iter_4.pth" in last
    kept = {path.name for path in (tmp_path / "run").glob("iter_*.pth")}
    assert kept == {"iter_2.pth"}
    assert torch.load(tmp_path / "run/iter_2.pth", weights_only=False)["meta"]["iter"] == 2


@pytest.mark.parametrize(
    ("amp", "half", "scaled"),
    [
        (["--amp"], torch.bfloat16, False),
        (["--amp", "auto"], None, False),
        (["--amp", "bfloat16"], torch.bfloat16, False),
        (["--amp", "float16"], torch.float16, True),
        ([], None, False),
    ],
)
def test_amp_computes_in_the_precision_that_the_command_line_says(
    data: Path, monkeypatch: pytest.MonkeyPatch, amp: list[str], half: object, scaled: bool
) -> None:
    seen = set()
    forward = MSRResNet.forward

    def watched(self: MSRResNet, x: torch.Tensor) -> torch.Tensor:
        active = torch.is_autocast_enabled("cpu")
        seen.add(torch.get_autocast_dtype("cpu") if active and self.training else None)
        return forward(self, x)

    monkeypatch.setattr(MSRResNet, "forward", watched)
    speedup = 1.0 if amp[1:] == ["auto"] else 2.0
    monkeypatch.setattr("srgan_plugin.inference.precision.bfloat16_speedup", lambda _: speedup)
    options = [*SMALL, f"train_dataloader.dataset.gt={data}/train", "val_dataloader=None"]
    options += ["val_cfg=None", "val_evaluator=None", "visualizer=None"]
    options += ["default_hooks.checkpoint.save_best=None"]
    tool("train").main([MSRRESNET, *amp, "--work-dir", "run", "--cfg-options", *options])
    assert seen == {half}
    state = torch.load("run/iter_2.pth", weights_only=False)
    assert ("scale" in state["optimizer"].get("loss_scaler", {})) == scaled
    assert {value.dtype for value in state["state_dict"].values()} == {torch.float32}


def test_a_config_that_trains_nothing_and_weights_to_resume_are_one_line_each(
    data: Path, fails: Callable[..., str]
) -> None:
    for amp in ((), ("--amp",)):
        said = fails("train", BICUBIC, *amp)
        assert "bicubic_x4.py" in said
        assert "train_dataloader" in said
    torch.save({"state_dict": {}}, "weights.pth")
    options = [*SMALL, f"train_dataloader.dataset.gt={data}/train"]
    said = fails("train", MSRRESNET, "--resume", "weights.pth", "--cfg-options", *options)
    assert "load_from" in said


def test_a_setting_without_its_section_is_answered_by_the_names_that_end_in_it(
    fails: Callable[..., str],
) -> None:
    said = fails("train", MSRRESNET, "--cfg-options", "max_iters=3")
    assert "max_iters" in said
    assert "nearest: train_cfg.max_iters" in said


def test_a_scale_of_a_dataset_of_another_package_is_not_compared(tmp_path: Path) -> None:
    from srgan_plugin.cli.configs import _check_scales
    from srgan_plugin.hosts.mmengine.datasets.paired_datasets import PairedImageDataset

    model = {"generator": {"type": "MSRResNet", "upscale_factor": 4}}
    foreign = {"type": "my.Dataset", "scale": (256, 256)}
    _check_scales({"model": model, "train_dataloader": {"dataset": foreign}})
    _check_scales({"model": model, "val_dataloader": {"dataset": [1, 2]}})
    for kind in (PairedImageDataset, "srgan_plugin.PairedImageDataset"):
        own = {"type": kind, "scale": 2}
        with pytest.raises(UserError, match="upscale_factor: expected 2"):
            _check_scales({"model": model, "train_dataloader": {"dataset": own}})
