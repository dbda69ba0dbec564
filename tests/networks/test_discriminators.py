from itertools import pairwise

import pytest
import torch

from srgan_plugin.networks import ModifiedVGG, SRGANDiscriminator

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def small(kind, **options):
    torch.manual_seed(0)
    return kind(mid_channels=2, input_size=32, **options)


def test_modified_vgg_has_the_published_number_of_parameters():
    assert sum(p.numel() for p in ModifiedVGG().parameters()) == 14_499_401


def test_the_paper_s_discriminator_has_the_parameters_that_its_layers_add_up_to():
    widths = (3, 64, 64, 128, 128, 256, 256, 512, 512)
    convs = sum(9 * a * b for a, b in pairwise(widths)) + 64
    norms = 2 * sum(widths[2:])
    dense = (512 * 6 * 6 * 1024 + 1024) + (1024 + 1)
    count = sum(p.numel() for p in SRGANDiscriminator().parameters())
    assert count == convs + norms + dense


def test_modified_vgg_has_mmagic_s_keys_and_shapes():
    shapes = {name: tuple(tensor.shape) for name, tensor in ModifiedVGG().state_dict().items()}
    convs = {
        "conv0_0": (64, 3, 3, 3),
        "conv0_1": (64, 64, 4, 4),
        "conv1_0": (128, 64, 3, 3),
        "conv1_1": (128, 128, 4, 4),
        "conv2_0": (256, 128, 3, 3),
        "conv2_1": (256, 256, 4, 4),
        "conv3_0": (512, 256, 3, 3),
        "conv3_1": (512, 512, 4, 4),
        "conv4_0": (512, 512, 3, 3),
        "conv4_1": (512, 512, 4, 4),
    }
    expected = {"conv0_0.bias": (64,)}
    for name, shape in convs.items():
        expected[f"{name}.weight"] = shape
        if name != "conv0_0":
            norm = name.replace("conv", "bn")
            expected |= {f"{norm}.{kind}": shape[:1] for kind in NORM[:4]}
            expected[f"{norm}.num_batches_tracked"] = ()
    expected |= {"linear1.weight": (100, 8192), "linear1.bias": (100,)}
    expected |= {"linear2.weight": (1, 100), "linear2.bias": (1,)}
    assert shapes == expected
    assert list(shapes)[:9] == [
        "conv0_0.weight",
        "conv0_0.bias",
        "conv0_1.weight",
        *(f"bn0_1.{kind}" for kind in NORM),
        "conv1_0.weight",
    ]


def test_six_stages_have_basicsr_s_keys_for_images_of_256():
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in ModifiedVGG(input_size=256, num_stages=6).state_dict().items()
    }
    assert shapes["conv5_0.weight"] == (512, 512, 3, 3)
    assert shapes["conv5_1.weight"] == (512, 512, 4, 4)
    assert shapes["bn5_0.weight"] == shapes["bn5_1.weight"] == (512,)
    assert shapes["linear1.weight"] == (100, 512 * 4 * 4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("kind", "stages"), [(ModifiedVGG, 5), (SRGANDiscriminator, 4)])
def test_a_discriminator_equals_a_slow_version_with_its_gradients(slow, kind, stages, training):
    def reference(state, feat):
        for stage in range(stages):
            for half, stride in ((0, 1), (1, 2)):
                feat = slow.conv2d(feat, state, f"conv{stage}_{half}", stride)
                if (stage, half) != (0, 0):
                    feat = slow.batch_norm(feat, state, f"bn{stage}_{half}", training)
                feat = slow.rectify(feat, 0.2)
        hidden = slow.dense(feat.reshape(len(feat), -1), state, "linear1")
        return slow.dense(slow.rectify(hidden[:, :, None, None], 0.2)[:, :, 0, 0], state, "linear2")

    slow.assert_same_function(small(kind).train(training), reference, torch.rand(3, 3, 32, 32))


@pytest.mark.parametrize("kind", [ModifiedVGG, SRGANDiscriminator])
def test_memory_format_and_autocast_change_nothing_but_rounding(kind):
    network, x = small(kind).eval(), torch.rand(2, 3, 32, 32)
    expected = network(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(network(x).float(), expected, rtol=0.05, atol=0.05)
    network = network.to(memory_format=torch.channels_last)
    last = network(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [ModifiedVGG, SRGANDiscriminator])
def test_a_discriminator_tells_its_shape_on_the_meta_device(kind):
    assert small(kind).to("meta")(torch.rand(2, 3, 32, 32, device="meta")).shape == (2, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ModifiedVGG, SRGANDiscriminator])
def test_a_discriminator_compiles_into_one_graph(kind):
    network, x = small(kind).eval(), torch.rand(2, 3, 32, 32)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), network(x))


@pytest.mark.parametrize(
    ("kind", "step", "sizes"),
    [(ModifiedVGG, 32, (32, 64, 96)), (SRGANDiscriminator, 16, (16, 48, 96))],
)
def test_any_multiple_of_the_halvings_is_a_size(kind, step, sizes):
    for size in sizes:
        logits = kind(mid_channels=2, input_size=size).eval()(torch.rand(2, 3, size, size))
        assert logits.shape == (2, 1)
    for size in (0, step + 8, -step):
        with pytest.raises(
            ValueError, match=rf"input_size.*(multiple of {step} |at least 1).*got {size}"
        ):
            kind(input_size=size)


@pytest.mark.parametrize("kind", [ModifiedVGG, SRGANDiscriminator])
def test_an_image_of_another_size_gets_one_line_with_both_sizes(kind):
    with pytest.raises(ValueError, match=r"ModifiedVGG|SRGANDiscriminator") as error:
        small(kind)(torch.rand(1, 3, 64, 32))
    message = str(error.value)
    assert "\n" not in message
    assert all(part in message for part in ("32x32", "64x32", "input_size", kind.__name__))
