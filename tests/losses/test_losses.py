import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from skimage.metrics import peak_signal_noise_ratio
from torch import nn

from srgan_plugin.losses import GANLoss, L1Loss, MSELoss, PerceptualLoss, PSNRLoss, gram_matrix
from srgan_plugin.networks import random_vgg19_state_dict

PIXEL = {L1Loss: (np.abs, np.sign), MSELoss: (np.square, lambda d: 2 * d)}


def pair(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pred = torch.rand(shape, dtype=torch.float64, generator=generator)
    return pred.requires_grad_(), torch.rand(shape, dtype=torch.float64, generator=generator)


def test_the_loss_is_the_negative_mean_psnr_of_scikit_image():
    pred, target = pair(3, 3, 7, 9)
    with torch.no_grad():
        pred[0] = target[0] + 0.01 * (pred[0] - target[0])  # 40 dB more than the others
    images = zip(pred.detach().numpy(), target.numpy(), strict=True)
    values = [peak_signal_noise_ratio(gt, sr, data_range=1) for sr, gt in images]
    assert PSNRLoss(2.0, eps=0)(pred, target).item() == pytest.approx(
        -2 * np.mean(values), rel=1e-9
    )
    assert max(values) > 40
    # At eps, an exact image neither has an infinite loss nor a gradient that is not finite.
    exact = target.clone().requires_grad_()
    loss = PSNRLoss(eps=1e-6)(exact, target)
    loss.backward()
    assert loss.item() == pytest.approx(-60)
    assert (exact.grad == 0).all()


def test_each_image_has_the_same_share_of_the_gradient():
    pred, target = pair(2, 3, 8, 8)
    with torch.no_grad():
        pred[0] = target[0] + 0.01 * (pred[0] - target[0])
    PSNRLoss(eps=0)(pred, target).backward()
    shares = (pred.grad * (pred.detach() - target)).sum((1, 2, 3))
    assert shares[0].item() == pytest.approx(shares[1].item(), rel=1e-9)


@pytest.mark.parametrize("kind", PIXEL)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("sample_wise", [False, True])
@settings(max_examples=8, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 4)] * 4),
    channels=st.sampled_from(["none", "one", "all"]),
    seed=st.integers(0, 99),
)
def test_a_pixel_loss_equals_its_closed_form_with_its_gradient(
    kind, reduction, sample_wise, shape, channels, seed
):
    pred, target = pair(*shape, seed=seed)
    rng = np.random.default_rng(seed)
    weight = None
    if channels != "none":
        weight = rng.uniform(0.1, 2, (shape[0], 1 if channels == "one" else shape[1], *shape[2:]))
    loss_fn = kind(loss_weight=0.3, reduction=reduction, sample_wise=sample_wise)
    loss = loss_fn(pred, target, None if weight is None else torch.from_numpy(weight))

    value, slope = PIXEL[kind]
    error = (pred.detach() - target).numpy()
    full = np.ones(shape) if weight is None else np.broadcast_to(weight, shape)
    share = 0.3 * full
    if reduction == "mean" and sample_wise and weight is not None:
        share = share / full.sum(axis=(1, 2, 3), keepdims=True) / shape[0]
    elif reduction == "mean":
        share = share / full.sum()
    expected = share * value(error)
    found = loss.detach().numpy()
    np.testing.assert_allclose(found, expected if reduction == "none" else expected.sum())
    (gradient,) = torch.autograd.grad(loss.sum(), pred)
    np.testing.assert_allclose(gradient.numpy(), share * slope(error))


@pytest.mark.parametrize("kind", PIXEL)
@pytest.mark.parametrize("sample_wise", [False, True])
def test_what_has_weight_zero_does_not_count(kind, sample_wise):
    pred, target = pair(2, 3, 4, 4)
    weight = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    weight[0, :, :2] = 1
    loss = kind(sample_wise=sample_wise)(pred, target, weight)
    inside = kind()(pred[:1, :, :2], target[:1, :, :2])
    torch.testing.assert_close(loss, inside / 2 if sample_wise else inside)
    assert kind(sample_wise=sample_wise)(pred, target, weight * 0) == 0


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(random_vgg19_state_dict(depth="relu2_2"), path)
    return path


