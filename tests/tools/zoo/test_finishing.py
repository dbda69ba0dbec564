"""Finished generators: the best of start, end and mean; interpolation, and mean colours of GT."""

import numpy as np
import pytest
import torch
from zoo import finishing
from zoo.finishing import add_detail, best_of_means, finish

from srgan_plugin.checkpoints.convert import convert
from srgan_plugin.data.benchmark_sets import Benchmark, find_benchmark
from srgan_plugin.data.pairs import ImagePairs
from srgan_plugin.inference import Upscaler, open_model
from srgan_plugin.io.download import sha256
from srgan_plugin.io.writers import write_image
from srgan_plugin.networks import MSRResNet


@pytest.fixture
def folder(tmp_path, textured, monkeypatch):
    """Photographs, a start, and a checkpoint that differs from it by noise and a shift."""
    monkeypatch.setattr(finishing, "PHOTOGRAPHS", 2)
    for n in range(3):
        write_image(tmp_path / f"photographs/{n}.png", textured(216, 216, seed=n) // 2 + 64)
    torch.manual_seed(0)
    network = MSRResNet(mid_channels=16, num_blocks=1)
    torch.save({"params": network.state_dict()}, tmp_path / "m.pth")
    convert(tmp_path / "m.pth", tmp_path / "start.safetensors", to="plugin")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
        network.conv_last.bias += torch.tensor([8.0, -4.0, 2.0]) / 255
        network.upsample1.upsample_conv.bias += 0.1 * torch.randn(64)
        network.upsample2.upsample_conv.bias += 0.1 * torch.randn(64)
    averaged = {f"generator_ema.module.{k}": v for k, v in network.state_dict().items()}
    other = {f"generator.{k}": torch.zeros_like(v) for k, v in network.state_dict().items()}
    torch.save({"state_dict": other | averaged}, tmp_path / "iter_1.pth")
    return tmp_path


def mean_differences(network, pairs, indices=(0, 2)):
    """Mean of SR minus GT at each of the 4x4 pixels of an LR pixel, (4, 4, 3)."""
    upscale = Upscaler(network)
    differences = [upscale(np.asarray(pairs[n].lr)).astype(float) - pairs[n].gt for n in indices]
    return np.array(
        [
            [np.mean([d[i::4, j::4].mean((0, 1)) for d in differences], axis=0) for j in range(4)]
            for i in range(4)
        ]
    )


def test_weights_are_interpolated_and_their_last_biases_give_every_pixel_the_mean_colour_of_gt(
    folder,
):
    photographs = find_benchmark("photographs", folder)
    start, chosen, target = (folder / n for n in ("start.safetensors", "iter_1.pth", "out.pth"))
    rows = " ".join(finish(start, chosen, target, photographs).values())
    share = finishing.SHARE
    first, last = (open_model(str(path)).state_dict() for path in (start, chosen))
    blend = {k: (1 - share) * first[k] + share * last[k] for k in first}
    written = open_model(str(target)).state_dict()
    changed = [k for k in blend if not torch.allclose(written[k], blend[k], atol=1e-6)]
    assert [k for k in changed if not k.endswith("bias") or k.startswith("trunk")] == []
    assert "upsample1.upsample_conv.bias" in changed
    network = open_model(str(start))
    network.load_state_dict(blend)
    before = mean_differences(network, photographs.pairs)
    pattern = before - before.mean((0, 1))
    assert np.abs(before.mean((0, 1))).max() > 1
    assert np.abs(pattern).max() > 2
    numbers = [f"{shift:+.2f}" for shift in before.mean((0, 1))] + [f"{np.abs(pattern).max():.2f}"]
    assert [number for number in numbers if number not in rows] == []
    convert(target, folder / "bundled.safetensors", to="plugin", half=True)
    bundled = open_model(str(folder / "bundled.safetensors"))
    # Two steps with derivatives of crops; a trained network is closer to linear.
    assert np.abs(mean_differences(bundled, photographs.pairs)).max() < 0.25 * np.abs(before).max()


RUN = "the mean of the 3 checkpoints from iteration 1 on"


@pytest.mark.parametrize("best", ["the start", "the end", "their mean", RUN])
def test_the_best_of_start_end_and_means_by_held_out_psnr_is_written(best, folder):
    start, end, target = (folder / n for n in ("start.safetensors", "iter_1.pth", "out.pth"))
    first, last = (open_model(str(path)).state_dict() for path in (start, end))
    shares = {"the start": 0.0, "the end": 1.0, "their mean": 0.5, RUN: 0.7}
    blends = {n: {k: first[k].lerp(last[k], s) for k in first} for n, s in shares.items()}
    checkpoints = []
    for number, share in {1: 0.8, 2: 0.3, 3: 1.0}.items():
        checkpoints.append(folder / f"run/iter_{number}.pth")
        checkpoints[-1].parent.mkdir(exist_ok=True)
        torch.save(
            {"state_dict": {k: first[k].lerp(last[k], share) for k in first}}, checkpoints[-1]
        )
    photographs = find_benchmark("photographs", folder)
    network = open_model(str(start))
    network.load_state_dict(blends[best])
    for path in (folder / "photographs").iterdir():  # GT that only this network gets right
        lr = np.asarray(next(pair.lr for pair in photographs.pairs if pair.key == path.stem))
        write_image(folder / "gt" / path.name, Upscaler(network)(lr))
        write_image(folder / "lr" / path.name, lr)
    held_out = Benchmark("HeldOut", ImagePairs(folder / "gt", folder / "lr", scale=4), "given")
    row = best_of_means(start, checkpoints, target, held_out)["bundled"]
    assert row.startswith(f"{best}, by PSNR")
    assert f"{best} inf dB" in row
    written = open_model(str(target)).state_dict()
    assert all(torch.allclose(written[k], blends[best][k], atol=1e-6) for k in first)


def test_the_change_by_srgan_is_added_to_that_by_the_training(folder):
    torch.manual_seed(1)
    srgan = MSRResNet(mid_channels=16, num_blocks=1).state_dict()
    torch.save({"params": srgan}, folder / "srgan.pth")
    start, end, target = (folder / n for n in ("start.safetensors", "iter_1.pth", "out.pth"))
    rows = add_detail(start, folder / "srgan.pth", end, target)
    assert sha256(folder / "srgan.pth")[:8] in rows["detail"]
    first, last, written = (open_model(str(p)).state_dict() for p in (start, end, target))
    for key, weight in written.items():
        expected = last[key] + srgan[key] - first[key]
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-6)
