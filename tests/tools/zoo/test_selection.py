"""The checkpoint that ships, chosen on made logs and networks."""

import json

import numpy as np
import pytest
import torch
from zoo import selection
from zoo.selection import best_by_niqe, best_by_psnr, read_log
from zoo.training_summary import curves, validations

from srgan_plugin.data.benchmark_sets import find_benchmark
from srgan_plugin.inference import Upscaler, open_model
from srgan_plugin.io.writers import write_image
from srgan_plugin.metrics import Scorer, evaluate
from srgan_plugin.networks import MSRResNet


def write_log(run, name, lines):
    (run / name / "vis_data").mkdir(parents=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run / name / "vis_data" / "scalars.json").write_text(text)


def step(iteration, loss, time=0.5):
    return {"loss": loss, "loss_pix": loss, "time": time, "step": iteration}


def test_the_log_of_a_resumed_run_is_that_of_an_undisturbed_one(tmp_path):
    scores = {"HeldOut/PSNR": 27.5, "HeldOut/SSIM": 0.8, "time": 3.0, "step": 200}
    write_log(tmp_path, "20260101_000000", [step(100, 3.0), step(200, 9.0), step(300, 9.0)])
    write_log(tmp_path, "20260101_010000", [step(200, 2.0), scores, step(300, 1.0, time=40.0)])
    log = read_log(tmp_path)
    drawn = curves(log, validations(log))
    assert drawn["loss_pix"] == [(100, 3.0), (200, 2.0), (300, 1.0)]
    assert drawn["held-out PSNR"] == [(200, 27.5)]
    assert log.seconds == 0.5  # a pause does not count


def test_a_go_on_a_faster_machine_counts_with_its_own_time(tmp_path):
    slow = [step(n, 1.0, time=0.4) for n in range(100, 5000, 100)]
    fast = [step(n, 1.0, time=0.1) for n in range(5000, 10001, 100)]
    fast[20]["time"] = 90.0
    write_log(tmp_path, "20260101_000000", slow)
    write_log(tmp_path, "20260102_000000", fast)
    assert read_log(tmp_path).seconds == pytest.approx((49 * 0.4 + 51 * 0.1) / 100, rel=0.01)


def test_steps_of_two_networks_are_told_from_validations(tmp_path):
    line = {"generator.lr": 1e-4, "loss_gan": 0.1, "loss_d_real": 0.7, "time": 0.5, "step": 10}
    write_log(tmp_path, "20260101_000000", [line, {"HeldOut/PSNR": 27.5, "time": 3.0, "step": 10}])
    log = read_log(tmp_path)
    assert (list(log.steps), list(log.held_out), log.seconds) == ([10], [10], 0.5)


def test_a_run_without_a_log_or_a_validation_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"scalars\.json"):
        read_log(tmp_path)
    with pytest.raises(FileNotFoundError, match="best_"):
        best_by_psnr(tmp_path, tmp_path / "iter_9.pth", None)
    with pytest.raises(FileNotFoundError, match="iter_"):
        best_by_niqe(tmp_path, None, print)


def test_of_a_validated_run_the_best_checkpoint_is_the_one_that_mmengine_kept(tmp_path):
    for name in ("iter_9000.pth", "best_HeldOut_PSNR_iter_800.pth", "iter_10000.pth"):
        (tmp_path / name).touch()
    log = tmp_path / "1/vis_data/scalars.json"
    log.parent.mkdir(parents=True)
    log.write_text('{"HeldOut/PSNR": 20.0, "step": 10000}\n{"HeldOut/PS')  # cut short by a kill
    best = best_by_psnr(tmp_path, tmp_path / "iter_10000.pth", None)
    assert best.name == "best_HeldOut_PSNR_iter_800.pth"


@pytest.mark.parametrize(
    ("psnr", "better"), [(31.0, "iter_10000.pth"), (29.0, "best_x_iter_8.pth")]
)
def test_a_last_checkpoint_that_was_killed_before_its_validation_is_measured(
    tmp_path, monkeypatch, psnr, better
):
    for name in ("best_x_iter_8.pth", "iter_10000.pth"):
        (tmp_path / name).touch()
    log = tmp_path / "1/vis_data/scalars.json"
    log.parent.mkdir(parents=True)
    log.write_text('{"HeldOut/PSNR": 30.0, "step": 8}\n')
    measured = {"best_x_iter_8.pth": 30.0, "iter_10000.pth": psnr}
    monkeypatch.setattr(selection, "_scores", lambda path, _: {"PSNR": measured[path.name]})
    assert best_by_psnr(tmp_path, tmp_path / "iter_10000.pth", None).name == better


def test_the_checkpoint_of_the_lowest_niqe_is_chosen_and_measured_once(
    tmp_path, textured, monkeypatch, calculate_niqe
):
    for n in range(2):
        write_image(tmp_path / f"data/HeldOut/{n}.png", textured(216, 216, seed=n))
    held_out = find_benchmark("HeldOut", tmp_path / "data")
    for iteration in (500, 1000, 1500):
        torch.manual_seed(iteration)
        state = MSRResNet(mid_channels=4, num_blocks=1).state_dict()
        noisy = {k: w + 0.1 * torch.randn_like(w) for k, w in state.items()}
        torch.save({"state_dict": noisy}, tmp_path / f"iter_{iteration}.pth")
    models_read, read = [], selection.pristine_model
    monkeypatch.setattr(selection, "pristine_model", lambda: models_read.append(1) or read())
    chosen, measures = best_by_niqe(tmp_path, held_out, lambda line: None)
    by_hand = {}
    for iteration in measures:
        upscale = Upscaler(open_model(str(tmp_path / f"iter_{iteration}.pth")))
        images = [upscale(np.asarray(held_out.pairs[n].lr)) for n in range(2)]
        by_hand[iteration] = np.mean([calculate_niqe(sr[..., ::-1], 4) for sr in images])
        psnr = evaluate(upscale, held_out, Scorer(border=4))["PSNR"]
        assert measures[iteration] == pytest.approx({"PSNR": psnr, "NIQE": by_hand[iteration]})
    assert len(models_read) == len(measures)  # once for a checkpoint, not for each image
    assert chosen.name == f"iter_{min(by_hand, key=by_hand.get)}.pth"
    monkeypatch.setattr(selection, "_scores", None)
    assert best_by_niqe(tmp_path, held_out, lambda line: None)[0] == chosen
