"""Training and testing in half precision: what is logged, scaled, averaged and measured."""

from typing import Any

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapperDict
from mmengine.structures import BaseDataElement

from srgan_plugin.hosts.mmengine.engine.optim_wrapper import AmpOptimWrapper, OptimWrapper
from srgan_plugin.hosts.mmengine.evaluation import metrics
from srgan_plugin.hosts.mmengine.evaluation.metrics import PSNR, BenchmarkMetric
from srgan_plugin.registry import MODELS

pytestmark = pytest.mark.usefixtures("fresh_mmengine")


def srgan(gan_type: str = "vanilla", share: bool = False) -> Any:
    torch.manual_seed(0)
    return MODELS.build(
        {
            "type": "srgan_plugin.SRGAN",
            "generator": {"type": "SRResNet", "mid_channels": 8, "num_blocks": 1},
            "discriminator": {"type": "ModifiedVGG", "mid_channels": 4, "input_size": 32},
            "pixel_loss": {"type": "MSELoss"},
            "gan_loss": {"type": "GANLoss", "gan_type": gan_type, "loss_weight": 5e-3},
            "train_cfg": {"share_fake_logits": share},
        }
    )


def step(model: Any, **wrappers: OptimWrapper) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    lr = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=random)
    gt = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=random)
    sample = BaseDataElement(gt_img=gt)
    logged: dict[str, torch.Tensor] = model.train_step(
        {"inputs": lr, "data_samples": sample}, OptimWrapperDict(**wrappers)
    )
    return logged


def sgd(model: Any, kind: type[OptimWrapper] = AmpOptimWrapper, **options: Any) -> dict[str, Any]:
    networks = {"generator": model.generator, "discriminator": model.discriminator}
    return {n: kind(torch.optim.SGD(m.parameters(), 0.1), **options) for n, m in networks.items()}


@pytest.mark.parametrize("gan_type", ["vanilla", "wgan", "hinge"])
def test_what_a_step_in_bfloat16_logs_is_computed_in_float32(gan_type: str) -> None:
    model = srgan(gan_type)
    with torch.no_grad():
        model.discriminator.linear2.bias.fill_(100.0)
    seen: list[torch.Tensor] = []
    model.discriminator.linear2.register_forward_hook(lambda _m, _a, out: seen.append(out))
    logged = step(model, **sgd(model, dtype="bfloat16"))
    assert {value.dtype for value in logged.values()} == {torch.float32}
    _, real, fake = (logits.detach().double().numpy() for logits in seen)
    assert logged["out_d_real"].item() == pytest.approx(real.mean(), rel=1e-6)
    assert logged["out_d_fake"].item() == pytest.approx(fake.mean(), rel=1e-6)
    expected = {"vanilla": np.logaddexp(0, fake), "wgan": fake, "hinge": 1 + fake}[gan_type]
    assert logged["loss_d_fake"].item() == pytest.approx(expected.mean(), rel=1e-6)


@pytest.mark.parametrize("share", [False, True])
def test_each_network_s_loss_is_scaled_by_its_own_scaler(share: bool) -> None:
    states = []
    for scales in ((2.0**10, 2.0**10), (2.0**7, 2.0**13)):
        model = srgan(share=share)
        wrappers = sgd(model, dtype="float16")
        for wrapper, scale in zip(wrappers.values(), scales, strict=True):
            wrapper.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        step(model, **wrappers)
        states.append(model.state_dict())
    for key, expected in states[0].items():
        torch.testing.assert_close(states[1][key], expected, rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.parametrize("on_cuda", [True, False])
@pytest.mark.parametrize("metric", [PSNR(), BenchmarkMetric()], ids=["PSNR", "BenchmarkMetric"])
def test_an_overflow_is_measured_as_no_white_pixel(
    metric: Any, on_cuda: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_on_cuda", lambda _: on_cuda)
    sr = torch.full((1, 3, 32, 32), 0.9, dtype=torch.float16)
    sr[0, 1, 2, 3] = torch.inf
    predicted = srgan().data_preprocessor.destruct(sr)[0]
    gt = torch.full((3, 32, 32), 230, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"NaN.*fp16"):
        metric.process(None, [{"gt_img": gt, "output": {"pred_img": predicted}}])
        metric.evaluate(1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("rounding", [True, False])
def test_predictions_of_any_floating_type_are_measured(dtype: torch.dtype, rounding: bool) -> None:
    random = torch.Generator().manual_seed(0)
    gt = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=random)
    predicted = (gt + 9 * torch.randn(gt.shape, generator=random)).to(dtype)
    metric = PSNR(rounding=rounding)
    metric.process(None, [{"gt_img": gt, "output": {"pred_img": predicted}}])
    found = metric.evaluate(1)["PSNR"]
    exact = predicted.double().clamp(0, 255)
    exact = exact.round() if rounding else exact
    mse = float((exact - gt.double()).square().mean())
    assert found == pytest.approx(10 * np.log10(255**2 / mse), abs=1e-6)
