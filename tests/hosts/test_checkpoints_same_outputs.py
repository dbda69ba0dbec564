"""Converted weights, loaded strictly into the toolboxes' own classes, give our pictures."""

import importlib

import pytest
import torch

from srgan_plugin.checkpoints import open_network
from srgan_plugin.checkpoints.convert import convert
from srgan_plugin.networks import ModifiedVGG, MSRResNet

TOLERANCE = {"rtol": 0, "atol": 1e-6}


def roughened(network):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.03)
    return network.eval()


@pytest.fixture
def ours(tmp_path):
    """Save one of our networks and give it with the file."""

    def make(cls, **options):
        network = roughened(cls(**options))
        torch.save(network.state_dict(), tmp_path / "ours.pth")
        return network, tmp_path / "ours.pth"

    return make


def assert_same(network, theirs, *size):
    image = torch.rand(2, 3, *size)
    with torch.inference_mode():
        torch.testing.assert_close(network(image), theirs.eval()(image), **TOLERANCE)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("to", ["mmagic", "mmediting"])
def test_mmagics_msrresnet_gives_our_images(mmagic, ours, tmp_path, scale, to):
    network, path = ours(MSRResNet, mid_channels=16, num_blocks=3, upscale_factor=scale)
    convert(path, tmp_path / "theirs.pth", to=to)
    theirs = importlib.import_module("mmagic.models.editors").MSRResNet(
        3, 3, mid_channels=16, num_blocks=3, upscale_factor=scale
    )
    state = torch.load(tmp_path / "theirs.pth", weights_only=True)["state_dict"]
    theirs.load_state_dict({k.removeprefix("generator."): w for k, w in state.items()}, strict=True)
    assert_same(network, theirs, 13, 18)


def test_mmagics_whole_model_takes_the_converted_file_without_a_key_left(mmagic, ours, tmp_path):
    network, path = ours(MSRResNet, mid_channels=8, num_blocks=2)
    convert(path, tmp_path / "theirs.pth", to="mmagic")
    model = importlib.import_module("mmagic.models").BaseEditModel(
        generator={"type": "MSRResNet", "in_channels": 3, "out_channels": 3}
        | {"mid_channels": 8, "num_blocks": 2, "upscale_factor": 4},
        pixel_loss={"type": "L1Loss"},
    )
    state = torch.load(tmp_path / "theirs.pth", weights_only=True)["state_dict"]
    model.load_state_dict(state, strict=True)
    assert_same(network, model.generator, 12, 12)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_basicsrs_msrresnet_gives_our_images(basicsr, ours, tmp_path, scale):
    options = {"activate_after_shuffle": True}
    network, path = ours(MSRResNet, mid_channels=16, num_blocks=3, upscale_factor=scale, **options)
    convert(path, tmp_path / "theirs.pth", to="basicsr", arguments=options)
    theirs = importlib.import_module("basicsr.archs.srresnet_arch").MSRResNet(
        3, 3, num_feat=16, num_block=3, upscale=scale
    )
    theirs.load_state_dict(
        torch.load(tmp_path / "theirs.pth", weights_only=True)["params"], strict=True
    )
    assert_same(network, theirs, 13, 18)
    torch.save({"params_ema": theirs.state_dict()}, tmp_path / "saved_by_them.pth")
    assert_same(open_network(tmp_path / "saved_by_them.pth"), theirs, 9, 10)


def test_mmagics_discriminator_gives_our_logits(mmagic, ours, tmp_path):
    network, path = ours(ModifiedVGG, mid_channels=4)
    convert(path, tmp_path / "m.pth", to="mmagic")
    theirs = importlib.import_module("mmagic.models.editors").ModifiedVGG(3, 4)
    state = torch.load(tmp_path / "m.pth", weights_only=True)["state_dict"]
    theirs.load_state_dict({k.removeprefix("discriminator."): w for k, w in state.items()})
    assert_same(network, theirs, 128, 128)


def test_basicsrs_discriminator_gives_our_logits(basicsr, ours, tmp_path):
    network, path = ours(ModifiedVGG, mid_channels=4)
    convert(path, tmp_path / "m.pth", to="mmagic")
    convert(tmp_path / "m.pth", tmp_path / "b.pth", to="basicsr")
    theirs = importlib.import_module("basicsr.archs.discriminator_arch").VGGStyleDiscriminator(3, 4)
    theirs.load_state_dict(torch.load(tmp_path / "b.pth", weights_only=True)["params"])
    assert_same(network, theirs, 128, 128)
