"""Weights of a fork with another function and the same keys are refused."""

import pytest
import torch
import torch.nn.functional as F
from srgan_repositories import CASES, Case, same, trained_looking

from srgan_plugin.checkpoints import open_network
from srgan_plugin.checkpoints.inspect import inspect_checkpoint
from srgan_plugin.checkpoints.plausibility import find_better_arguments
from srgan_plugin.networks import SRResNet

CHECKED = ("act", "input_range", "output_range", "last_act")


def images(random, count=6, size=24):
    """Return smooth colour images in [0, 1], and the same at half the size."""
    large = 0.5 + sum(
        F.interpolate(
            (torch.rand(count, 3, n, n, generator=random) - 0.5) * amplitude,
            (size, size),
            mode="bilinear",
        )
        for n, amplitude in ((1, 0.5), (4, 0.7), (8, 0.4))
    )
    return F.avg_pool2d(large.clamp(0, 1), 2), large.clamp(0, 1)


def train(network, before=same, after=same, steps=150):
    """Train x2 on smooth images; `before` and `after` map [0, 1] to and from its ranges."""
    random = torch.Generator().manual_seed(0)
    trained_looking(network).train()
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if "running_" in key:
                tensor.fill_(float("var" in key))
            elif tensor.ndim == 4:
                tensor.mul_(0.7)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(steps):
        small, large = images(random)
        loss = (after(network(before(small))) - large).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01
    return network.eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return files of bubbliiiing's network: one trained as there, one on [0, 1]."""
    case = CASES["bubbliiiing"]
    fork = Case(case.make, (2,), same, same)
    files = {}
    for name, made in (("original", case), ("fork", fork)):
        torch.manual_seed(0)
        network = train(made.make(2), made.before, made.after)
        path = tmp_path_factory.mktemp("forks") / f"{name}.pth"
        torch.save(network.state_dict(), path)
        small, _ = images(torch.Generator().manual_seed(1), 1)
        files[name] = path, small, made(network, small)
    return files


def test_a_network_of_the_original_repository_opens_without_a_warning(saved, caplog):
    path, image, expected = saved["original"]
    torch.testing.assert_close(open_network(path)(image).clamp(0, 1), expected, rtol=0, atol=1e-5)
    assert "strictly" in inspect_checkpoint(path)["fits"]
    assert not caplog.text


def test_a_fork_with_other_ranges_is_refused_with_the_options_to_give(saved, tool, fails):
    path, image, expected = saved["fork"]
    with pytest.raises(ValueError, match=r"bubbliiiing.*fork") as caught:
        open_network(path)
    said = str(caught.value)
    assert '--arch-option output_range="(0,1)"' in said
    assert "\n" not in said
    assert path.name in said
    assert "output_range" in inspect_checkpoint(path)["fits"]
    assert "output_range" in fails("convert_checkpoint", path, "x.pth", "--to", "plugin")
    own = {"input_range": (0, 1), "output_range": (0, 1)}
    result = open_network(path, arguments=own)(image).clamp(0, 1)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)
    options = [f"--arch-option={name}={value}" for name, value in own.items()]
    tool("convert_checkpoint").main([str(path), "x.pth", "--to", "plugin", *options])
    result = open_network("x.pth")(image).clamp(0, 1)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_arguments_that_the_user_gives_are_kept(saved):
    path = saved["fork"][0]
    kept = {"input_range": (-1, 1), "output_range": (-1, 1), "last_act": "tanh"}
    assert open_network(path, arguments=kept).output_range == (-1, 1)


@pytest.mark.parametrize(
    ("act", "others"), [("relu", ["leaky_relu", "swish"]), ("swish", ["relu", "leaky_relu"])]
)
def test_an_activation_without_weights_is_checked_with_the_statistics(act, others):
    options = {"mid_channels": 8, "num_blocks": 2, "upscale_factor": 2}
    torch.manual_seed(0)
    network, random = SRResNet(**options, act=act), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if "bn" in key and tensor.is_floating_point() and "running" not in key:
                tensor.add_(torch.randn(tensor.shape, generator=random) * 0.3)
        for _ in range(40):  # in training mode, so that the statistics are those of the images
            network(torch.rand(1, 3, 64, 64, generator=random))
    network.eval()
    assert find_better_arguments(network, CHECKED) == {}
    for other in others:
        wrong = SRResNet(**options, act=other).eval()
        wrong.load_state_dict(network.state_dict())
        assert find_better_arguments(wrong, CHECKED) == {"act": act}


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("act", ["prelu", "relu", "leaky_relu", "swish"])
def test_random_weights_are_never_contradicted_and_the_network_is_unchanged(act, norm):
    torch.manual_seed(0)
    ranges = {"input_range": "imagenet", "output_range": (-1, 1), "last_act": "tanh"}
    network = SRResNet(mid_channels=8, num_blocks=2, act=act, norm=norm, **ranges).eval()
    for _ in range(2):
        assert find_better_arguments(network, CHECKED) == {}
        assert {name: getattr(network, name) for name in ranges} == ranges
        trained_looking(network)
    grey = SRResNet(1, 1, 8, 2, act=act, norm=norm).eval()
    assert find_better_arguments(grey, CHECKED) == {}