def slow_features(file, x, layers, use_input_norm):
    """VGG's first two blocks as torchvision numbers them."""
    state = torch.load(file)
    if use_input_norm:
        mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        x = (x - mean) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    found = {}
    for index in range(9):
        if index in (0, 2, 5, 7):
            weight = state[f"features.{index}.weight"].double()
            x = nn.functional.conv2d(x, weight, padding=1)
        else:
            x = nn.functional.max_pool2d(x, 2) if index == 4 else x.clamp(min=0)
        found[str(index)] = x
    return {name: found[name] for name in layers}


DISTANCES = {
    "l1": lambda d: d.abs().mean(),
    "mse": lambda d: (d**2).mean(),
    "fro": lambda d: (d**2).sum().sqrt(),
}


@pytest.mark.parametrize("criterion", DISTANCES)
@pytest.mark.parametrize("norm_img", [False, True])
@pytest.mark.parametrize("use_input_norm", [False, True])
@pytest.mark.parametrize("style", [None, {"3": 2.0}, {"2": 0.5, "7": 1.5}])
@pytest.mark.parametrize("feature_scale", [1.0, 1 / 12.75])
def test_perceptual_and_style_equal_a_slow_version_with_their_gradients(
    vgg_file, criterion, norm_img, use_input_norm, style, feature_scale
):
    content = {"8": 0.7, "2": 1.3}
    loss = PerceptualLoss(
        content,
        style,
        use_input_norm=use_input_norm,
        perceptual_weight=0.9,
        style_weight=1.1,
        norm_img=norm_img,
        pretrained=vgg_file,
        criterion=criterion,
        feature_scale=feature_scale,
    ).double()
    pred, gt = pair(2, 3, 8, 6)
    names = {**content, **(style or {})}
    fake, real = (
        slow_features(vgg_file, (x + 1) / 2 if norm_img else x, names, use_input_norm)
        for x in (pred, gt)
    )
    fake, real = ({name: f * feature_scale for name, f in both.items()} for both in (fake, real))

    def gram(f):
        return torch.einsum("nchw,ndhw->ncd", f, f) / f[0].numel()

    distance = DISTANCES[criterion]
    expected = (
        0.9 * sum(w * distance(fake[name] - real[name]) for name, w in content.items()),
        1.1
        * sum(w * distance(gram(fake[n]) - gram(real[n])) for n, w in (style or content).items()),
    )
    for found, value in zip(loss(pred, gt), expected, strict=True):
        torch.testing.assert_close(found, value)
        slope = torch.autograd.grad(value, pred, retain_graph=True)
        torch.testing.assert_close(torch.autograd.grad(found, pred, retain_graph=True), slope)


def test_one_pass_over_each_image_serves_both_terms_and_only_the_generated_one_has_a_graph(
    vgg_file,
):
    loss = PerceptualLoss({"relu2_2": 1.0}, {"relu1_1": 1.0}, pretrained=vgg_file).double()
    passes = []
    loss.vgg.register_forward_hook(
        lambda _module, _args, out: passes.append(out["relu2_2"].requires_grad)
    )
    pred, gt = pair(1, 3, 8, 8)
    gt.requires_grad_()
    sum(loss(pred, gt)).backward()
    assert sorted(passes) == [False, True]
    assert gt.grad is None
    assert pred.grad.abs().sum() > 0


def test_a_term_without_weight_is_skipped_and_its_layers_are_not_needed(vgg_file):
    pred, gt = pair(1, 3, 8, 8)
    content, style = PerceptualLoss({"8": 1.0}, style_weight=0, pretrained=vgg_file).double()(
        pred, gt
    )
    assert content > 0
    assert style is None
    content, style = PerceptualLoss(
        {"conv5_4": 1.0}, {"8": 1.0}, perceptual_weight=0, pretrained=vgg_file
    ).double()(pred, gt)
    assert content is None
    assert style > 0
    nothing = PerceptualLoss(
        {"34": 1.0}, perceptual_weight=0, style_weight=0, pretrained="never read"
    )
    assert nothing(pred, gt) == (None, None)


def test_a_perceptual_loss_adds_nothing_to_a_checkpoint(vgg_file):
    loss = PerceptualLoss({"8": 1.0}, pretrained=vgg_file)
    assert not loss.state_dict()
    assert not list(loss.parameters())


def test_the_gram_matrix_takes_channels_last_features():
    features = torch.rand(2, 3, 4, 5)
    last = features.to(memory_format=torch.channels_last)
    torch.testing.assert_close(gram_matrix(last), gram_matrix(features))


