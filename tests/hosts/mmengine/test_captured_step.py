"""The captured step on the `meta` device; `tests/helpers/meta_step.py` has the rules."""

import itertools
from collections import Counter
from typing import Any

import pytest
import torch
from mmengine.optim import OptimWrapperDict
from mmengine.structures import BaseDataElement
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import training
from srgan_plugin.hosts.mmengine.engine.optim_wrapper import AmpOptimWrapper, OptimWrapper
from srgan_plugin.networks.vgg import random_vgg19_state_dict
from srgan_plugin.registry import MODELS
from tests.helpers.meta_step import (
    HostReads,
    KernelCounter,
    MetaAutocast,
    NotCapturableError,
    capture_on_meta,
    launches,
)


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(random_vgg19_state_dict(), path)
    config = {
        "type": "srgan_plugin.PerceptualLoss",
        "layer_weights": {"conv5_4": 1.0},
        "style_weight": 0,
        "norm_img": False,
        "pretrained": str(path),
    }
    return MODELS.build(config).to("meta")


def build(generator: str, vgg: nn.Module | None = None, **options: Any) -> Any:
    """A model of SRModel, or of SRGAN where there is a VGG."""
    share, ema, small = (options.pop(name) for name in ("share", "ema", "small"))
    assert not options
    size = {"num_blocks": 1} if small else {}
    config: dict[str, Any] = {
        "type": "srgan_plugin.SRModel",
        "generator": {"type": generator, **size},
        "pixel_loss": {"type": "L1Loss"},
        "ema": {"decay": 0.999} if ema else None,
        "channels_last": True,
    }
    if vgg is not None:
        config |= {
            "type": "srgan_plugin.SRGAN",
            "discriminator": {"type": "ModifiedVGG", "mid_channels": 8 if small else 64},
            "perceptual_loss": vgg,
            "gan_loss": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 5e-3},
            "train_cfg": {"share_fake_logits": share},
        }
    return MODELS.build(config)


def kernels(generator: str, vgg: nn.Module | None = None, **options: Any) -> Counter[str]:
    """Of one captured step of a batch of 16 with GT 128; `counter` counts its operations."""
    modes = [options.pop("counter")] if "counter" in options else []
    names = ("generator", "discriminator") if vgg is not None else ("generator",)
    amp, clip = (options.pop(name, False) for name in ("amp", "clip"))
    options = {"share": False, "ema": False, "small": False} | options
    model = build(generator, vgg, **options)
    made = {
        name: torch.optim.Adam(model.get_submodule(name).parameters(), fused=True) for name in names
    }
    model.to("meta")
    wrappers = {}
    for name, optimizer in made.items():
        optimizer.param_groups[0]["params"] = list(model.get_submodule(name).parameters())
        kind, dtype = (AmpOptimWrapper, {"dtype": "bfloat16"}) if amp else (OptimWrapper, {})
        clipping = {"clip_grad": {"max_norm": 1.0}} if clip else {}
        wrappers[name] = kind(optimizer, **dtype, **clipping)
        wrappers[name].sync_each_step = False
    lr = torch.empty(16, 3, 32, 32, dtype=torch.uint8, device="meta")
    gt = torch.empty(16, 3, 128, 128, dtype=torch.uint8, device="meta")
    batch = {"inputs": lr, "data_samples": BaseDataElement(gt_img=gt)}
    optim = wrappers["generator"] if vgg is None else OptimWrapperDict(**wrappers)
    return capture_on_meta(model, optim, batch, *modes)


def options_of(*names: str) -> list[Any]:
    """All choices of some options, each named by those that are on."""
    found = []
    for values in itertools.product((False, True), repeat=len(names)):
        chosen = dict(zip(names, values, strict=True))
        on = [name for name in names if chosen[name]]
        found.append(pytest.param(chosen, id="-".join(on) or "plain"))
    return found


@pytest.mark.parametrize("options", options_of("amp", "clip", "ema"))
@pytest.mark.parametrize("generator", ["MSRResNet", "SRResNet"])
def test_a_step_of_srmodel_needs_nothing_of_the_host(
    generator: str, options: dict[str, bool]
) -> None:
    assert kernels(generator, small=True, **options)


# With batch normalisation in both networks; those of MSRResNet are below, at full size.
@pytest.mark.parametrize("options", options_of("amp", "share", "ema"))
def test_a_step_of_srgan_needs_nothing_of_the_host(
    options: dict[str, bool], vgg: nn.Module
) -> None:
    clip = options["share"] != options["ema"]
    assert kernels("SRResNet", vgg, small=True, clip=clip, **options)


