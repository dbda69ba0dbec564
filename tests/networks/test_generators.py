import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan_plugin.networks import MSRResNet, SRResNet
from srgan_plugin.networks.blocks import shuffle_channels_last

SHUFFLES = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}
RESIDUAL_KEYS = [
    f"trunk_net.{n}.{conv}.{kind}"
    for n in (0, 1)
    for conv in ("conv1", "conv2")
    for kind in ("weight", "bias")
]


def small(kind, **options):
    torch.manual_seed(0)
    return kind(mid_channels=4, num_blocks=2, **options)


EVERY = [
    pytest.param(
        MSRResNet, {"upscale_factor": scale, "activate_after_shuffle": act}, id=f"{scale}-{act}"
    )
    for scale in (2, 3, 4)
    for act in (False, True)
] + [
    pytest.param(
        SRResNet, {"upscale_factor": scale, "prelu": prelu}, id=f"srresnet-{scale}-{prelu}"
    )
    for scale in (2, 4, 8)
    for prelu in ("shared", "channel")
]


@pytest.mark.parametrize(("scale", "count"), [(2, 1_369_859), (3, 1_554_499), (4, 1_517_571)])
def test_msrresnet_has_the_published_number_of_parameters(scale, count):
    network = MSRResNet(upscale_factor=scale)
    assert sum(p.numel() for p in network.parameters()) == count


def test_srresnet_has_the_number_of_parameters_that_the_paper_s_layers_add_up_to():
    ends = (3 * 81 * 64 + 64) + (64 * 81 * 3 + 3)
    convs = (16 * 2 + 1) * (64 * 9 * 64 + 64)
    norms = (16 * 2 + 1) * 2 * 64
    upsampling = 2 * (64 * 9 * 256 + 256)
    slopes = 1 + 16 + 2
    network = SRResNet()
    assert (
        sum(p.numel() for p in network.parameters()) == ends + convs + norms + upsampling + slopes
    )
    wide = SRResNet(prelu="channel")
    assert (
        sum(p.numel() for p in wide.parameters()) == ends + convs + norms + upsampling + 64 * slopes
    )


@pytest.mark.parametrize("activate_after_shuffle", [False, True])
def test_msrresnet_has_mmagic_s_keys(activate_after_shuffle):
    network = small(MSRResNet, upscale_factor=4, activate_after_shuffle=activate_after_shuffle)
    assert list(network.state_dict()) == [
        "conv_first.weight",
        "conv_first.bias",
        *RESIDUAL_KEYS,
        "upsample1.upsample_conv.weight",
        "upsample1.upsample_conv.bias",
        "upsample2.upsample_conv.weight",
        "upsample2.upsample_conv.bias",
        "conv_hr.weight",
        "conv_hr.bias",
        "conv_last.weight",
        "conv_last.bias",
    ]
    assert not any("upsample2" in key for key in small(MSRResNet, upscale_factor=3).state_dict())


def test_srresnet_has_keys_in_the_same_style():
    keys = list(SRResNet(mid_channels=4, num_blocks=1, upscale_factor=2).state_dict())
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert keys == [
        "conv_first.weight",
        "conv_first.bias",
        "act_first.weight",
        "trunk_net.0.conv1.weight",
        "trunk_net.0.conv1.bias",
        *(f"trunk_net.0.bn1.{kind}" for kind in norm),
        "trunk_net.0.act.weight",
        "trunk_net.0.conv2.weight",
        "trunk_net.0.conv2.bias",
        *(f"trunk_net.0.bn2.{kind}" for kind in norm),
        "conv_trunk.weight",
        "conv_trunk.bias",
        *(f"bn_trunk.{kind}" for kind in norm),
        "upsample1.upsample_conv.weight",
        "upsample1.upsample_conv.bias",
        "upsample1.act.weight",
        "conv_last.weight",
        "conv_last.bias",
    ]


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("activate", [False, True])
def test_msrresnet_equals_a_slow_version_with_its_gradients(slow, scale, activate):
    def reference(state, x):
        feat = slow.rectify(slow.conv2d(x, state, "conv_first"), 0.1)
        for n in range(2):
            inner = slow.rectify(slow.conv2d(feat, state, f"trunk_net.{n}.conv1"))
            feat = feat + slow.conv2d(inner, state, f"trunk_net.{n}.conv2")
        for n, factor in enumerate(SHUFFLES[scale], start=1):
            feat = slow.pixel_shuffle(
                slow.conv2d(feat, state, f"upsample{n}.upsample_conv"), factor
            )
            feat = slow.rectify(feat, 0.1) if activate else feat
        feat = slow.rectify(slow.conv2d(feat, state, "conv_hr"), 0.1)
        return slow.conv2d(feat, state, "conv_last") + slow.bilinear(x, scale)

    network = small(MSRResNet, upscale_factor=scale, activate_after_shuffle=activate)
    slow.assert_same_function(network, reference, torch.rand(2, 3, 5, 4))


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("prelu", ["shared", "channel"])
@pytest.mark.parametrize("output_range", [(0, 1), (-1, 1)])
@pytest.mark.parametrize("training", [True, False])
def test_srresnet_equals_a_slow_version_with_its_gradients(
    slow, scale, prelu, output_range, training
):
    def reference(state, x):
        first = slow.rectify(slow.conv2d(x, state, "conv_first"), state["act_first.weight"])
        feat = first
        for n in (f"trunk_net.{n}" for n in range(2)):
            inner = slow.batch_norm(
                slow.conv2d(feat, state, f"{n}.conv1"), state, f"{n}.bn1", training
            )
            inner = slow.conv2d(slow.rectify(inner, state[f"{n}.act.weight"]), state, f"{n}.conv2")
            feat = feat + slow.batch_norm(inner, state, f"{n}.bn2", training)
        feat = slow.conv2d(feat, state, "conv_trunk")
        feat = slow.batch_norm(feat, state, "bn_trunk", training) + first
        for n, factor in enumerate(SHUFFLES[scale], start=1):
            feat = slow.pixel_shuffle(
                slow.conv2d(feat, state, f"upsample{n}.upsample_conv"), factor
            )
            feat = slow.rectify(feat, state[f"upsample{n}.act.weight"])
        out = slow.conv2d(feat, state, "conv_last")
        return out if output_range == (0, 1) else out / 2 + 0.5

    network = small(SRResNet, upscale_factor=scale, prelu=prelu, output_range=output_range)
    slow.assert_same_function(network.train(training), reference, torch.rand(2, 3, 3, 4))