SOFTPLUS = (lambda x: np.logaddexp(0, x), expit)


def slow_gan(kind, x, real, is_disc, label):
    """Value and slope for each logit; the loss is their mean."""
    sign = -1.0 if real else 1.0
    if kind == "vanilla":
        value = label * SOFTPLUS[0](-x) + (1 - label) * SOFTPLUS[0](x)
        return value, expit(x) - label
    if kind in ("lsgan", "l1"):
        error = x - label
        return (error**2, 2 * error) if kind == "lsgan" else (np.abs(error), np.sign(error))
    if kind == "wgan":
        return sign * x, np.full_like(x, sign)
    if kind == "wgan_softplus":
        return SOFTPLUS[0](sign * x), sign * SOFTPLUS[1](sign * x)
    if not is_disc:
        return -x, -np.ones_like(x)
    return np.maximum(0, 1 + sign * x), np.where(1 + sign * x > 0, sign, 0.0)


@pytest.mark.parametrize("kind", ["vanilla", "lsgan", "l1", "wgan", "wgan_softplus", "hinge"])
@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("is_disc", [True, False])
@pytest.mark.parametrize("labels", [(1.0, 0.0), (0.9, 0.1)])
def test_a_gan_loss_equals_its_closed_form_with_its_gradient(kind, real, is_disc, labels):
    logits = torch.linspace(-3, 2.9, 12, dtype=torch.float64).view(6, 2).requires_grad_()
    loss = GANLoss(kind, *labels, loss_weight=5e-3)(logits, real, is_disc=is_disc)
    value, slope = slow_gan(kind, logits.detach().numpy(), real, is_disc, labels[0 if real else 1])
    weight = 1 if is_disc else 5e-3
    np.testing.assert_allclose(loss.item(), weight * value.mean())
    (gradient,) = torch.autograd.grad(loss, logits)
    np.testing.assert_allclose(gradient.numpy(), weight * slope / 12)


@pytest.mark.parametrize("kind", ["vanilla", "wgan_softplus"])
def test_certain_logits_overflow_nothing(kind):
    logits = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = GANLoss(kind)(logits, True)
    assert loss.item() == 5e3
    assert torch.autograd.grad(loss, logits)[0].tolist() == [-0.5, 0.0]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: L1Loss(reduction="avg"),
            "reduction.*'none', 'mean', 'sum'.*'avg'",
        ),
        (lambda: GANLoss("dcgan"), "gan_type.*'vanilla', .*'hinge'.*'dcgan'"),
        (
            lambda: PerceptualLoss({"34": 1}, criterion="l2"),
            "criterion.*'l1', .*'l2'",
        ),
        (
            lambda: PerceptualLoss({"34": 1}, vgg_type="vgg16"),
            "vgg_type.*'vgg19'.*'vgg16'",
        ),
        (
            lambda: L1Loss()(torch.ones(1, 3, 2, 2), torch.ones(1, 3, 4, 4)),
            r"shape.*\[1, 3, 2, 2\].*\[1, 3, 4, 4\]",
        ),
        (
            lambda: PSNRLoss()(torch.ones(1, 3, 4, 4), torch.ones(1, 3, 2, 2)),
            r"shape.*\[1, 3, 4, 4\].*\[1, 3, 2, 2\]",
        ),
        (lambda: PSNRLoss()(*[torch.ones(3, 4, 4)] * 2), r"\(N, C, H, W\).*\[3, 4, 4\]"),
        (lambda: PSNRLoss(eps=-1), r"eps.*-1"),
        (lambda: PSNRLoss(eps=float("inf")), r"eps.*inf"),
        (lambda: PSNRLoss(reduction="sum"), r"reduction.*'mean', got 'sum'"),
        (lambda: PSNRLoss(loss_weight="1"), r"loss_weight.*'1'"),
        (lambda: L1Loss(loss_weight=-1), r"loss_weight.*-1"),
        (lambda: GANLoss("vanilla", loss_weight=True), r"loss_weight.*True"),
        (
            lambda: MSELoss()(*[torch.ones(2, 3, 4, 4)] * 2, torch.ones(1, 3, 4, 4)),
            r"weight.*\[2, 3, 4, 4\].*\[1, 3, 4, 4\]",
        ),
    ],
)
def test_a_wrong_option_or_shape_gets_one_line(build, message):
    with pytest.raises(ValueError, match=message) as error:
        build()
    assert "\n" not in str(error.value)
