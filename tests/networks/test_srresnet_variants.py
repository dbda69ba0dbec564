"""SRResNet's options: each computes what its name says, and tiles see all that they depend on."""

import inspect
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from srgan_plugin.inference import Upscaler
from srgan_plugin.networks import SRResNet

SMALL = {"mid_channels": 4, "num_blocks": 2}
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
VARIANTS = {
    "input_range": [(-1, 1), "imagenet"],
    "output_range": [(-1, 1), "imagenet"],
    "act": ["relu", "leaky_relu", "swish"],
    "first_act": ["relu", "swish"],
    "norm": ["instance", "instance_affine"],
    "norm_eps": [0.8, 1e-3],
    "trunk_end": ["act"],
    "upsample_norm": [True],
    "last_act": ["tanh"],
    "end_kernels": [(3, 1), (3, 3), (9, 3), (5, 7)],
    "shuffles": [(4,)],
    "depthwise": [True],
}
EVERY = [(name, value) for name, values in VARIANTS.items() for value in values]


@pytest.fixture
def made():
    """A network in evaluation mode whose weights and statistics are far from 0 and 1."""

    def make(**options):
        torch.manual_seed(0)
        network = SRResNet(**SMALL, **options).eval()
        with torch.no_grad():
            for key, tensor in network.state_dict().items():
                if tensor.is_floating_point():
                    tensor.add_(torch.rand_like(tensor) * (0.5 if "bn" in key else 0.1))
        return network

    return make


def norm(kind, eps, module, x):
    if kind == "batch":
        mean, var = (getattr(module, k)[:, None, None] for k in ("running_mean", "running_var"))
    else:
        mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, unbiased=False)
    x = (x - mean) / (var + eps).sqrt()
    if module.weight is not None:
        x = x * module.weight[:, None, None] + module.bias[:, None, None]
    return x


def activate(kind, module, x):
    if kind == "prelu":
        return torch.where(x > 0, x, x * module.weight.view(-1, 1, 1))
    slope = {"relu": 0, "leaky_relu": 0.2}.get(kind)
    return x / (1 + torch.exp(-x)) if slope is None else torch.where(x > 0, x, slope * x)


def by_the_description(net, x, **options):
    """The network's sums, written down from the description of each option."""
    o = {k: p.default for k, p in inspect.signature(SRResNet).parameters.items()} | options
    encode = {"imagenet": lambda v: (v - MEAN) / STD, (-1, 1): lambda v: v * 2 - 1}
    decode = {"imagenet": lambda v: v * STD + MEAN, (-1, 1): lambda v: v / 2 + 0.5}
    x = encode.get(o["input_range"], lambda v: v)(x)
    first = y = activate(o["first_act"] or o["act"], net.act_first, net.conv_first(x))
    for block in net.trunk_net:
        z = norm(o["norm"], o["norm_eps"], block.bn1, block.conv1(y))
        z = block.conv2(activate(o["act"], block.act, z))
        y = y + norm(o["norm"], o["norm_eps"], block.bn2, z)
    y = net.conv_trunk(y)
    if o["trunk_end"] == "norm":
        y = norm(o["norm"], o["norm_eps"], net.bn_trunk, y)
    else:
        y = activate(o["act"], net.act_trunk, y)
    y = y + first
    for n, factor in enumerate(o["shuffles"] or (2, 2), 1):
        up = net.get_submodule(f"upsample{n}")
        y = up.upsample_conv(y)
        if o["upsample_norm"]:
            y = norm("batch", 1e-5, up.upsample_bn, y)
        y = activate(o["act"], up.act, torch.pixel_shuffle(y, factor))
    y = net.conv_last(y)
    y = torch.tanh(y) if o["last_act"] == "tanh" else y
    return decode.get(o["output_range"], lambda v: v)(y)


@pytest.mark.parametrize(("name", "value"), EVERY)
def test_each_option_computes_what_its_description_says(made, name, value):
    network, x = made(**{name: value}), torch.rand(1, 3, 8, 9)
    with torch.no_grad():
        expected = by_the_description(network, x, **{name: value})
        torch.testing.assert_close(network(x), expected, rtol=1e-5, atol=1e-5)


def test_the_defaults_are_the_paper_s_and_add_no_weights():
    plain = SRResNet(**SMALL)
    given = SRResNet(**SMALL, input_range=[0, 1], act="prelu", norm="batch", last_act="none")
    assert list(plain.state_dict()) == list(given.state_dict())
    assert not any("upsample_bn" in key or "act_trunk" in key for key in plain.state_dict())


