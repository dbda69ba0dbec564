"""Three steps of SRGAN from the same weights, batches and VGG leave the same networks."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from srgan_plugin.registry import MODELS

LAYER = "conv2_2"  # shallow: the step is the same for all layers
GENERATOR = {"in_channels": 3, "out_channels": 3, "mid_channels": 8, "num_blocks": 2}
RATE, BETAS = 1e-4, (0.9, 0.999)


def batches() -> Iterator[tuple[Tensor, Tensor]]:
    """Three batches of two pairs, uint8: LR 32x32 and GT 128x128, which the toolboxes demand."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        yield tuple(
            torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=generator)
            for size in (32, 128)
        )


def assert_same_networks(mine: dict[str, nn.Module], theirs: dict[str, nn.Module]) -> None:
    for name, network in theirs.items():
        state = mine[name].state_dict()
        assert set(state) == set(network.state_dict())
        for key, value in network.state_dict().items():
            difference = (state[key] - value).abs().max()
            assert difference <= 1e-5, f"{name}.{key} differs by {difference}"


def mmengine_model(scope: str, perceptual: dict[str, Any], **options: Any) -> Any:
    return MODELS.build(
        {
            "type": f"{scope}.SRGAN",
            "generator": {"type": "MSRResNet", **GENERATOR},
            "discriminator": {"type": "ModifiedVGG", "in_channels": 3, "mid_channels": 4},
            "pixel_loss": {"type": "L1Loss", "loss_weight": 1e-2},
            "perceptual_loss": {
                "type": "PerceptualLoss",
                "style_weight": 0,
                "norm_img": False,
                **perceptual,
            },
            "gan_loss": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 5e-3},
            "data_preprocessor": {
                "type": "DataPreprocessor",
                "mean": [0.0] * 3,
                "std": [255.0] * 3,
            },
            **options,
        }
    )


def networks(model: Any) -> dict[str, nn.Module]:
    return {"generator": model.generator, "discriminator": model.discriminator}


def wrappers(model: Any) -> OptimWrapperDict:
    return OptimWrapperDict(
        **{
            name: OptimWrapper(torch.optim.Adam(network.parameters(), lr=RATE, betas=BETAS))
            for name, network in networks(model).items()
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "train_cfg", [{}, {"disc_init_steps": 1, "disc_steps": 2, "disc_repeat": 2}]
)
def test_same_training_as_mmagics_srgan(
    mmagic: ModuleType, random_vgg: Path, train_cfg: dict[str, int]
) -> None:
    from mmagic.models.editors.srgan import SRGAN
    from mmagic.structures import DataSample

    theirs = mmengine_model("mmagic", {"layer_weights": {"7": 1.0}}, train_cfg=train_cfg)
    perceptual = {"layer_weights": {LAYER: 1.0}, "pretrained": str(random_vgg)}
    mine = mmengine_model("srgan_plugin", perceptual, train_cfg=train_cfg)
    assert isinstance(theirs, SRGAN)
    assert type(theirs.generator).__module__.startswith("mmagic.")
    assert type(mine.generator).__module__.startswith("srgan_plugin.")
    for name, network in networks(mine).items():
        network.load_state_dict(networks(theirs)[name].state_dict())
    start = {key: value.clone() for key, value in theirs.state_dict().items()}
    logs = []
    for model in (theirs.train(), mine.train()):
        optimizers = wrappers(model)
        for lr, gt in batches():
            samples = [DataSample(gt_img=image.clone()) for image in gt]
            logged = model.train_step(
                {"inputs": list(lr.clone()), "data_samples": samples}, optimizers
            )
            logs.append({k: float(v) for k, v in logged.items() if k.startswith("loss_")})
    assert_same_networks(networks(mine), networks(theirs))
    for name in ("generator.conv_last.weight", "discriminator.linear1.weight"):
        assert not torch.equal(theirs.state_dict()[name], start[name])
    for expected, logged in zip(logs[:3], logs[3:], strict=True):
        assert logged == pytest.approx(expected, rel=1e-4)


def basicsr_options(
    suffix: str, perceptual: dict[str, Any], train: dict[str, Any]
) -> dict[str, Any]:
    optimizer = {"type": "Adam", "lr": RATE, "betas": list(BETAS)}
    return {
        "model_type": f"SRGANModel{suffix}",
        "num_gpu": 0,
        "is_train": True,
        "dist": False,
        "network_g": {"type": f"MSRResNet{suffix}", "num_feat": 8, "num_block": 2},
        "network_d": {"type": f"VGGStyleDiscriminator{suffix}", "num_in_ch": 3, "num_feat": 4},
        "path": {},
        "train": {
            "optim_g": dict(optimizer),
            "optim_d": dict(optimizer),
            "scheduler": {"type": "MultiStepLR", "milestones": [100]},
            "pixel_opt": {"type": f"L1Loss{suffix}", "loss_weight": 1e-2},
            "perceptual_opt": {
                "type": f"PerceptualLoss{suffix}",
                "layer_weights": {LAYER: 1.0},
                **perceptual,
            },
            "gan_opt": {"type": f"GANLoss{suffix}", "gan_type": "vanilla", "loss_weight": 5e-3},
            **train,
        },
    }


@pytest.mark.slow
@pytest.mark.parametrize("train", [{}, {"ema_decay": 0.9, "net_d_init_iters": 1, "net_d_iters": 2}])
def test_same_training_as_basicsrs_srganmodel(
    basicsr: ModuleType, random_vgg: Path, train: dict[str, Any]
) -> None:
    from basicsr.models import build_model

    theirs = build_model(basicsr_options("", {}, train))
    mine = build_model(basicsr_options("_srgan_plugin", {"pretrained": str(random_vgg)}, train))
    assert type(mine).__module__ == "srgan_plugin.hosts.basicsr.models"
    names = ["net_g", "net_d"] + (["net_g_ema"] if train else [])
    for name in names:
        getattr(mine, name).load_state_dict(getattr(theirs, name).state_dict())
    start = theirs.net_g.conv_last.weight.clone()
    for step, (lr, gt) in enumerate(batches(), start=1):
        for model in (theirs, mine):
            model.feed_data({"lq": lr / 255, "gt": gt / 255})
            model.optimize_parameters(step)
        assert mine.log_dict == pytest.approx(theirs.log_dict, rel=1e-4, abs=1e-6)
    assert_same_networks(
        {name: getattr(mine, name) for name in names},
        {name: getattr(theirs, name) for name in names},
    )
    assert not torch.equal(theirs.net_g.conv_last.weight, start)
