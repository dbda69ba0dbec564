"""Checkpoints of SRGAN repositories give the images of the repository's own network."""

import argparse
import fnmatch
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from srgan_repositories import CASES, trained_looking

from srgan_plugin.checkpoints import load_generator_weights, open_network, unwrap
from srgan_plugin.checkpoints.detect import generator_changes
from srgan_plugin.checkpoints.inspect import inspect_checkpoint
from srgan_plugin.checkpoints.layouts import detect_layout
from srgan_plugin.checkpoints.read_write import load_checkpoint_file
from srgan_plugin.checkpoints.repositories import REPOSITORY_LAYOUTS
from srgan_plugin.networks import SRResNet

EVERY = [(name, scale) for name, case in CASES.items() for scale in case.scales]
LR = np.random.default_rng(1).integers(0, 256, (11, 13, 3)).astype(np.uint8)
IMAGE = torch.from_numpy(LR).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a function that returns a checkpoint and its network's output for `IMAGE`."""
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
    assert out.std() > 0.01
    assert (out > 0).float().mean() > 0.2
    assert (out < 1).float().mean() > 0.2
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


def told(name):
    """Return the arguments that must be given for a network, as command-line options."""
    return [f"--arch-option={key}={value}" for key, value in CASES[name].told.items()]


def test_every_row_of_the_table_is_tested():
    states = [case.make(case.scales[0]).state_dict() for case in CASES.values()]
    tested = {detect_layout(state).layout.origin for state in states}
    not_of_torch = {"tensorlayer/SRGAN's", "krasserm/super-resolution's"}  # see test_array_files
    assert tested | not_of_torch == {f"{row.name}'s" for row in REPOSITORY_LAYOUTS}


def test_readme_and_docs_name_the_repositories_of_the_table_and_count_them():
    root = Path(__file__).parents[2]
    readme = " ".join((root / "README.md").read_text().split())
    docs = (root / "docs/checkpoints.md").read_text()
    names = {row.name.partition(" ")[0] for row in REPOSITORY_LAYOUTS}
    assert f"{len(names)} SRGAN repositories in {len(REPOSITORY_LAYOUTS)} layouts" in readme
    assert f"{len(names)} repositories in {len(REPOSITORY_LAYOUTS)} layouts" in docs
    assert not [name for name in names if f"| {name}" not in docs]


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_opened_and_converted_networks_give_the_images_of_the_repository(
    saved, tool, tmp_path, name, scale
):
    path, expected = saved(name, scale)
    gives(open_network(path, arguments=CASES[name].told), expected)
    target = f"x{'.pth' if scale == 4 else '.safetensors'}"
    tool("convert_checkpoint").main([str(path), target, "--to", "plugin", *told(name)])
    gives(open_network(target), expected)


def test_statistics_that_torch_before_0_4_saved_of_instance_normalisation_are_ignored(tmp_path):
    case = CASES["twtygqyy"]
    network = trained_looking(case.make(4))
    state = dict(network.state_dict())
    norms = [
        key.removesuffix("weight") for key in state if re.search(r"(in\d|bn_mid)\.weight", key)
    ]
    assert len(norms) == 5
    statistics = {
        f"{norm}running_{kind}": torch.rand(6) for norm in norms for kind in ("mean", "var")
    }
    torch.save(state | statistics, tmp_path / "x.pth")
    gives(open_network(tmp_path / "x.pth"), case(network, IMAGE))


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_inspection_shows_the_repository_and_that_the_network_loads_strictly(saved, name, scale):
    said = inspect_checkpoint(saved(name, scale)[0])
    assert f"SRResNet x{scale} (6 features" in said["holds"]
    assert name.partition(" ")[0] in said["holds"]
    if CASES[name].told:
        assert "input_range" in said["fits"]
        assert "output_range" in said["unrecorded"]
    else:
        assert said["fits"].endswith("strictly")
        assert "unrecorded" not in said