@pytest.mark.parametrize(("activate", "upsampling"), [(False, 1.0), (True, 0.1)])
def test_msrresnet_starts_from_the_host_s_distribution(activate, upsampling):
    torch.manual_seed(0)
    for name, parameter in MSRResNet(
        num_blocks=2, activate_after_shuffle=activate
    ).named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            he = math.sqrt(2 / parameter[0].numel())
            expected = he * (upsampling if "upsample" in name else 0.1)
            assert parameter.std().item() == pytest.approx(expected, rel=0.1)
            assert abs(parameter.mean().item()) < 0.1 * expected


@pytest.mark.parametrize(("kind", "options"), EVERY)
@settings(max_examples=5, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), batch=st.integers(1, 3))
def test_any_size_is_upscaled_by_the_scale(kind, options, height, width, batch):
    scale = options["upscale_factor"]
    out = small(kind, **options).eval()(torch.rand(batch, 3, height, width))
    assert out.shape == (batch, 3, height * scale, width * scale)


@pytest.mark.parametrize(("kind", "options"), EVERY)
def test_memory_format_and_autocast_change_nothing_but_rounding(kind, options):
    network, x = small(kind, **options).eval(), torch.rand(2, 3, 7, 6)
    expected = network(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(network(x).float(), expected, rtol=0.05, atol=0.05)
    network = network.to(memory_format=torch.channels_last)
    last = network(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [MSRResNet, SRResNet])
def test_a_generator_compiles_into_one_graph(kind):
    network, x = small(kind).eval(), torch.rand(1, 3, 6, 5)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), network(x))


def test_grey_images_may_stay_grey_or_become_colour():
    assert MSRResNet(1, 1, 4, 1)(torch.rand(1, 1, 4, 4)).shape == (1, 1, 16, 16)
    assert MSRResNet(1, 3, 4, 1)(torch.rand(1, 1, 4, 4)).shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (MSRResNet, {"upscale_factor": 8}, "upscale_factor.*2, 3, 4.*8"),
        (SRResNet, {"upscale_factor": 5}, "upscale_factor.*2, 3, 4, 8.*5"),
        (SRResNet, {"shuffles": (2, 3)}, r"shuffles.*upscale_factor=4.*\(2, 3\)"),
        (SRResNet, {"shuffles": 4}, "shuffles.*4"),
        (SRResNet, {"shuffles": (4, 1)}, r"shuffles.*\(4, 1\)"),
        (SRResNet, {"prelu": "each"}, "prelu.*'shared', 'channel'.*'each'"),
        (
            SRResNet,
            {"output_range": [0, 255]},
            r"output_range.*\(0.0, 1.0\), \(-1.0, 1.0\).*\(0, 255\)",
        ),
        (MSRResNet, {"out_channels": 1}, r"in_channels.*out_channels.*3"),
    ],
)
def test_a_wrong_option_gets_one_line_that_names_the_choices(kind, options, message):
    with pytest.raises(ValueError, match=message) as error:
        kind(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("factor", [2, 3])
def test_pixels_shuffled_channels_last_are_torchs_and_so_is_their_gradient(factor):
    x = torch.rand(2, 3 * factor**2, 4, 5).to(memory_format=torch.channels_last)
    results = []
    for shuffle in (shuffle_channels_last, torch.nn.functional.pixel_shuffle):
        image = x.detach().requires_grad_()
        shuffled = shuffle(image, factor)
        weight = torch.linspace(0, 1, shuffled.numel()).view(shuffled.shape)
        gradient = weight.to(memory_format=torch.channels_last)
        results.append((shuffled, *torch.autograd.grad(shuffled, image, gradient)))
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)
    for ours in results[0]:
        assert ours.is_contiguous(memory_format=torch.channels_last)
