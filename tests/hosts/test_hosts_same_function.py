"""The same weights and pictures give the same numbers in ours, in MMagic's and in BasicSR's."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srgan_plugin import losses, networks

TOLERANCE = {"rtol": 0, "atol": 1e-6}


def images(*shape: int) -> Tensor:
    return torch.rand(shape)


def roughened(network: nn.Module) -> nn.Module:
    """Weights of full size and biases: freshly initialised ones hide what they are added to."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return network


def assert_same_output_and_gradient(mine: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    outputs, gradients = [], []
    for network in (mine, theirs):
        leaf = x.clone().requires_grad_()
        outputs.append(network(leaf))
        outputs[-1].square().mean().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*outputs, **TOLERANCE)
    torch.testing.assert_close(*gradients, **TOLERANCE)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_same_function_of_msrresnet_in_mmagic(mmagic: ModuleType, scale: int) -> None:
    from mmagic.models.editors.srgan import MSRResNet

    theirs = roughened(MSRResNet(3, 3, mid_channels=16, num_blocks=2, upscale_factor=scale))
    mine = networks.MSRResNet(mid_channels=16, num_blocks=2, upscale_factor=scale)
    mine.load_state_dict(theirs.state_dict())
    assert_same_output_and_gradient(mine, theirs, images(2, 3, 10, 12))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_same_function_of_msrresnet_in_basicsr_and_each_loads_what_the_other_saves(
    basicsr: ModuleType, scale: int
) -> None:
    from basicsr.archs import build_network

    options = {"num_feat": 16, "num_block": 2, "upscale": scale}
    theirs = roughened(build_network({"type": "MSRResNet", **options}))
    mine = build_network({"type": "MSRResNet_srgan_plugin", **options})
    assert isinstance(mine, networks.MSRResNet)
    mine.load_state_dict(theirs.state_dict())
    assert_same_output_and_gradient(mine, theirs, images(2, 3, 10, 12))
    assert set(mine.state_dict()) == set(theirs.state_dict())
    roughened(mine)
    theirs.load_state_dict(mine.state_dict())
    assert_same_output_and_gradient(mine, theirs, images(1, 3, 7, 5))


def test_the_two_toolboxes_msrresnets_are_not_the_same_function(
    mmagic: ModuleType, basicsr: ModuleType
) -> None:
    from basicsr.archs import build_network

    network = build_network({"type": "MSRResNet_srgan_plugin", "num_feat": 8, "num_block": 1})
    mmagics = networks.MSRResNet(mid_channels=8, num_blocks=1)
    network.load_state_dict(roughened(mmagics).state_dict())  # our keys load as well
    x = images(1, 3, 8, 8)
    assert (network(x) - mmagics(x)).abs().max() > 1e-3


@pytest.mark.parametrize("training", [True, False])
def test_same_function_of_modifiedvgg_in_mmagic(mmagic: ModuleType, training: bool) -> None:
    from mmagic.models.editors.srgan import ModifiedVGG

    theirs = ModifiedVGG(3, 8).train(training)
    mine = networks.ModifiedVGG(mid_channels=8).train(training)
    mine.load_state_dict(theirs.state_dict())
    assert_same_output_and_gradient(mine, theirs, images(3, 3, 128, 128))
    for key, value in theirs.state_dict().items():  # the running statistics among them
        torch.testing.assert_close(mine.state_dict()[key], value, **TOLERANCE)


@pytest.mark.parametrize("size", [128, 256])
def test_same_function_of_vggstylediscriminator_in_basicsr(basicsr: ModuleType, size: int) -> None:
    from basicsr.archs import build_network

    options = {"num_in_ch": 3, "num_feat": 4, "input_size": size}
    theirs = build_network({"type": "VGGStyleDiscriminator", **options})
    mine = build_network({"type": "VGGStyleDiscriminator_srgan_plugin", **options})
    mine.load_state_dict(theirs.state_dict())
    assert_same_output_and_gradient(mine, theirs, images(2, 3, size, size))