@pytest.mark.parametrize(("name", "scale"), EVERY)
def test_a_config_takes_the_arguments_of_the_checkpoint(saved, name, scale):
    """`tools/test.py` changes its config in the same way."""
    path, expected = saved(name, scale)
    stated = {"output_range": (-1, 1), **CASES[name].told}
    config = {"type": "SRResNet", "upscale_factor": scale, **stated}
    changed = config | generator_changes(config, load_checkpoint_file(path))
    network = SRResNet(**{k: v for k, v in changed.items() if k != "type"}).eval()
    load_generator_weights(network, path)
    gives(network, expected)
    with pytest.raises(ValueError, match=r"in the generator's config"):
        load_generator_weights(SRResNet(mid_channels=6, last_act="tanh", act="relu"), path)


@pytest.mark.parametrize("name", CASES)
def test_upscaling_gives_the_levels_of_the_repository(saved, tool, tmp_path, name):
    path, expected = saved(name, CASES[name].scales[-1])
    cv2.imwrite("lr.png", LR[..., ::-1])
    line = ["lr.png", "sr.png", "--model", str(path), "--device", "cpu", *told(name)]
    tool("upscale").main(line)
    levels = (expected[0] * 255).round().permute(1, 2, 0).numpy()
    assert np.abs(cv2.imread("sr.png")[..., ::-1] - levels).max() <= 1


# Each takes seconds: batch normalisation before the shuffle, and instance normalisation.
@pytest.mark.parametrize("name", ["eriklindernoren", "twtygqyy"])
def test_the_onnx_file_gives_the_images_of_the_repository(saved, tool, tmp_path, name):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path, expected = saved(name, CASES[name].scales[-1])
    tool("export").main([str(path), "x.onnx"])
    session = runtime.InferenceSession("x.onnx", providers=["CPUExecutionProvider"])
    (out,) = session.run(["sr"], {"lr": IMAGE.numpy()})
    assert np.abs(out.clip(0, 1) - expected.numpy()).max() <= 1e-5


PREFIXES = (
    "module.",
    "_orig_mod.",
    "model.",
    "net.",
    "netG.",
    "net_g.",
    "G.",
    "gen.",
    "generator.",
    "model_g.",
)
WRAPPERS = (
    *("generator", "netG", "G", "gen", "net_g", "g_state_dict", "model_state", "state_dict"),
    *("model", "params", "ema_state_dict", "model_state_dict"),
)
OTHER = {"conv1.0.weight": torch.ones(4, 3, 9, 9), "fc.weight": torch.ones(2, 2)}


def wrappings(state):
    def under(prefix, weights=state):
        return {prefix + key: weight for key, weight in weights.items()}

    yield from ((prefix, under(prefix)) for prefix in PREFIXES)
    yield from (
        (f"{outer}{inner}", under(outer + inner)) for outer in PREFIXES for inner in PREFIXES
    )
    yield from ((name, {name: under("module."), "epoch": 3}) for name in WRAPPERS)
    yield "G and D", {"G": state, "D": OTHER}
    yield "generator and discriminator", {"generator": state, "discriminator": OTHER}
    yield "gan", {"model": {"netG": under("module."), "netD": OTHER}, "optimizer": {"state": {}}}
    average = {"n_averaged": torch.tensor(3), **under("module.")}
    spoilt = {key: weight * 0 for key, weight in state.items()}
    yield "average", {"state_dict": spoilt, "ema_state_dict": average, "best_psnr": 27.1}
    yield "average beside, by prefix", under("net_g.", spoilt) | under("net_g_ema.")
    for name in ("G_state_dict", "gen_state_dict", "model_G", "netG_state_dict"):
        yield name, {name: state, name.replace("G", "D").replace("gen", "disc"): OTHER}
    lightning = under("net_g.") | under("net_d.", OTHER) | under("vgg.", OTHER)
    yield "Lightning", {"state_dict": lightning, "pytorch-lightning_version": "2.2", "loops": {}}
    alone = under("model.") | under("loss.vgg.", OTHER)
    yield "Lightning, one model", {"state_dict": alone, "callbacks": {}, "global_step": 4}


