"""Losses in half precision and under autocast against float64, forward and backward."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srgan_plugin.losses import (
    GANLoss,
    L1Loss,
    MSELoss,
    PerceptualLoss,
    PSNRLoss,
    discriminator_objective,
    generator_objective,
    gram_matrix,
)
from srgan_plugin.networks import ModifiedVGG, SRGANDiscriminator, random_vgg19_state_dict

TYPES = [torch.float32, torch.bfloat16, torch.float16]
HALF = TYPES[1:]
EXACT = 2e-6  # of sums in float32


def randn(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_exact(loss: Any, x: Tensor, dtype: torch.dtype) -> None:
    """The value as float64 has it, the gradient rounded once to `dtype`, in and out of autocast."""
    x = x.to(dtype)
    exact = x.double().requires_grad_()
    expected = loss(exact)
    (slope,) = torch.autograd.grad(expected, exact)
    for autocast in (False, True):
        leaf = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = loss(leaf)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=EXACT, atol=EXACT)
        (gradient,) = torch.autograd.grad(found, leaf)
        info = torch.finfo(dtype)
        rtol, atol = info.eps + 1e-5, EXACT * float(slope.abs().max()) + min(info.tiny, 2**-24)
        torch.testing.assert_close(gradient.double(), slope, rtol=rtol, atol=atol)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", ["vanilla", "lsgan", "l1", "wgan", "wgan_softplus", "hinge"])
def test_an_adversarial_loss_is_computed_in_float32(kind: str, dtype: torch.dtype) -> None:
    logits = {"near": randn(16, 1), "off": 100 + randn(16, 1, seed=1), "far": randn(16, scale=6e3)}
    for x in logits.values():
        for real in (True, False):
            for is_disc in (True, False):
                loss = GANLoss(kind, 0.9, 0.1, loss_weight=5e-3)
                assert_exact(lambda x, f=loss, r=real, d=is_disc: f(x, r, is_disc=d), x, dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", [L1Loss, MSELoss])
@pytest.mark.parametrize("scale", [0.3, 1e4])
def test_a_pixel_loss_is_computed_in_float32(kind: Any, dtype: torch.dtype, scale: float) -> None:
    shape = 4, 3, 64, 64
    pred, gt = randn(*shape, scale=scale), randn(*shape, seed=1, scale=scale).to(dtype)
    weight = randn(4, 1, 64, 64, seed=2).abs().to(dtype)
    for options in ({}, {"reduction": "sum"}, {"sample_wise": True}):
        if options.get("reduction") != "sum" or dtype != torch.float16 or scale < 1:
            assert_exact(lambda x, o=options: kind(**o)(x, gt.to(x)), pred, dtype)
        assert_exact(lambda x, o=options: kind(1e-3, **o)(x, gt.to(x), weight.to(x)), pred, dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_psnr_is_computed_in_float32(dtype: torch.dtype) -> None:
    pred = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    gt = (pred + 1e-3 * randn(4, 3, 16, 16)).to(dtype)
    assert_exact(lambda x: PSNRLoss(1e-3)(x, gt.to(x)), pred, dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("scale", [0.01, 30.0])
def test_a_gram_matrix_is_computed_in_float32(dtype: torch.dtype, scale: float) -> None:
    # Features of relu2_2 for a patch of 128x128: their products add up to 4e6.
    features = randn(1, 128, 64, 64, scale=scale).relu()
    assert float((features.flatten() @ features.flatten()) / 128) > 6.55e4 * (scale > 1)
    target = gram_matrix(randn(1, 128, 64, 64, seed=1, scale=scale).double())

    def style(x: Tensor) -> Tensor:
        gram = gram_matrix(x)
        return F.l1_loss(gram, target.to(gram.dtype)) / target.abs().max().to(gram.dtype)

    assert_exact(style, features, dtype)


def test_a_gram_matrix_of_the_largest_features_is_finite() -> None:
    largest = 6e4
    gram = gram_matrix(torch.full((1, 2, 64, 64), largest, dtype=torch.float16))
    torch.testing.assert_close(gram, torch.full((1, 2, 2), largest) ** 2 / 2, rtol=1e-4, atol=0)


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(random_vgg19_state_dict(depth="relu1_2"), path)
    return str(path)


@pytest.mark.parametrize("criterion", ["l1", "mse", "fro"])
def test_features_of_half_precision_are_compared_in_float32(vgg_file: str, criterion: Any) -> None:
    options = {"criterion": criterion, "feature_scale": 40.0, "pretrained": vgg_file}
    loss = PerceptualLoss({"relu1_2": 1.0}, **options)
    seen: list[Tensor] = []
    loss.vgg.register_forward_hook(lambda _m, _a, out: seen.append(out["relu1_2"]))
    pred, gt = randn(1, 3, 64, 64).tanh().requires_grad_(), randn(1, 3, 64, 64, seed=1).tanh()
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(pred, gt)
    real, fake = seen
    assert fake.dtype == torch.bfloat16
    a, b = fake.detach().double().requires_grad_(), real.double()
    rows = [40 * x.flatten(2) for x in (a, b)]
    gram = [x @ x.mT / x[0].numel() for x in rows]
    distance = {"l1": F.l1_loss, "mse": F.mse_loss, "fro": lambda x, y: (x - y).norm()}[criterion]
    for value, expected in zip(found, (distance(*rows), distance(*gram)), strict=True):
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=0)
        (slope,) = torch.autograd.grad(expected, a, retain_graph=True)
        (gradient,) = torch.autograd.grad(value, fake, retain_graph=True)
        # One rounding to bfloat16; the two uses of the features add up before it.
        atol = 1e-4 * float(slope.abs().max())
        torch.testing.assert_close(gradient.double(), slope, rtol=2**-7, atol=atol)


@pytest.mark.parametrize("dtype", HALF)
def test_images_of_half_precision_reach_vgg_with_all_their_levels(
    vgg_file: str, dtype: torch.dtype
) -> None:
    loss = PerceptualLoss({"relu1_2": 1.0}, style_weight=0, pretrained=vgg_file)
    image, gt = randn(1, 3, 32, 32).tanh().to(dtype), randn(1, 3, 32, 32, seed=1).tanh()
    content, _ = loss(image, gt)
    expected, _ = loss.double()(image.double(), gt.double())
    torch.testing.assert_close(content.double(), expected, rtol=1e-5, atol=0)
    content, _ = loss.to(dtype)(image, gt.to(dtype))  # weights of half precision, too
    torch.testing.assert_close(content.double(), expected, rtol=3e-2, atol=0)


def test_a_toolbox_s_losses_get_float32_from_the_objectives_under_autocast() -> None:
    seen: list[torch.dtype] = []

    def loss(x: Tensor, *others: Any, **_: Any) -> Tensor:
        seen.extend(t.dtype for t in (x, *others) if isinstance(t, Tensor))
        return x.mean()

    half = torch.ones(1, 3, 4, 4, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        generator_objective(
            half,
            half,
            pixel=loss,
            perceptual=lambda x, y: (loss(x, y), None),
            gan=loss,
            fake_logits=half,
        )
        list(discriminator_objective(lambda logits: logits, half, half, loss))
    assert len(seen) == 7
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize("kind", [ModifiedVGG, SRGANDiscriminator])
def test_logits_are_not_rounded_under_autocast_and_have_the_type_of_the_weights(kind: Any) -> None:
    judge = kind(mid_channels=2, input_size=32)
    with torch.no_grad():
        judge.linear2.bias.fill_(100.0)
        judge.linear2.weight.mul_(1e-2)
    x = randn(4, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        logits = judge(x)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, judge(x), rtol=0, atol=1e-2)
    assert len(logits.unique()) == 4  # multiples of 0.5 would be one
    assert judge.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


def test_batch_normalisation_has_statistics_of_float32_under_autocast() -> None:
    judge = ModifiedVGG(mid_channels=4, input_size=32)
    inputs: dict[str, Tensor] = {}
    norms = {name: m for name, m in judge.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for name, norm in norms.items():
        norm.momentum = 1.0
        norm.register_forward_pre_hook(lambda _m, args, n=name: inputs.update({n: args[0].clone()}))
    with torch.autocast("cpu", torch.bfloat16):
        judge(5 + randn(16, 3, 32, 32))
    for name, norm in norms.items():
        feat = inputs[name].double()
        assert inputs[name].dtype == torch.bfloat16
        mean, var = feat.mean((0, 2, 3)), feat.var((0, 2, 3))
        torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(norm.running_var.double(), var, rtol=1e-4, atol=1e-7)


@contextmanager
def leaky_relu_with(signs: list[Tensor] | None) -> Iterator[list[Tensor]]:
    """Record where LeakyReLU's input is positive; or take `signs` for it, in order."""
    recorded: list[Tensor] = []
    given = iter(signs or [])

    def leaky(x: Tensor, slope: float, inplace: bool = False) -> Tensor:
        recorded.append(x > 0)
        return torch.where(next(given) if signs else recorded[-1], x, slope * x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "leaky_relu", leaky)
        yield recorded