def assert_same_loss(mine: nn.Module, theirs: nn.Module, *args: Any, **kwargs: Any) -> None:
    """The same value, or values, and the same gradient at the first argument."""
    results = []
    for loss in (mine, theirs):
        leaf = args[0].clone().requires_grad_()
        values = loss(leaf, *args[1:], **kwargs)
        values = values if isinstance(values, tuple) else (values,)
        there = [value.sum() for value in values if value is not None]
        if there:
            torch.stack(there).sum().backward()
        results.append((values, leaf.grad))
    (mine_values, mine_gradient), (their_values, their_gradient) = results
    for a, b in zip(mine_values, their_values, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    if mine_gradient is not None:
        torch.testing.assert_close(mine_gradient, their_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("toolbox", "options"),
    [("mmagic", {"sample_wise": False}), ("mmagic", {"sample_wise": True}), ("basicsr", {})],
)
@pytest.mark.parametrize("name", ["L1Loss", "MSELoss"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weighted", ["not", "by pixel", "by channel"])
def test_same_function_of_pixel_losses(
    toolbox: str,
    options: dict[str, Any],
    name: str,
    reduction: str,
    weighted: str,
    request: pytest.FixtureRequest,
) -> None:
    request.getfixturevalue(toolbox)
    if toolbox == "mmagic":
        from mmagic.models import losses as theirs
    else:
        from basicsr.losses import basic_loss as theirs
    options = {"loss_weight": 0.3, "reduction": reduction, **options}
    weight = {"not": None, "by pixel": images(2, 1, 6, 7), "by channel": images(2, 3, 6, 7)}
    assert_same_loss(
        getattr(losses, name)(**options),
        getattr(theirs, name)(**options),
        images(2, 3, 6, 7),
        images(2, 3, 6, 7),
        weight=weight[weighted],
    )


def test_same_function_of_the_psnr_loss(mmagic: ModuleType) -> None:
    from mmagic.models.losses import PSNRLoss

    pred, gt = images(2, 3, 6, 7), images(2, 3, 6, 7)
    assert_same_loss(losses.PSNRLoss(0.3), PSNRLoss(0.3), pred, gt)


@pytest.mark.parametrize(
    ("toolbox", "gan_type"),
    [
        *(("mmagic", kind) for kind in ("vanilla", "lsgan", "wgan", "hinge", "l1")),
        *(("basicsr", kind) for kind in ("vanilla", "lsgan", "wgan", "wgan_softplus", "hinge")),
    ],
)
@pytest.mark.parametrize("target_is_real", [True, False])
@pytest.mark.parametrize("is_disc", [True, False])
def test_same_function_of_gan_losses(
    toolbox: str, gan_type: str, target_is_real: bool, is_disc: bool, request: Any
) -> None:
    request.getfixturevalue(toolbox)
    if toolbox == "mmagic":
        from mmagic.models.losses import GANLoss
    else:
        from basicsr.losses.gan_loss import GANLoss
    options = {"real_label_val": 0.9, "fake_label_val": 0.1, "loss_weight": 5e-3}
    assert_same_loss(
        losses.GANLoss(gan_type, **options),
        GANLoss(gan_type, **options),
        torch.randn(5, 1) * 3,
        target_is_real,
        is_disc=is_disc,
    )


PERCEPTUAL = [
    {"layer_weights": {"34": 1.0}, "style_weight": 0, "norm_img": False},  # the published one
    {"layer_weights": {"3": 0.5, "8": 2.0}},  # MMagic's defaults: style too, pictures in [-1, 1]
    {"layer_weights": {"8": 1.0}, "criterion": "mse", "perceptual_weight": 0.2},
    {"layer_weights": {"8": 1.0}, "use_input_norm": False, "style_weight": 30.0},
    {"layer_weights": {"3": 1.0}, "layer_weights_style": {"1": 1.0, "8": 0.1}},
    {"layer_weights": {"8": 1.0}, "perceptual_weight": 0},
    {"layer_weights": {"8": 1.0}, "perceptual_weight": 0, "style_weight": 0},
]


@pytest.mark.parametrize("options", PERCEPTUAL)
def test_same_function_of_the_perceptual_loss_in_mmagic(
    mmagic: ModuleType, random_vgg: Path, options: dict[str, Any]
) -> None:
    from mmagic.models.losses import PerceptualLoss

    mine = losses.PerceptualLoss(**options, pretrained=random_vgg)
    assert_same_loss(mine, PerceptualLoss(**options), images(2, 3, 32, 32), images(2, 3, 32, 32))


@pytest.mark.parametrize(
    "options",
    [
        {"layer_weights": {"conv5_4": 1.0}},
        {"layer_weights": {"conv1_2": 0.5, "conv2_2": 2.0}, "style_weight": 0.7},
        {"layer_weights": {"relu2_2": 1.0}, "range_norm": True, "criterion": "fro"},
        {"layer_weights": {"conv2_2": 1.0}, "criterion": "fro", "style_weight": 1.0},
        {"layer_weights": {"conv2_2": 1.0}, "use_input_norm": False, "perceptual_weight": 0.1},
        {"layer_weights": {"conv2_2": 1.0}, "perceptual_weight": 0, "style_weight": 2.0},
    ],
)
def test_same_function_of_the_perceptual_loss_in_basicsr(
    basicsr: ModuleType, random_vgg: Path, options: dict[str, Any]
) -> None:
    from basicsr.losses import build_loss

    theirs = build_loss({"type": "PerceptualLoss", **options})
    mine = build_loss(
        {"type": "PerceptualLoss_srgan_plugin", **options, "pretrained": str(random_vgg)}
    )
    assert_same_loss(mine, theirs, images(2, 3, 32, 32), images(2, 3, 32, 32))