# Batch 16, GT 128, channels-last.
@pytest.mark.parametrize(
    ("generator", "adversarial", "options", "budget"),
    [
        ("MSRResNet", False, {"amp": True, "ema": True}, 349),
        ("MSRResNet", False, {}, 190),
        ("SRResNet", False, {"amp": True, "ema": True}, 530),
        ("MSRResNet", True, {"amp": True, "ema": True, "share": True}, 830),
        ("MSRResNet", True, {}, 640),
    ],
)
def test_a_step_keeps_to_its_budget_of_kernels(
    generator: str, adversarial: bool, options: dict[str, bool], budget: int, vgg: nn.Module
) -> None:
    count = kernels(generator, vgg if adversarial else None, **options)
    assert count.total() <= budget, count.most_common(12)


@pytest.mark.parametrize("share", [False, True])
def test_the_operations_that_benchmarks_divide_by_are_those_of_the_step(
    share: bool, vgg: nn.Module
) -> None:
    table = training.SHARED_FLOPS if share else training.FLOPS
    for name, given in {"msrresnet": None, "srgan": vgg}.items():
        counter = FlopCounterMode(display=False)
        kernels("MSRResNet", given, share=share, counter=counter)
        assert counter.get_total_flops() == pytest.approx(table[name], rel=1e-3)


def on_device() -> Tensor:
    return torch.ones(3, device="meta")


@pytest.mark.parametrize(
    "reads",
    [
        lambda: on_device().sum().item(),
        lambda: float(on_device().sum()),
        lambda: bool(on_device().sum() > 0),
        lambda: on_device().tolist(),
        lambda: on_device().cpu(),
        lambda: torch.empty(3).copy_(on_device()),
        lambda: on_device().copy_(torch.ones(3)),
        lambda: on_device() + torch.ones(3),
        lambda: torch.ones(3).to("meta"),
        lambda: torch.tensor(1.0, device="meta"),
        lambda: on_device().nonzero(),
    ],
)
def test_what_needs_the_host_is_refused(reads: Any) -> None:
    with pytest.raises(NotCapturableError), KernelCounter(), HostReads():
        reads()


def test_constants_of_the_host_views_and_allocations_are_no_kernels() -> None:
    with KernelCounter() as counter, HostReads():
        a = torch.empty(2, 3, device="meta")
        a.view(-1).detach()[1:].expand(2, -1)
        assert counter.kernels.total() == 0
        a * torch.tensor(0.5)
        a.add_(1)
    assert +counter.kernels == {"mul": 1, "add_": 1}


@pytest.mark.parametrize(
    ("sizes", "lists", "count"),
    [
        ([4] * 110, 1, 1),
        ([4] * 111, 1, 2),
        ([4] * 74, 4, 3),
        ([65536 * 319], 1, 1),
        ([65536 * 321], 2, 2),
        ([], 1, 0),
    ],
)
def test_a_foreach_operator_counts_as_its_launches(
    sizes: list[int], lists: int, count: int
) -> None:
    tensors = [torch.empty(size, device="meta") for size in sizes]
    assert launches([tensors] * lists) == count


def test_moments_of_other_strides_are_refused() -> None:
    weight = nn.Parameter(torch.ones(2, 3, 4, 4))
    optimizer = torch.optim.Adam([weight], fused=True)
    weight.square().sum().backward()
    optimizer.step()
    lists = [
        [weight],
        [weight.grad],
        *([optimizer.state[weight][n]] for n in ("exp_avg", "exp_avg_sq")),
    ]
    KernelCounter._check_strides(lists)
    lists[2] = [lists[2][0].to(memory_format=torch.channels_last)]
    with pytest.raises(NotCapturableError, match="strides"):
        KernelCounter._check_strides(lists)


def test_the_stand_in_for_autocast_casts_what_autocast_casts() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.PReLU(), nn.Conv2d(4, 4, 3), nn.Flatten())
    network.append(nn.Linear(64, 2))
    images = torch.rand(2, 3, 8, 8)

    def count(*modes: Any) -> tuple[Counter[str], Tensor]:
        casts: Counter[str] = Counter()

        class Casts(torch.utils._python_dispatch.TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None):
                casts[func._schema.name] += 1
                return func(*args, **kwargs or {})

        network.zero_grad()
        with Casts():
            for mode in modes:
                mode.__enter__()
            loss = network(images).float().square().mean() + network(images).float().mean()
            for mode in reversed(modes):
                mode.__exit__(None, None, None)
            loss.backward()
        return casts, network[0].weight.grad

    with pytest.MonkeyPatch.context() as patch:
        ours = MetaAutocast("cpu")
        expected, gradient = count(torch.autocast("cpu", torch.bfloat16))
        patch.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cpu")
        patch.setattr(torch, "get_autocast_dtype", lambda _: torch.bfloat16)
        found, value = count(ours)
    assert found["aten::_to_copy"] == expected["aten::_to_copy"] > 0
    assert torch.equal(value, gradient)