@pytest.mark.parametrize("kernels", [(9, 9), (3, 1), (3, 3), (9, 3), (5, 7)])
@pytest.mark.parametrize(
    ("scale", "others"),
    [(2, {}), (3, {}), (4, {}), (8, {}), (8, {"shuffles": (8,)}), (4, {"depthwise": True})],
)
@pytest.mark.parametrize("half", [0, 1])
def test_the_stated_radius_covers_all_that_a_pixel_depends_on(made, kernels, scale, others, half):
    """Of each half of the forward pass, by the gradient of one pixel's output."""
    network = made(end_kernels=kernels, upscale_factor=scale, **others).double()
    radius, size = network.receptive_radius[half], 31
    x = torch.rand(1, 3 if half == 0 else 4, size, size, dtype=torch.double, requires_grad=True)
    out = network.extract_features(x) if half == 0 else network.reconstruct(x, x)
    step, reached = (1, scale)[half], 0
    for inner in range(step):  # the corners of a pixel reach furthest
        at = size // 2 * step + inner
        (gradient,) = torch.autograd.grad(out[..., at, at].sum(), x, retain_graph=True)
        seen = gradient[0].abs().sum(0).nonzero() - size // 2
        reached = max(reached, int(seen.abs().max()))
    assert reached <= radius <= reached + 1


IMAGE = np.random.default_rng(0).integers(0, 256, (700, 40, 3)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["instance", "instance_affine"])
def test_statistics_of_the_whole_image_are_those_of_the_whole_image(made, kind):
    """700 pixels are more than the largest tile, and 60 are more than the tile asked for."""
    network = made(norm=kind)
    x = torch.from_numpy(IMAGE).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        whole = by_the_description(network, x, norm=kind).clamp(0, 1)
    expected = (whole[0] * 255).round().permute(1, 2, 0).numpy()
    for tile in ("auto", 64):
        out = Upscaler(network, tile=tile, device="cpu")(IMAGE)
        assert np.abs(out.astype(int) - expected).max() <= 1


def test_an_image_too_large_for_statistics_of_the_whole_is_refused_by_its_size(made):
    network = made(norm="instance")
    image = np.zeros((2100, 2100, 3), np.uint8)
    with pytest.raises(ValueError, match=r"2100x2100.*instance normalisation"):
        Upscaler(network, device="cpu")(image)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"input_range": (0, 255)}, r"input_range.*imagenet.*\(0, 255\)"),
        ({"output_range": "imagenet", "out_channels": 1}, "output_range.*3 channels.*1"),
        ({"act": "elu"}, "^act: .*swish.*'elu'"),
        ({"first_act": "elu"}, "first_act.*swish.*'elu'"),
        ({"norm": "group"}, "norm.*instance.*'group'"),
        ({"trunk_end": "none"}, "trunk_end.*'norm', 'act'.*'none'"),
        ({"last_act": "sigmoid"}, "last_act.*tanh.*'sigmoid'"),
        ({"end_kernels": (9, 4)}, r"end_kernels.*odd.*\(9, 4\)"),
        ({"end_kernels": 9}, "end_kernels.*two.*9"),
        ({"end_kernels": (-1, 9)}, r"end_kernels.*odd.*\(-1, 9\)"),
        ({"end_kernels": (True, 9)}, r"end_kernels.*odd.*\(True, 9\)"),
        ({"norm_eps": 0}, "norm_eps.*0"),
        ({"norm_eps": "1e-5"}, "norm_eps.*'1e-5'"),
        ({"norm_eps": float("inf")}, "norm_eps.*inf"),
        ({"output_range": None}, "output_range.*None"),
        ({"input_range": 1}, "input_range.*1"),
        ({"first_act": ""}, "first_act.*''"),
        ({"upscale_factor": 4.0}, r"upscale_factor.*integer.*4\.0"),
        ({"upscale_factor": 4.0, "shuffles": (2, 2)}, r"upscale_factor.*integer.*4\.0"),
    ],
)
def test_an_option_out_of_range_is_refused_by_its_name(options, said):
    with pytest.raises(ValueError, match=said) as caught:
        SRResNet(**SMALL, **options)
    assert "\n" not in str(caught.value)


def test_options_mix():
    for act, kind, end in itertools.product(
        ("relu", "swish"), ("batch", "instance"), ("norm", "act")
    ):
        network = SRResNet(**SMALL, act=act, norm=kind, trunk_end=end, upsample_norm=True)
        assert network(torch.rand(1, 3, 4, 5)).shape == (1, 3, 16, 20)
        assert isinstance(network.act_trunk, nn.Identity) == (end == "norm")
