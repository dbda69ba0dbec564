"""Reading runs: logs of mmengine and BasicSR, configs, checkpoints, results."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from srgan_plugin.errors import MissingFileError, PluginWarning, UserError
from srgan_plugin.reports.charts import charts, find_chart
from srgan_plugin.reports.mmengine_configs import literal_config
from srgan_plugin.reports.run_page import _results_of_runs, unique_names
from srgan_plugin.reports.runs import (
    Run,
    checkpoints,
    differing_settings,
    flatten,
    read_results,
    read_run,
)

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """model = dict(
    generator=dict(type='MSRResNet', mid_channels=64), betas=(0.9, 0.99), ema=None)
train_cfg = dict(max_iters=40)
train_dataloader = dict(batch_size=-4, dataset=dict(gt='<script>alert(1)</script>'))
"""


def write_session(folder: Path, stamp: str, lines: list[dict[str, Any]], log: str = "") -> None:
    data = folder / stamp / "vis_data"
    data.mkdir(parents=True)
    (data / "scalars.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (data / "config.py").write_text(CONFIG)
    (folder / stamp / f"{stamp}.log").write_text(log)


def step(number: int, loss: float, **more: float) -> dict[str, Any]:
    return {"lr": 1e-4, "loss_pix": loss, "time": 0.5, "step": number, "iter": number, **more}


def test_a_resumed_session_replaces_the_points_that_it_repeats(tmp_path: Path) -> None:
    first = [step(n, n / 10) for n in (10, 20, 30)] + [{"Set5/PSNR": 25.0, "step": 30}]
    second = [step(n, n / 100) for n in (30, 40)] + [{"Set5/PSNR": 26.0, "step": 40}]
    write_session(tmp_path, "20260101_100000", first)
    write_session(tmp_path, "20260101_110000", second)
    run = read_run(tmp_path)
    assert run.toolbox == "mmengine"
    assert run.curves["loss_pix"] == {10: 1.0, 20: 2.0, 30: 0.3, 40: 0.4}
    assert run.curves["Set5/PSNR"] == {40: 26.0}
    assert run.curves["it/s"] == dict.fromkeys((10, 20, 30, 40), 2.0)


@pytest.mark.parametrize(("config", "at"), [(CONFIG, (30, 40)), ("x = 1", (28, 38))])
def test_a_validation_that_mmengine_logs_by_epoch_gets_its_iteration(
    tmp_path: Path, config: str, at: tuple[int, int]
) -> None:
    # `log_metric_by_epoch`, mmengine's default: the step of a validation is 0 throughout.
    lines = [step(28, 1.0), {"Set5/PSNR": 25.0, "step": 0}]
    lines += [step(38, 1.0), {"Set5/PSNR": 26.0, "step": 0}]
    write_session(tmp_path, "20260101_100000", lines)
    dumped = config.replace("max_iters=40", "max_iters=40, val_interval=15")
    (tmp_path / "20260101_100000/vis_data/config.py").write_text(dumped)
    assert read_run(tmp_path).curves["Set5/PSNR"] == dict(zip(at, (25.0, 26.0), strict=True))


def session_log(hour: int, code: str, weights: str, resumed: bool) -> str:
    lines = [f"Code: {code}", f"Load checkpoint from {weights}", "val set Set5: 4 images"]
    lines += ["resumed epoch: 0, iter: 10"] if resumed else []
    start, end = f"2026/01/01 {hour}:00:00", f"2026/01/01 {hour}:10:00"
    return "".join(f"{start} - mmengine - INFO - {line}\n" for line in lines) + f"{end} - x\n"


def test_initial_weights_are_those_of_the_first_session(tmp_path: Path) -> None:
    sessions = [("old", "other.pth", False), ("a", "first.pth", False), ("b", "iter_10.pth", True)]
    for hour, (code, weights, resumed) in enumerate(sessions, 10):
        log = session_log(hour, code, weights, resumed)
        write_session(tmp_path, f"20260101_{hour}0000", [step(10 + resumed, 1.0)], log)
    run = read_run(tmp_path)
    # The second session did not resume, so the first one does not count.
    assert run.info["started"] == "2026-01-01 11:00"
    assert run.info["total time"] == "20 min 00 s"
    assert run.info["resumed"] == "2026-01-01 12:00"
    assert run.info["weights at the start"] == "first.pth"
    assert run.info["code"] == "a, then b"
    assert run.image_counts == {"Set5": 4}


def test_a_session_with_only_the_last_validation_continues_the_curve(tmp_path: Path) -> None:
    # Killed after the last checkpoint, during the validation that the next session makes up for.
    write_session(tmp_path, "20260101_100000", [step(30, 1.0), step(40, 2.0)])
    log = session_log(11, "a", "iter_40.pth", False) + (
        "2026/01/01 11:20:00 - mmengine - INFO - resumed epoch: 0, iter: 40\n"
    )
    write_session(tmp_path, "20260101_110000", [{"Set5/PSNR": 26.0, "step": 40}], log)
    run = read_run(tmp_path)
    assert run.curves["Set5/PSNR"] == {40: 26.0}
    assert run.curves["loss_pix"] == {30: 1.0, 40: 2.0}


def test_metrics_of_a_session_that_only_tests_are_not_a_curve(tmp_path: Path) -> None:
    write_session(tmp_path, "20260101_100000", [step(10, 1.0)])
    write_session(tmp_path, "20260101_110000", [{"Set5/PSNR": 26.0, "time": 1.0, "step": 0}])
    assert set(read_run(tmp_path).curves) == {"lr", "loss_pix", "time", "it/s"}


def test_a_truncated_line_is_skipped(tmp_path: Path) -> None:
    write_session(tmp_path, "20260101_100000", [step(10, 1.0)])
    with (tmp_path / "20260101_100000/vis_data/scalars.json").open("a") as file:
        file.write('{"lr": 1e-4, "loss_p')
    run = read_run(tmp_path)
    assert run.curves["loss_pix"] == {10: 1.0}
    assert run.info == {}  # the text log is empty: no time is guessed


@pytest.mark.parametrize(
    ("logged", "percent"),
    [({"waiting": 0.25}, 25), ({"data_wait_fraction": 0.5}, 50), ({"data_time": 0.1}, 20)],
)
def test_waiting_for_data_is_a_percentage_under_every_name_of_the_log_entry(
    tmp_path: Path, logged: dict[str, float], percent: float
) -> None:
    write_session(tmp_path, "20260101_100000", [step(10, 1.0, **logged)])
    assert read_run(tmp_path).curves["waiting for data"] == {10: pytest.approx(percent)}


def test_times_and_environment_are_read_from_the_text_log(tmp_path: Path) -> None:
    log = (
        "2026/01/01 10:00:00 - mmengine - INFO - \n    PyTorch: 2.14.1+cu130\n    seed: 7\n"
        "    GPU 0,2: NVIDIA H100\n    GPU 1: NVIDIA A100\n2026/01/01 11:05:30 - mmengine - INFO - "
        "Code: srgan_plugin 1, commit abc-dirty\n"
    )
    write_session(tmp_path, "20260101_100000", [step(10, 1.0)], log)
    info = read_run(tmp_path).info
    assert info["started"] == "2026-01-01 10:00"
    assert info["total time"] == "1 h 05 min"
    assert (info["torch"], info["seed"]) == ("2.14.1+cu130", "7")
    assert info["code"] == "srgan_plugin 1, commit abc-dirty"
    assert info["GPU"] == "GPU 0,2: NVIDIA H100, GPU 1: NVIDIA A100"


def test_a_dumped_config_is_parsed_without_being_executed(tmp_path: Path) -> None:
    write_session(tmp_path, "20260101_100000", [step(10, 1.0)])
    config = read_run(tmp_path).config
    assert config["model.generator.mid_channels"] == 64
    assert config["model.betas"] == [0.9, 0.99]
    assert config["train_dataloader.batch_size"] == -4
    for code in ("a = open('x', 'w')", "a = dict(b=__import__('os'))", "a = [x for x in 'a']"):
        with pytest.raises(UserError, match=r"c\.py: expected a config"):
            literal_config(code, Path("c.py"))


def test_a_dumped_config_is_parsed_as_mmengine_loads_it() -> None:
    config = pytest.importorskip("mmengine.config").Config
    for path in sorted((ROOT / "configs").glob("*.py")):
        loaded = config.fromfile(path)
        expected = json.loads(json.dumps(loaded.to_dict()))
        assert literal_config(loaded.pretty_text, path) == expected, path


def test_differing_settings_are_named_by_their_paths() -> None:
    a = flatten({"x": {"y": 1, "z": [1, 2]}, "l": [{"t": "A"}], "same": {}})
    b = flatten({"x": {"y": 2, "z": [1, 2]}, "l": [{"t": "A"}, {"t": "B"}], "same": {}})
    assert differing_settings(a, b) == differing_settings(b, a) == {"x.y", "l.1.t"}


BASICSR = """2026-01-01 10:00:00,123 INFO:
\tBasicSR: 1.4.2
  manual_seed: 0
  train:[
    total_iter: 250
  ]
  val:[
    val_freq: 100
  ]