@pytest.mark.parametrize("name", ["sgrvinod", "leftthomas", "HasnainRaz", "bubbliiiing"])
def test_weights_are_unwrapped_from_each_wrapper(name):
    state = trained_looking(CASES[name].make(4)).state_dict()
    for label, checkpoint in wrappings(state):
        weights = unwrap(checkpoint)
        assert weights.keys() == state.keys(), label
        assert all(torch.equal(weights[key], state[key]) for key in state), label


@pytest.mark.parametrize("name", ["sgrvinod", "aladdinpersson", "leftthomas", "weichen283"])
def test_a_file_without_running_statistics_is_not_read_as_instance_normalisation(tmp_path, name):
    state = trained_looking(CASES[name].make(4)).state_dict()
    torch.save({k: v for k, v in state.items() if "running_" not in k}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"running statistics.*state_dict|unknown network"):
        open_network(tmp_path / "x.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_each_pickle_protocol_of_a_repository_is_read(saved, tmp_path, zipped, protocol):
    path, expected = saved("aladdinpersson", 4)
    content = {
        "state_dict": torch.load(path),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1}]},
    }
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    torch.save(content, tmp_path / "gen.pth.tar", **options)
    gives(open_network(tmp_path / "gen.pth.tar"), expected)


@pytest.mark.parametrize("name", CASES)
def test_messages_on_forks_and_damage_name_the_repository_and_the_keys_of_the_file(
    tmp_path, saved, name
):
    state = torch.load(saved(name, CASES[name].scales[0])[0], weights_only=True)
    origin = detect_layout(state).layout.origin
    torch.save(state | {"attention.weight": torch.ones(3)}, tmp_path / "fork.pth")
    with pytest.raises(ValueError, match=r"fork\.pth.*variant") as caught:
        open_network(tmp_path / "fork.pth", arguments=CASES[name].told)
    assert "attention.weight" in str(caught.value)
    assert origin in str(caught.value)
    assert "our own" not in str(caught.value)
    last = [key for key, value in state.items() if value.ndim == 4][-1]
    state[last][0] = torch.nan
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(ValueError, match="NaN") as caught:
        open_network(tmp_path / "nan.pth", arguments=CASES[name].told)
    assert last in str(caught.value)


@pytest.mark.parametrize("name", CASES)
def test_a_missing_weight_is_named_as_the_file_calls_it(tmp_path, saved, name):
    state = torch.load(saved(name, CASES[name].scales[0])[0], weights_only=True)
    found, named = detect_layout(state), 0
    for key in [key for key in state if not key.endswith(".num_batches_tracked")][::4]:
        rest = {other: weight for other, weight in state.items() if other != key}
        if detect_layout(rest) != found:
            continue
        torch.save(rest, tmp_path / "x.pth")
        try:
            open_network(tmp_path / "x.pth", arguments=CASES[name].told)
        except ValueError as error:
            words = [word.strip(";,()") for word in str(error).split()]
            if "statistics" not in words:
                assert any(fnmatch.fnmatchcase(key, word) for word in words if "." in word), error
                named += 1
    assert named > 2


def test_weights_beside_the_options_of_their_script_are_read(tmp_path):
    args = argparse.Namespace(lr=1e-4, names=["a"])
    torch.save({"args": args, "model": {"conv.weight": torch.ones(2)}}, tmp_path / "x.pth")
    checkpoint = load_checkpoint_file(tmp_path / "x.pth")
    assert checkpoint["args"] == args
    assert unwrap(checkpoint)["conv.weight"].tolist() == [1, 1]


def test_the_message_does_not_advise_to_run_a_pickle_without_a_module(tmp_path):
    class Call:
        def __reduce__(self):
            return print, ("_parameters", "_modules")

    torch.save({"model": Call()}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="print") as caught:
        load_checkpoint_file(tmp_path / "x.pth")
    assert "weights_only" not in str(caught.value)
