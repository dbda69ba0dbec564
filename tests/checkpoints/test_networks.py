"""Networks are built from files by their weights, or refused in one line."""

import hashlib
import random

import pytest
import torch
from torch import nn

from srgan_plugin.checkpoints import generator_changes, load_generator_weights, open_network
from srgan_plugin.networks import MSRResNet, SRResNet

SMALL = {"mid_channels": 4, "num_blocks": 2}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("prelu", ["shared", "channel"])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_an_srresnet_is_built_from_its_weights_and_the_range_alone(tmp_path, rough, prelu, scale):
    network = rough(SRResNet, mid_channels=6, num_blocks=3, prelu=prelu, upscale_factor=scale)
    torch.save(network.state_dict(), tmp_path / "x.pth")
    again = open_network(tmp_path / "x.pth", arguments={"output_range": (0, 1)})
    image = torch.rand(1, 3, 7, 9)
    assert torch.equal(again(image), network(image))
    assert not again.training


def test_half_precision_weights_give_a_network_in_single_precision(tmp_path, rough):
    network = rough(MSRResNet, **SMALL)
    torch.save({k: w.half() for k, w in network.state_dict().items()}, tmp_path / "x.pth")
    again = open_network(tmp_path / "x.pth").state_dict()
    assert all(torch.equal(again[k], w.half().float()) for k, w in network.state_dict().items())


def renamed(state):
    names = {"trunk_net.": "body.", "upsample1.upsample_conv.": "upconv1."}
    names["upsample2.upsample_conv."] = "upconv2."
    for ours, theirs in names.items():
        state = {key.replace(ours, theirs): weight for key, weight in state.items()}
    return {"params": state}


def test_changes_to_a_config_are_the_arguments_that_differ_in_the_checkpoint(rough):
    config = {"type": "MSRResNet", "num_blocks": 16, "upscale_factor": 4}
    state = rough(MSRResNet, **SMALL).state_dict()
    assert generator_changes(config, state) == {"mid_channels": 4, "num_blocks": 2}
    changes = generator_changes({**config, **SMALL}, renamed(state))
    assert changes == {"activate_after_shuffle": True}
    assert generator_changes({**config, **SMALL, **changes}, renamed(state)) == {}


def test_a_config_of_another_network_or_scale_is_not_changed(rough):
    state = rough(MSRResNet, upscale_factor=2, **SMALL).state_dict()
    assert generator_changes({"type": "SRResNet"}, state) == {}
    assert generator_changes({"type": "srgan_plugin.MSRResNet", **SMALL}, state) == {}
    assert generator_changes({"type": "MSRResNet"}, {"x": torch.ones(2)}) == {}


@pytest.mark.parametrize("text", ["output_range=(\n    -1,\n    1,\n)", "output_range=[-1.0, 1.0]"])
def test_the_config_in_a_training_checkpoint_is_used(rough, text):
    state = rough(SRResNet, **SMALL).state_dict()
    checkpoint = {"state_dict": state, "meta": {"cfg": f"model = dict(generator=dict({text}))"}}
    config = {"type": "SRResNet", **SMALL}
    assert generator_changes(config, checkpoint) == {"output_range": (-1.0, 1.0)}
    assert generator_changes({**config, "output_range": [-1, 1]}, checkpoint) == {}
    assert generator_changes({**config, "output_range": [-1, 1]}, state) == {}


def test_a_file_that_claims_absurd_shapes_allocates_nothing(tmp_path, rough):
    """The network would have 1.4 terabytes of weights."""
    state = rough(MSRResNet, **SMALL).state_dict()
    state["conv_first.weight"] = torch.zeros(100_000, 3, 3, 3)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth.*damaged.*conv_first"):
        open_network(tmp_path / "x.pth")


class TanhGenerator(nn.Module):
    """A part of leftthomas's network, without batch normalisation before the skip."""

    def __init__(self):
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv2d(3, 4, 9, padding=4), nn.PReLU())
        for n in range(2, 7):
            block = nn.ModuleDict({"conv1": nn.Conv2d(4, 4, 3), "prelu": nn.PReLU()})
            self.add_module(f"block{n}", block)
        self.block7 = nn.Sequential(nn.Conv2d(4, 4, 3), nn.PReLU())
        self.block8 = nn.Sequential(nn.Conv2d(4, 16, 3), nn.Conv2d(4, 3, 9))


def without_norm_before_the_skip():
    state = SRResNet(**SMALL).state_dict()
    return {key: weight for key, weight in state.items() if not key.startswith("bn_trunk")}