2026-01-01 10:00:00,200 INFO: Number of val images/folders in Set5: 5
2026-01-01 10:00:01,000 INFO: [name..][epoch:  0, iter:      80, lr:(1.000e-04,2.000e-04,)] [eta: 1 day, 2:00:00, time (data): 0.250 (0.050)] l_g_pix: 1.5000e-02 l_g_gan: 3.0000e-03 l_d_real: 6.0e-01 out_d_real: -1.5000e-01 l_d_fake: nan
2026-01-01 10:00:02,000 INFO: Validation Set5
\t # psnr: 24.3000\tBest: 25.0000 @ 50 iter
\t # niqe: 5.1000\tBest: 5.1000 @ 100 iter

2026-01-01 10:02:03,000 INFO: [name..][epoch:  1, iter:   1,240, lr:(5.000e-05,)] [eta: 0:00:00, time (data): 0.500 (0.001)] l_g_pix: 1.0000e-02
2026-01-01 10:02:04,000 INFO: Validation Set5
\t # psnr: 24.5000\tBest: 25.0000 @ 50 iter
"""  # noqa: E501


def test_curves_of_basicsr_are_read_from_its_log(tmp_path: Path) -> None:
    (tmp_path / "train_name_20260101_100000.log").write_text(BASICSR)
    (tmp_path / "opt.yml").write_text(yaml.safe_dump({"network_g": {"type": "MSRResNet"}}))
    run = read_run(tmp_path)
    assert run.toolbox == "BasicSR"
    assert run.curves["loss_pix"] == {80: 0.015, 1240: 0.01}
    assert run.curves["loss_gan"] == {80: 0.003}
    assert run.curves["out_d_real"] == {80: -0.15}
    assert run.curves["lr"] == {80: 1e-4, 1240: 5e-5}
    assert run.curves["lr 2"] == {80: 2e-4}
    assert run.curves["it/s"] == {80: 4.0, 1240: 2.0}
    assert run.curves["waiting for data"][80] == pytest.approx(20)
    # The log does not state the iteration of a validation: every 100th, and the last one.
    assert run.curves["Set5/PSNR"] == {100: 24.3, 250: 24.5}
    assert run.curves["Set5/NIQE"] == {100: 5.1}
    assert run.info["total time"] == "2 min 04 s"
    assert run.image_counts == {"Set5": 5}
    assert run.config == {"network_g.type": "MSRResNet"}


def test_validations_of_basicsr_between_two_logged_steps_have_their_iterations(
    tmp_path: Path,
) -> None:
    options = "  train:[\n    total_iter: 250\n  ]\n  val:[\n    val_freq: 50\n  ]\n"
    lines = ["INFO: Start training from epoch: 0, iter: 0"]
    step = "[name..][epoch:  0, iter:{:8,d}, lr:(1.000e-04,)] [eta: 0:00:00, time (data): 0.250 (0.050)] l_g_pix: {:.4e}"  # noqa: E501
    for at in range(50, 251, 50):  # as `train_pipeline`: print_freq 200, then the validation
        lines += ["INFO: " + step.format(at, at)] if at == 200 else []
        lines += [f"INFO: Validation {name}\n\t # psnr: {at}.0000\n" for name in ("Set5", "Set14")]
    lines += ["INFO: End of training.", "INFO: Validation Set5\n\t # psnr: 250.0000\n"]
    text = options + "".join(f"2026-01-01 10:00:00,000 {line}\n" for line in lines)
    (tmp_path / "train_name_20260101_100000.log").write_text(text)
    curves = read_run(tmp_path).curves
    expected = {at: float(at) for at in (50, 100, 150, 200, 250)}
    assert curves["Set5/PSNR"] == curves["Set14/PSNR"] == expected


def test_a_resumed_basicsr_session_replaces_what_followed_its_checkpoint(tmp_path: Path) -> None:
    step = "2026-01-01 10:00:00,000 INFO: [name..][epoch:  0, iter:{:8,d}, lr:(1.000e-04,)] [eta: 0:00:00, time (data): 0.250 (0.050)] l_g_pix: {:.4e}\n"  # noqa: E501
    start = "2026-01-01 10:00:00,000 INFO: Start training from epoch: 0, iter: {}\n"
    sessions = [(0, (10, 20, 30, 40), 1), (20, (60,), 100), (20, (), 0)]
    for hour, (iteration, steps, value) in enumerate(sessions, 10):
        text = start.format(iteration) + "".join(step.format(at, value) for at in steps)
        (tmp_path / f"train_name_20260101_{hour}0000.log").write_text(text)
    # The third session ended before its first step.
    assert read_run(tmp_path).curves["loss_pix"] == {10: 1, 20: 1, 60: 100}


def test_damaged_options_of_basicsr_are_named_and_the_curves_are_read(tmp_path: Path) -> None:
    (tmp_path / "train_name_20260101_100000.log").write_text(BASICSR)
    (tmp_path / "opt.yml").write_text("a: [1, 2")
    with pytest.warns(PluginWarning, match=r"opt\.yml: expected BasicSR's options in YAML"):
        run = read_run(tmp_path)
    assert run.config == {}
    assert run.curves["loss_pix"] == {80: 0.015, 1240: 0.01}


def test_times_of_a_resumed_basicsr_run_exclude_the_break(tmp_path: Path) -> None:
    for hour in (10, 12):
        text = BASICSR.replace("2026-01-01 10:", f"2026-01-01 {hour}:")
        (tmp_path / f"train_name_20260101_{hour}0000.log").write_text(text)
    info = read_run(tmp_path).info
    assert (info["started"], info["last entry"]) == ("2026-01-01 10:00", "2026-01-01 12:02")
    assert info["total time"] == "4 min 08 s"
    assert info["resumed"] == "2026-01-01 12:00"


def test_the_last_and_the_best_checkpoints_are_hashed(tmp_path: Path) -> None:
    for name in ("iter_900.pth", "iter_1000.pth", "best_PSNR_iter_900.pth"):
        (tmp_path / name).write_bytes(name.encode())
    models = tmp_path / "models"
    models.mkdir()
    for name in ("net_g_5.pth", "net_g_10.pth", "net_d_10.pth", "net_g_latest.pth"):
        (models / name).write_bytes(name.encode())
    found = {name: digest for name, _, digest in checkpoints(tmp_path)}
    assert list(found) == [
        "best_PSNR_iter_900.pth",
        "iter_1000.pth",
        *(f"models/net_{name}.pth" for name in ("d_10", "g_10", "g_latest")),
    ]
    assert found["iter_1000.pth"] == hashlib.sha256(b"iter_1000.pth").hexdigest()


def test_checkpoints_of_a_run_are_found_whatever_its_folder_and_they_are_called(
    tmp_path: Path,
) -> None:
    run = tmp_path / "training_states_x4"
    (run / "training_states").mkdir(parents=True)
    (run / "training_states/5.pth").touch()
    for name in ("iter_9.pth", "iter_10.pth", "msrresnet_x2.pth", "srgan_2.0.pth"):
        (run / name).touch()
    found = [name for name, *_ in checkpoints(run)]
    assert found == ["iter_10.pth", "msrresnet_x2.pth", "srgan_2.0.pth"]


def test_a_single_log_takes_the_files_of_its_run_only(tmp_path: Path) -> None:
    write_session(tmp_path / "run", "20260101_100000", [step(10, 1.0)])
    (tmp_path / "run/test.json").write_text(json.dumps({"Set5": {"PSNR": 30.1}}))
    log = tmp_path / "run/20260101_100000/vis_data/scalars.json"
    run = read_run(log)
    assert (run.folder, run.is_single_log) == (tmp_path / "run", False)
    assert run.tests == {"test": {"Set5": {"PSNR": 30.1}}}
    (tmp_path / "copied.json").write_text(log.read_text())
    alone = read_run(tmp_path / "copied.json")
    assert alone.is_single_log
    assert alone.tests == {}


def test_settings_of_equal_numbers_are_equal_and_truth_is_no_number() -> None:
    nan = float("nan")
    one = {"a": 1, "b": nan, "c": [1], "d": True, "e": "1"}
    other = {"a": 1.0, "b": nan, "c": [1], "d": 1, "e": 1}
    assert differing_settings(one, other) == {"d", "e"}


def test_results_are_read_and_other_json_is_refused(tmp_path: Path) -> None:
    write_session(tmp_path, "20260101_100000", [step(10, 1.0)])
    results = {"Set5": {"PSNR": 30.1, "SSIM": 0.85}}
    (tmp_path / "test.json").write_text(json.dumps(results))
    (tmp_path / "other.json").write_text(json.dumps({"Set5": "x"}))
    assert read_run(tmp_path).tests == {"test": results}
    assert read_results(tmp_path / "test.json") == results
    for name, words in (("other.json", "expected metrics"), ("none.json", "no such file")):
        with pytest.raises(UserError, match=words):
            read_results(tmp_path / name)


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"scalars\.json"):
        read_run(tmp_path)
    with pytest.raises(MissingFileError, match="no such file"):
        read_run(tmp_path / "none")


def test_curves_that_belong_together_share_a_chart(tmp_path: Path) -> None:
    lines = [
        step(n, 0.5, loss_d_real=0.6, loss_d_fake=0.7, out_d_real=0.1, out_d_fake=-0.1)
        for n in range(1, 4000)
    ]
    write_session(tmp_path, "20260101_100000", lines)
    drawn = {chart["title"]: chart for chart in charts([read_run(tmp_path)] * 2)}
    both = drawn["D(real) and D(fake), logits"]["series"]
    assert [(s["run"], s["label"]) for s in both] == [
        (r, w) for r in (0, 1) for w in ("fake", "real")
    ]
    assert {s["mean"] for s in both} == {3}
    assert both[0]["x"][:2] == [3, 6]
    assert both[0]["x"][-1] == 3999
    assert {s["label"] for s in drawn["learning rate"]["series"]} == {
        ""
    }  # only generators have one
    assert find_chart("Set14/SSIM_Y").title == "Set14/SSIM_Y"
    assert (
        find_chart("generator.lr")[:2] == find_chart("discriminator.lr")[:2] == find_chart("lr")[:2]
    )


def test_runs_of_one_name_are_told_apart_by_as_many_folders_as_it_takes() -> None:
    paths = ["/q/a/b/s", "/q/c/b/s", "/q/c/d/s", "/q/other"]
    runs = [Run(name=Path(path).name, folder=Path(path), toolbox="mmengine") for path in paths]
    assert unique_names(runs) == ["a/b/s", "c/b/s", "d/s", "other"]


@pytest.mark.parametrize(("scale", "model"), [(4, "bicubic"), (2, None), (None, "bicubic")])
def test_results_of_another_scale_than_x4_are_not_compared(
    scale: int | None, model: str | None
) -> None:
    config: dict[str, object] = {"reference_model": "bicubic"}
    config |= {"model.generator.upscale_factor": scale} if scale else {}
    run = Run(name="run", folder=Path("run"), toolbox="mmengine", config=config)
    run.tests = {"test": {"Set5": {"PSNR_Y": 33.66}}}
    for reference in ({}, {"": "bicubic"}):
        assert [compared for _, (_, compared) in _results_of_runs([run], reference)] == [model]
