"""Checkpoints of SRGAN repositories give what the repository's own network gives with them."""

import cv2
import numpy as np
import pytest
import torch
from srgan_repositories import CASES, trained_looking

from srgan_plugin.checkpoints import load_generator_weights, open_network
from srgan_plugin.checkpoints.inspect import inspect_checkpoint
from srgan_plugin.checkpoints.load import generator_changes
from srgan_plugin.checkpoints.read_write import load_checkpoint_file
from srgan_plugin.checkpoints.repositories import REPOSITORIES
from srgan_plugin.networks import SRResNet

EVERY = [(name, scale) for name, case in CASES.items() for scale in case.scales]
LR = np.random.default_rng(1).integers(0, 256, (11, 13, 3)).astype(np.uint8)
IMAGE = torch.from_numpy(LR).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint of a repository, and what its own network makes of `IMAGE`; made once."""
    folder, made = tmp_path_factory.mktemp("repositories"), {}

    def save(name, scale):
        if (name, scale) not in made:
            case, path = CASES[name], folder / f"{len(made)}.pth"
            network = trained_looking(case.make(scale))
            torch.save(network.state_dict(), path)
            made[name, scale] = path, case(network, IMAGE)
        return made[name, scale]

    return save


def gives(network, expected):
    with torch.inference_mode():
        out = network(IMAGE).clamp(0, 1)
    assert out.std() > 0.01 and (out > 0).float().mean() > 0.2 and (out < 1).float().mean() > 0.2
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


def test_every_row_of_the_table_is_tested():
    rows = {row.name.partition("/")[0] for row in REPOSITORIES}
    assert rows == {name.partition(" ")[0] for name in CASES}


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_a_network_opens_and_converts_to_what_the_repository_s_own_gives(
    saved, tool, tmp_path, name, scale
):
    path, expected = saved(name, scale)
    gives(open_network(path), expected)
    for target in ("x.pth", "x.safetensors"):
        tool("convert_checkpoint").main([str(path), target, "--to", "plugin"])
        gives(open_network(target), expected)


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_inspect_names_the_repository_and_finds_the_network_whole(saved, name, scale):
    told = inspect_checkpoint(saved(name, scale)[0])
    assert f"SRResNet x{scale} (6 features" in told["holds"]
    assert name.partition(" ")[0] in told["holds"]
    assert told["fits"].endswith("strictly") and "open" not in told


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_a_config_of_another_form_becomes_the_checkpoint_s(saved, name, scale):
    """As `tools/test.py` does it."""
    path, expected = saved(name, scale)
    config = {"type": "SRResNet", "upscale_factor": scale, "output_range": (-1, 1)}
    changed = config | generator_changes(config, load_checkpoint_file(path))
    network = SRResNet(**{k: v for k, v in changed.items() if k != "type"}).eval()
    load_generator_weights(network, path)
    gives(network, expected)
    with pytest.raises(ValueError, match=r"in the generator's config"):
        load_generator_weights(SRResNet(mid_channels=6, last_act="tanh", act="relu"), path)


@pytest.mark.parametrize("name", CASES)
def test_upscaling_gives_the_repository_s_levels(saved, tool, tmp_path, name):
    path, expected = saved(name, CASES[name].scales[-1])
    cv2.imwrite("lr.png", LR[..., ::-1])
    tool("upscale").main(["lr.png", "sr.png", "--model", str(path), "--device", "cpu"])
    levels = (expected[0] * 255).round().permute(1, 2, 0).numpy()
    assert np.abs(cv2.imread("sr.png")[..., ::-1] - levels).max() <= 1


# One of each kind of graph: batch normalisation before the shuffle, Swish, instance normalisation.
@pytest.mark.parametrize("name", ["eriklindernoren", "weichen283", "HasnainRaz", "twtygqyy"])
def test_the_onnx_gives_what_the_repository_s_own_network_gives(saved, tool, tmp_path, name):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path, expected = saved(name, CASES[name].scales[-1])
    tool("export").main([str(path), "x.onnx"])
    session = runtime.InferenceSession("x.onnx", providers=["CPUExecutionProvider"])
    (out,) = session.run(["sr"], {"lr": IMAGE.numpy()})
    assert np.abs(out.clip(0, 1) - expected.numpy()).max() <= 1e-5
