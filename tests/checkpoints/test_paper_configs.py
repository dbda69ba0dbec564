"""Configs of the paper's four models: hyper-parameters, three steps of each, and tests."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from srgan_plugin import config_path
from srgan_plugin.checkpoints.convert import convert
from srgan_plugin.io.images import read_image
from srgan_plugin.networks import MSRResNet, SRResNet
from srgan_plugin.networks.vgg import random_vgg19_state_dict

pytest.importorskip("mmengine")
pytestmark = pytest.mark.usefixtures("fresh_mmengine")

SRRESNET = config_path("srresnet_x4c64b16_g1_1000k_div2k.py")
MSRRESNET = config_path("msrresnet_x4c64b16_g1_1000k_div2k.py")
SRGANS = {
    "srgan_mse_x4c64b16_g1_200k_div2k.py": (),
    "srgan_vgg22_x4c64b16_g1_200k_div2k.py": ("relu2_2",),
    "srgan_vgg54_x4c64b16_g1_200k_div2k.py": ("relu5_4",),
}
ADAM = {"type": "Adam", "lr": 1e-4, "betas": (0.9, 0.999)}
STEPS = (
    "model.generator.mid_channels=8",
    "model.generator.num_blocks=2",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "train_dataloader.pin_memory=False",
    "train_dataloader.batch_size=2",
    "train_dataloader.dataset.pipeline.0.gt_patch_size=32",
    "train_cfg.max_iters=3",
    "train_cfg.val_interval=3",
    "default_hooks.logger.interval=1",
)


@pytest.fixture
def data(photographs, monkeypatch):
    monkeypatch.setenv("SRGAN_DATA", str(photographs))
    return photographs


def config(name):
    from mmengine.config import Config

    return Config.fromfile(config_path(name))


@pytest.mark.parametrize("name", [*SRGANS, "srresnet_x4c64b16_g1_1000k_div2k.py"])
def test_the_configs_have_the_hyper_parameters_of_the_paper(name):
    cfg = config(name)
    generator = cfg.model.generator
    assert (generator.type, generator.mid_channels, generator.num_blocks) == ("SRResNet", 64, 16)
    assert (generator.upscale_factor, generator.output_range) == (4, (-1, 1))
    assert cfg.train_dataloader.batch_size == 16
    assert cfg.train_dataloader.dataset.pipeline[0].gt_patch_size == 96
    if name not in SRGANS:
        assert cfg.optim_wrapper.optimizer == ADAM
        assert (cfg.train_cfg.max_iters, cfg.param_scheduler) == (1_000_000, None)
        return
    for network in ("generator", "discriminator"):
        assert cfg.optim_wrapper[network].optimizer == ADAM
    schedule = cfg.param_scheduler
    assert (schedule.type, schedule.milestones, schedule.gamma) == ("MultiStepLR", [100_000], 0.1)
    assert cfg.train_cfg.max_iters == 200_000
    assert (cfg.model.gan_loss.gan_type, cfg.model.gan_loss.loss_weight) == ("vanilla", 1e-3)
    assert cfg.model.discriminator == {
        "type": "SRGANDiscriminator",
        "in_channels": 3,
        "mid_channels": 64,
        "input_size": 96,
    }


@pytest.mark.parametrize(("name", "layers"), SRGANS.items())
def test_the_content_loss_is_on_the_features_of_the_paper_or_on_pixels(name, layers):
    model = config(name).model
    if not layers:
        assert "perceptual_loss" not in model
        assert model.pixel_loss == {"type": "MSELoss", "loss_weight": 4.0, "reduction": "mean"}
        return
    assert model.pixel_loss is None
    loss = model.perceptual_loss
    assert loss.layer_weights == dict.fromkeys(layers, 1.0)
    assert (loss.vgg_type, loss.criterion, loss.norm_img) == ("vgg19", "mse", False)
    assert (loss.perceptual_weight, loss.style_weight) == (1.0, 0)
    assert loss.feature_scale == pytest.approx(1 / 12.75)


def test_the_pixel_loss_is_the_papers_on_its_range():
    from srgan_plugin.hosts.mmengine.models.model_utils import build

    loss = build(dict(config(SRRESNET).model.pixel_loss))
    a, b = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    expected = ((2 * a - 1) - (2 * b - 1)).square().mean()
    torch.testing.assert_close(loss(a, b), expected)


@pytest.mark.slow
def test_each_config_trains_three_iterations_and_srgans_start_from_the_srresnet(
    data, tool, tmp_path
):
    source = f"train_dataloader.dataset.gt={data}/train"
    tool("train").main([SRRESNET, "--work-dir", "sr", "--cfg-options", *STEPS, source])
    torch.save(random_vgg19_state_dict(depth="relu5_4"), "vgg.pth")
    for name, layers in SRGANS.items():
        options = [*STEPS, source, "load_from=sr/iter_3.pth"]
        options += ["model.discriminator.input_size=32", "model.discriminator.mid_channels=8"]
        options += ["model.perceptual_loss.pretrained=vgg.pth"] if layers else []
        tool("train").main([config_path(name), "--work-dir", name, "--cfg-options", *options])
        started = torch.load("sr/iter_3.pth", weights_only=False)["state_dict"]
        ended = torch.load(f"{name}/iter_3.pth", weights_only=False)["state_dict"]
        key = "generator.conv_first.weight"
        assert 0 < (started[key] - ended[key]).abs().max() < 1e-3
        logs = "".join(path.read_text() for path in (tmp_path / name).rglob("*.log"))
        assert "loss_gan" in logs
        assert ("loss_perceptual" in logs) == bool(layers)
        assert ("loss_pix" in logs) == (not layers)


def test_test_py_takes_blocks_and_prelu_of_an_srresnet_from_its_weights(data, tool, rough, capfd):
    network = rough(SRResNet, mid_channels=8, num_blocks=3, prelu="channel", output_range=(-1, 1))
    torch.save(network.state_dict(), "plain.pth")
    tool("test").main([SRRESNET, "plain.pth", "--out", "r.json"])
    said = capfd.readouterr().err
    assert "mid_channels=8, num_blocks=3, prelu='channel'" in said
    measured = json.loads(Path("r.json").read_text())["Set5"]["PSNR"]
    values = []
    for path in sorted((data / "Set5/GTmod12").iterdir()):
        lr = torch.from_numpy(read_image(data / "Set5/LRbicx4" / path.name))
        with torch.inference_mode():
            sr = network(lr.permute(2, 0, 1)[None].float() / 255)[0].permute(1, 2, 0)
        sr = (sr.clamp(0, 1) * 255).round().byte().numpy()[4:-4, 4:-4]
        values.append(peak_signal_noise_ratio(read_image(path)[4:-4, 4:-4], sr))
    assert measured == pytest.approx(np.mean(values), abs=0.005)


def test_averaged_weights_are_tested_if_a_checkpoint_has_them(data, tool, rough, capfd):
    trained, averaged = (rough(MSRResNet, s, mid_channels=8, num_blocks=2) for s in (1, 2))
    state = {f"generator.{k}": w for k, w in trained.state_dict().items()}
    torch.save(averaged.state_dict(), "averaged.pth")
    state |= {f"generator_ema.{k}": w for k, w in averaged.state_dict().items()}
    torch.save({"state_dict": state}, "both.pth")
    for name in ("averaged", "both"):
        tool("test").main([MSRRESNET, f"{name}.pth", "--out", f"{name}.json"])
    assert "testing the EMA weights" in capfd.readouterr().err
    assert Path("both.json").read_text() == Path("averaged.json").read_text()


@pytest.mark.slow
def test_a_training_does_not_start_from_weights_of_another_function(data, tool, fails, rough):
    network = rough(MSRResNet, mid_channels=8, num_blocks=2, activate_after_shuffle=True)
    torch.save(network.state_dict(), "ours.pth")
    arch_options = {"activate_after_shuffle": True}
    convert("ours.pth", "noted.pth", to="plugin", arguments=arch_options)
    options = [*STEPS, f"train_dataloader.dataset.gt={data}/train", "load_from=noted.pth"]
    said = fails("train", MSRRESNET, "--cfg-options", *options)
    assert "set activate_after_shuffle=True in the config" in said
    options.append("model.generator.activate_after_shuffle=True")
    tool("train").main([MSRRESNET, "--work-dir", "run", "--cfg-options", *options])
