"""Test tiled upscaling, running out of memory, and interpolation of weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srgan_plugin import upscale
from srgan_plugin.checkpoints import hub
from srgan_plugin.data.resize import imresize
from srgan_plugin.errors import UserError
from srgan_plugin.inference import Upscaler, open_model
from srgan_plugin.inference.tiling import Interval
from srgan_plugin.io.download import sha256
from srgan_plugin.networks import ModifiedVGG, MSRResNet, SRResNet

SMALL = {"mid_channels": 8, "num_blocks": 2}
CASES = {
    "msrresnet x2": (MSRResNet, {"upscale_factor": 2}),
    "msrresnet x3": (MSRResNet, {"upscale_factor": 3, "activate_after_shuffle": True}),
    "msrresnet x4": (MSRResNet, {"upscale_factor": 4}),
    "srresnet x2": (SRResNet, {"upscale_factor": 2, "output_range": (-1, 1)}),
    "srresnet x4": (SRResNet, {"upscale_factor": 4, "prelu": "channel"}),
    "srresnet x8": (SRResNet, {"upscale_factor": 8}),
}


def rough(cls, seed=0, **options):
    """Return a network with large random weights; initial ones are too small to show a seam."""
    torch.manual_seed(seed)
    network = cls(**SMALL, **options).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_((torch.rand_like(weight) - 0.5) * 0.2)
    return network


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def whole(network, image):
    """Upscale an image in one piece, by the forward pass of the network."""
    top = np.iinfo(image.dtype).max
    x = torch.from_numpy(image.astype(np.float32) / top).permute(2, 0, 1)[None]
    with torch.no_grad():
        return np.rint(network(x).clamp(0, 1)[0].permute(1, 2, 0).numpy() * top)


def apart(a, b):
    return np.abs(np.asarray(a, float) - np.asarray(b, float)).max()


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=6, deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), tile=st.integers(16, 40))
def test_a_tiled_result_differs_from_the_untiled_one_by_at_most_one_level(
    name, height, width, tile
):
    cls, options = CASES[name]
    network, image = rough(cls, **options), noise(height, width, 3, seed=height)
    assert apart(Upscaler(network, tile=tile, device="cpu")(image), whole(network, image)) <= 1


@pytest.mark.parametrize("name", CASES)
def test_the_receptive_radius_is_that_of_the_gradients(name):
    """Compare with the inputs for which the gradient in float64 is not zero."""
    cls, options = CASES[name]
    network = rough(cls, **options).double()
    scale, middle = network.upscale_factor, 24
    x = torch.rand(1, 3, 49, 49, dtype=torch.float64)
    features = network.extract_features(x).detach().requires_grad_()

    def extent(output, source):
        """Return the distance of the middle pixel to the furthest input that affects `output`."""
        (gradient,) = torch.autograd.grad(output, source)
        at = gradient.abs().sum((0, 1)).nonzero()
        return int((at - middle).abs().max())

    inside = slice(middle * scale, (middle + 1) * scale)
    result = network.reconstruct(features, x)[..., inside, inside].abs().sum()
    assert extent(result, features) <= network.receptive_radius[1]
    seen = x.clone().requires_grad_()
    assert (
        extent(network.extract_features(seen)[..., middle, middle].sum(), seen)
        == network.receptive_radius[0]
    )


def test_the_receptive_radius_of_a_full_size_msrresnet_is_35_as_documented():
    assert sum(MSRResNet().receptive_radius) == 35


@settings(deadline=None)
@given(start=st.integers(0, 9), size=st.integers(1, 200), largest=st.integers(1, 50))
def test_parts_of_an_interval_cover_it_once_and_none_is_too_large(start, size, largest):
    parts = Interval(start, start + size).parts(largest)
    covered = [pixel for part in parts for pixel in range(part.start, part.stop)]
    assert covered == list(range(start, start + size))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) <= largest
    assert max(sizes) - min(sizes) <= 1


def test_16_bit_images_keep_their_levels():
    network, image = rough(MSRResNet), noise(20, 31, 3, dtype=np.uint16)
    out = Upscaler(network, tile=16, device="cpu")(image)
    assert out.dtype == np.uint16
    assert apart(out, whole(network, image)) <= 2  # of 65535


def test_grey_is_the_mean_of_the_result_for_three_equal_channels():
    network, grey = rough(MSRResNet), noise(20, 31)
    out = Upscaler(network, tile=16, device="cpu")(grey)
    assert out.shape == (80, 124)
    colours = whole(network, np.repeat(grey[..., None], 3, axis=2))
    assert apart(out, colours.mean(2)) <= 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colours", [1, 3])
def test_alpha_is_upscaled_separately_and_opaque_pixels_stay_opaque(dtype, colours):
    upscaler = Upscaler(rough(MSRResNet), tile=16, device="cpu")
    top, image = np.iinfo(dtype).max, noise(50, 30, colours + 1, dtype=dtype)
    image[..., -1] = top
    image[10:40, 10:20, -1] = 0
    out = upscaler(image)
    assert apart(out[..., :-1], upscaler(image[..., :-1])) == 0
    smooth = imresize(image[..., -1].astype(float), 4).clip(0, top)
    assert apart(out[..., -1], smooth) < 0.08 * top  # OpenCV's cubic is a little sharper
    assert (out[:32, :, -1] == top).all()
    assert (out[52:148, 52:68, -1] == 0).all()


def runs_out_above(network, pixels, error):
    """Make a network raise `error` for more than `pixels` pixels; return the sizes it was given."""
    features, sizes = network.extract_features, []

    def limited(x):
        sizes.append(x.shape[2] * x.shape[3])
        if sizes[-1] > pixels:
            raise error
        return features(x)

    network.extract_features = limited
    return sizes


GPU = torch.OutOfMemoryError("CUDA out of memory.")
CPU = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: tried 1 bytes")


@pytest.mark.parametrize("error", [GPU, CPU, MemoryError()])
def test_the_tile_is_halved_when_memory_runs_out(error):
    network, image = rough(MSRResNet), noise(100, 90, 3)
    expected = whole(network, image)
    runs_out_above(network, 60 * 60, error)
    upscaler, seen = Upscaler(network, tile=128, device="cpu"), []
    out = np.concatenate(list(upscaler.strips(image, seen.append)))
    assert apart(out, expected) <= 1
    assert upscaler.tile == 64
    assert max(seen) <= 400 * 360


def test_an_image_of_which_no_tile_fits_is_an_error_and_other_errors_are_raised():
    network = rough(MSRResNet)
    runs_out_above(network, 10, GPU)
    with pytest.raises(MemoryError, match=r"memory.*16"):
        Upscaler(network, tile=64, device="cpu")(noise(90, 90, 3))
    other = rough(MSRResNet)
    runs_out_above(other, 10, RuntimeError("weights and input differ"))
    with pytest.raises(RuntimeError, match="weights and input differ"):
        Upscaler(other, device="cpu")(noise(90, 90, 3))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4, 3)), "float64"),
        (noise(4, 4, 5), r"uint8.*\(4, 4, 5\)"),
        (noise(4, 4, 3, 1), r"uint8.*\(4, 4, 3, 1\)"),
        (noise(0, 4, 3), r"\(0, 4, 3\)"),
    ],
)
def test_arrays_that_are_not_images_are_refused(image, said):
    with pytest.raises(ValueError, match=said):
        Upscaler(rough(MSRResNet), device="cpu")(image)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tile": 8}, "tile.*16.*8"),
        ({"precision": "float16", "device": "cpu"}, "float32 or bfloat16.*cpu.*float16"),
        ({"device": "tpu"}, "device.*auto.*cpu.*cuda.*tpu"),
    ],
)
def test_invalid_options_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Upscaler(rough(MSRResNet), **options)


def saved(path, network):
    torch.save(network.state_dict(), path)
    return str(path)


def test_a_blend_interpolates_every_weight(tmp_path):
    a, b = rough(MSRResNet), rough(MSRResNet, seed=1)
    files = saved(tmp_path / "a.pth", a), saved(tmp_path / "b.pth", b)
    for share in (0, 0.25, 1):
        blend = open_model(files[0], blend=share, blend_with=files[1]).state_dict()
        for key, weight in a.state_dict().items():
            mixed = (1 - share) * weight + share * b.state_dict()[key]
            torch.testing.assert_close(blend[key], mixed)
    image = noise(9, 8, 3)
    out = upscale(image, model=files[0], blend=1, blend_with=files[1], device="cpu")
    assert apart(out, whole(b, image)) <= 1


def test_networks_of_different_architectures_are_not_blended(tmp_path):
    network = rough(MSRResNet)
    file = saved(tmp_path / "a.pth", network)
    others = {
        "x2": rough(MSRResNet, upscale_factor=2),
        "larger": MSRResNet(mid_channels=8, num_blocks=3),
        "srresnet": rough(SRResNet),
    }
    basicsr = {
        key.replace("trunk_net", "body")
        .replace("upsample1.upsample_conv", "upconv1")
        .replace("upsample2.upsample_conv", "upconv2"): weight
        for key, weight in network.state_dict().items()
    }
    torch.save({"params": basicsr}, tmp_path / "basicsr.pth")
    with pytest.raises(ValueError, match=r"a\.pth.*basicsr\.pth"):
        open_model(file, blend=0.5, blend_with=str(tmp_path / "basicsr.pth"))
    with pytest.raises(ValueError, match=r"activate_after_shuffle.*False.*True.*--arch-option"):
        open_model(file, blend=0.5, blend_with=str(tmp_path / "basicsr.pth"))
    for name, other in others.items():
        # The output range of an SRResNet is required first.
        with pytest.raises(ValueError, match=rf"a\.pth.*{name}\.pth|srresnet.*output_range"):
            open_model(file, blend=0.5, blend_with=saved(tmp_path / f"{name}.pth", other))
    with pytest.raises(ValueError, match=r"a\.pth twice|a\.pth.*a\.pth"):
        open_model(file, blend=0.5, blend_with=file)
    with pytest.raises(ValueError, match=r"blend.*0.*1.*1\.5"):
        open_model(file, blend=1.5, blend_with=file)


def test_a_discriminator_and_a_grey_network_are_refused_by_name(tmp_path):
    vgg = saved(tmp_path / "d.pth", ModifiedVGG(in_channels=3, mid_channels=4))
    with pytest.raises(ValueError, match=r"d\.pth.*generator.*ModifiedVGG"):
        open_model(vgg)
    grey = saved(tmp_path / "g.pth", rough(MSRResNet, in_channels=1, out_channels=1))
    with pytest.raises(ValueError, match=r"g\.pth.*3 to 3.*1 to 1"):
        open_model(grey)


def test_a_name_opens_the_bundled_weights_and_an_unknown_one_is_refused_with_the_known_ones(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(hub, "WEIGHTS", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"SRGAN: .*; models by name: .*srgan"):
        open_model("SRGAN")
    from safetensors.torch import save_file

    network = rough(MSRResNet)
    halves = {key: weight.half() for key, weight in network.state_dict().items()}
    save_file(halves, tmp_path / "srgan.safetensors")
    digest = sha256(tmp_path / "srgan.safetensors")
    (tmp_path / hub.SUMS).write_text(f"{digest}  srgan.safetensors\n")
    opened = open_model("srgan").state_dict()
    assert all(torch.equal(opened[key], weight.float()) for key, weight in halves.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_an_overflow_is_refused_instead_of_clipped_to_white(dtype):
    hint = "float32" if dtype == torch.float16 else "weights"
    network = rough(MSRResNet)
    with torch.no_grad():
        network.conv_last.weight.fill_(6e4 if dtype == torch.float16 else 3e38)
    upscaler = Upscaler(network, device="cpu")
    # As on a GPU: a CPU refuses float16.
    upscaler.backend._network.to(dtype)
    upscaler.backend._stored = upscaler.backend.dtype = dtype
    with pytest.raises(ValueError, match=f"MSRResNet.*{dtype}.*{hint}"):
        upscaler(noise(20, 20, 3))


def test_an_overflow_in_float16_is_named_if_the_backend_returns_float32():
    upscaler = Upscaler(rough(MSRResNet), device="cpu")
    backend = upscaler.backend  # ncnn on a Vulkan device returns float32
    backend.dtype = torch.float16
    backend.reconstruct = lambda _, x: torch.full((1, 3, 4 * x.shape[2], 4 * x.shape[3]), torch.inf)
    with pytest.raises(UserError, match=r"MSRResNet.*float16; use float32"):
        upscaler(noise(20, 20, 3))


def test_a_network_may_be_named_instead_of_opened():
    image = np.random.default_rng(0).integers(0, 256, (16, 18, 3), np.uint8)
    expected = Upscaler(open_model("srgan"), device="cpu")(image)
    np.testing.assert_array_equal(Upscaler("srgan", device="cpu")(image), expected)
    with pytest.raises(FileNotFoundError, match=r"srgam.*srgan"):
        Upscaler("srgam")
    with pytest.raises(UserError, match=r"network.*Conv2d"):
        Upscaler(torch.nn.Conv2d(3, 3, 1))


def test_a_compiled_network_is_used_as_the_network_inside():
    network, image = rough(MSRResNet), noise(9, 8, 3)
    result = Upscaler(torch.compile(network), device="cpu")(image)
    assert np.array_equal(result, Upscaler(network, device="cpu")(image))