ONES = torch.ones(4, 4, 3, 3)
OTHERS = {
    "RRDBNet": ({"params_ema": {f"body.{n}.rdb1.conv1.weight": ONES for n in (0, 1)}}, "RRDBNet"),
    "EDSR": (
        {"head.0.weight": ONES, "body.0.body.0.weight": ONES, "tail.0.0.weight": ONES},
        "EDSR",
    ),
    "MSRResNet0": (
        {"model.0.weight": ONES, "model.1.sub.0.res.0.weight": ONES},
        r"MSRResNet0 \(not MSRResNet1\)",
    ),
    "incomplete": (TanhGenerator().state_dict(), "unknown.*leftthomas"),
    "no norm": (without_norm_before_the_skip(), "4 .*missing.*bn_trunk.weight"),
    "random": ({"a": ONES, "b": ONES}, r"2 tensors \(a, b"),
    "numbers": ({"a": 1, "b": [2]}, "weights.*a, b"),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("target", [MSRResNet, SRResNet])
def test_other_networks_are_refused_by_name_and_nothing_changes(tmp_path, rough, name, target):
    content, said = OTHERS[name]
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=said) as caught:
        open_network(tmp_path / "x.pth")
    assert "\n" not in str(caught.value)
    network = rough(target, **SMALL)
    before = {key: weight.clone() for key, weight in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"x\.pth") as caught:
        load_generator_weights(network, tmp_path / "x.pth")
    assert "\n" not in str(caught.value)
    assert same(network.state_dict(), before)


def damaged_bytes(draw, whole):
    """Flip some bits, truncate, or move a part."""
    content = bytearray(whole)
    kind = draw.randrange(4)
    if kind == 0:
        del content[draw.randrange(len(whole)) :]
    elif kind == 1:
        start, length = draw.randrange(len(whole)), draw.randrange(1, 200)
        content[start : start + length] = content[: draw.randrange(1, 200)]
    else:
        for _ in range(kind):
            content[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
    return bytes(content)


CHANGES = {
    "lost": lambda draw, state, key: state.pop(key),
    "renamed": lambda draw, state, key: state.update({f"{key}s": state.pop(key)}),
    "added": lambda draw, state, key: state.update({f"generator.{key}.x": state[key]}),
    "enlarged": lambda draw, state, key: state.update({key: torch.cat([state[key]] * 2)}),
    "flattened": lambda draw, state, key: state.update({key: state[key].flatten()[:-1]}),
    "integers": lambda draw, state, key: state.update({key: state[key].int()}),
    "sparse": lambda draw, state, key: state.update({key: state[key].to_sparse()}),
    "no tensor": lambda draw, state, key: state.update({key: draw.choice([None, 1.5, "x", [1]])}),
    "not finite": lambda draw, state, key: (
        state[key].flatten()[-1:].fill_(draw.choice([float("nan"), float("inf")]))
    ),
}


def refused_whole(path, original, network):
    """Return whether loading is refused, in one line; else all weights must be loaded."""
    before = {key: weight.clone() for key, weight in network.state_dict().items()}
    try:
        load_generator_weights(network, path)
    except ValueError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
        assert same(network.state_dict(), before)
        return True
    assert same(network.state_dict(), original)
    return False


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Validating sparse")
def test_500_mutations_of_a_valid_file_are_refused_or_load_all_weights(tmp_path, rough):
    draw, refused = random.Random(0), 0
    options = {"mid_channels": 4, "num_blocks": 1}
    original = rough(MSRResNet, 1, **options).state_dict()
    network = rough(MSRResNet, 2, **options)
    files = {}
    for name, zipped in (("zip.pth", True), ("legacy.pth", False)):
        torch.save({"state_dict": original}, tmp_path / name, _use_new_zipfile_serialization=zipped)
        files[name] = (tmp_path / name).read_bytes()
    for number in range(260):  # bytes; only a zip file has checksums, others their published name
        name = "zip.pth" if number % 2 else "legacy.pth"
        content = damaged_bytes(draw, files[name])
        if name == "legacy.pth":
            name = "legacy-" + hashlib.sha256(files[name]).hexdigest()[:8] + ".pth"
        (tmp_path / name).write_bytes(content)
        refused += refused_whole(tmp_path / name, original, network)
    assert refused > 200
    network = rough(MSRResNet, 2, **options)
    for number in range(270):  # weights
        kind = list(CHANGES)[number % len(CHANGES)]
        state = {f"generator.{key}": weight.clone() for key, weight in original.items()}
        CHANGES[kind](draw, state, draw.choice(list(state)))
        torch.save({"state_dict": state}, tmp_path / "weights.pth")
        assert refused_whole(tmp_path / "weights.pth", original, network), kind


def test_keys_of_two_layouts_at_once_are_refused(tmp_path, rough):
    state = rough(MSRResNet, **SMALL).state_dict()
    theirs = renamed(state)["params"]
    theirs["trunk_net.0.conv1.weight"] = state["trunk_net.0.conv1.weight"] + 1
    del theirs["body.1.conv2.bias"]
    theirs["trunk_net.1.conv2.bias"] = state["trunk_net.1.conv2.bias"]
    torch.save(theirs, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"BasicSR's.*trunk_net\.0\.conv1\.weight"):
        open_network(tmp_path / "x.pth")