def test_what_bfloat16_costs_the_discriminator_s_gradient_is_flipped_signs_of_leaky_relu() -> None:
    torch.manual_seed(0)
    judge = ModifiedVGG(mid_channels=8, input_size=32).double()
    smooth = F.interpolate(randn(16, 3, 4, 4).sigmoid(), size=32, mode="bicubic")
    real, fake = (smooth + randn(*smooth.shape, seed=s, scale=0.1 / s) for s in (1, 5))

    def gradient(autocast: bool) -> Tensor:
        dtype = torch.float32 if autocast else torch.float64
        network = judge.to(dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = [network(x.to(dtype)) for x in (real, fake)]
        terms = discriminator_objective(lambda x: x, *logits, GANLoss("vanilla"))
        total = sum(loss for _, loss, _ in terms)
        slopes = torch.autograd.grad(total, list(network.parameters()))
        return torch.cat([slope.flatten().double() for slope in slopes])

    def cosine(a: Tensor) -> float:
        return float(F.cosine_similarity(a, exact, dim=0))

    with leaky_relu_with(None) as signs:
        exact = gradient(autocast=False)
    with leaky_relu_with(None) as rounded:
        as_it_is = gradient(autocast=True)
    with leaky_relu_with(signs):
        true_signs = gradient(autocast=True)
    flips = torch.cat([(a != b).flatten() for a, b in zip(signs, rounded, strict=True)])
    assert 0 < flips.double().mean() < 4e-3
    assert 0.9 < cosine(as_it_is) < 0.999 < cosine(true_signs)
    assert float((true_signs - exact).norm() / exact.norm()) < 0.05
    assert len(list(chain(signs, rounded))) == 44
