"""Conversions keep every bit if the function is the same; otherwise nothing is written."""

import errno
import hashlib
import itertools
import json
import os
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from srgan_plugin.checkpoints import identify, load_checkpoint_file, open_network
from srgan_plugin.checkpoints.convert import _RULES, _Rules, convert, publish
from srgan_plugin.errors import UserError
from srgan_plugin.networks import ModifiedVGG, MSRResNet, SRGANDiscriminator, SRResNet

SMALL = {"mid_channels": 4, "num_blocks": 2}
PLAIN = ("plugin", "mmagic", "mmediting")
ACTIVATED = ("plugin", "basicsr", "kair")
JUDGED = ("plugin", "mmagic", "mmediting", "basicsr")  # KAIR's discriminators are others
EVERY = ("plugin", "mmagic", "mmediting", "basicsr", "kair")
# What each code base's file looks like, written out once more regardless of the tables.
FIRST_KEYS = {
    "plugin": ("state_dict", "trunk_net.0.conv1.weight"),
    "mmagic": ("state_dict", "generator.trunk_net.0.conv1.weight"),
    "mmediting": ("state_dict", "generator.trunk_net.0.conv1.weight"),
    "basicsr": ("params", "body.0.conv1.weight"),
    "kair": (None, "recon_trunk.0.conv1.weight"),
}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def saved(tmp_path):
    def save(content, name="source.pth"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


def round_trips(path, code_bases, tmp_path, **arch_options):
    """Convert to each layout, then to each other one and back; yield the results."""
    for first, second in itertools.permutations(code_bases, 2):
        there, further, back = (tmp_path / f"{n}.pth" for n in "abc")
        convert(path, there, to=first, **arch_options)
        convert(there, further, to=second, origin=first)
        done = convert(further, back, to="plugin", origin=second)
        assert done.difference == 0
        assert done.sha256 == hashlib.sha256(back.read_bytes()).hexdigest()
        yield load_checkpoint_file(back)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("activate", "code_bases"), [(False, PLAIN), (True, ACTIVATED)])
def test_round_trips_over_every_pair_of_layouts_keep_every_bit(
    tmp_path, saved, rough, scale, activate, code_bases
):
    network = rough(MSRResNet, upscale_factor=scale, activate_after_shuffle=activate, **SMALL)
    arch_options = {"arguments": {"activate_after_shuffle": activate}}
    for back in round_trips(saved(network.state_dict()), code_bases, tmp_path, **arch_options):
        assert same(back["state_dict"], network.state_dict())
        assert identify(back).arguments.get("activate_after_shuffle", False) == activate


def test_a_name_that_ends_with_the_hash_of_another_file_is_refused(tmp_path, saved, rough):
    source = saved(rough(MSRResNet, **SMALL).state_dict())
    with pytest.raises(ValueError, match=r"x_20200521-61556be5\.pth.*hash"):
        convert(source, tmp_path / "x_20200521-61556be5.pth", to="plugin")


def test_kairs_discriminator_is_not_detected_as_vgg(saved):
    bare = {f"features.{n}.weight": torch.zeros(4, 4, 3, 3) for n in (0, 16, 25)}
    with pytest.raises(ValueError, match="MSRResNet") as error:
        identify(bare)
    assert "VGG-19" not in str(error.value)


@pytest.mark.slow
def test_discriminators_make_every_round_trip(tmp_path, saved, rough):
    network = rough(ModifiedVGG, mid_channels=2)
    for back in round_trips(saved(network.state_dict()), JUDGED, tmp_path):
        assert same(back["state_dict"], network.state_dict())


@pytest.mark.parametrize("to", EVERY)
def test_a_file_has_the_wrapper_and_keys_of_its_code_base(tmp_path, saved, rough, to):
    network = rough(MSRResNet, **SMALL)
    arch_options = {"activate_after_shuffle": to in ("basicsr", "kair")}
    convert(saved(network.state_dict()), tmp_path / "x.pth", to=to, arguments=arch_options)
    written = torch.load(tmp_path / "x.pth", weights_only=True)
    wrapper, key = FIRST_KEYS[to]
    inner = written[wrapper] if wrapper else written
    assert torch.equal(inner[key], network.trunk_net[0].conv1.weight)


@pytest.mark.parametrize("to", ["basicsr", "kair"])
def test_a_network_without_the_activation_is_not_written_for_code_bases_with_it(
    tmp_path, saved, rough, fails, to
):
    path = saved({"state_dict": rough(MSRResNet, **SMALL).state_dict()})
    said = fails("convert_checkpoint", path, "x.pth", "--to", to)
    assert to in said
    assert "activation" in said
    assert "mmagic or mmediting or plugin" in said
    assert [p.name for p in tmp_path.iterdir()] == ["source.pth"]


@pytest.mark.parametrize("to", ["mmagic", "mmediting"])
def test_a_network_with_the_activation_is_not_written_for_code_bases_without_it(
    tmp_path, saved, rough, fails, to
):
    network = rough(MSRResNet, activate_after_shuffle=True, **SMALL)
    convert(
        saved(network.state_dict()),
        tmp_path / "theirs.pth",
        to="basicsr",
        arguments={"activate_after_shuffle": True},
    )
    said = fails("convert_checkpoint", "theirs.pth", "x.pth", "--to", to)
    assert "basicsr or kair or plugin" in said
    assert not (tmp_path / "x.pth").exists()


@pytest.mark.parametrize(
    ("make", "to", "said"),
    [
        (partial(SRResNet, **SMALL), "mmagic", "mmagic.*SRResNet"),
        (partial(SRResNet, **SMALL), "basicsr", "basicsr.*SRResNet"),
        (
            partial(SRGANDiscriminator, mid_channels=2, input_size=32),
            "kair",
            "kair.*SRGANDiscriminator",
        ),
        (partial(ModifiedVGG, mid_channels=2), "kair", "kair.*ModifiedVGG"),
        (
            partial(ModifiedVGG, mid_channels=2, input_size=256, num_stages=6),
            "mmagic",
            "input_size=128.*got input_size=256",
        ),
        (
            partial(ModifiedVGG, mid_channels=2, input_size=64),
            "basicsr",
            "input_size=128.*input_size=256.*got input_size=64",
        ),
    ],
)
def test_a_network_that_a_code_base_does_not_support_is_not_written_for_it(
    saved, make, to, said, tmp_path
):
    with pytest.raises(ValueError, match=said) as caught:
        convert(saved(make().state_dict()), tmp_path / "x.pth", to=to)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.pth").exists()


def test_a_file_whose_network_gives_another_output_is_not_renamed_to_its_target(
    tmp_path, saved, rough, monkeypatch
):
    path, target = saved(rough(MSRResNet, **SMALL).state_dict()), tmp_path / "x.pth"
    target.write_bytes(b"older")

    def swapped(role, weights, note):
        return {**weights, "conv_hr.bias": weights["conv_first.bias"]}

    monkeypatch.setitem(_RULES, "plugin", _Rules(wrap=swapped))
    with pytest.raises(ValueError, match=r"differs by \d.*allowed"):
        convert(path, target, to="plugin")
    assert target.read_bytes() == b"older"
    assert len(list(tmp_path.iterdir())) == 2


def training_checkpoint(network, averaged, discriminator):
    state = {f"generator.{k}": w for k, w in network.state_dict().items()}
    state |= {f"generator_ema.{k}": w for k, w in averaged.state_dict().items()}
    state |= {f"discriminator.{k}": w for k, w in discriminator.state_dict().items()}
    state |= {"step_counter": torch.tensor(3), "data_preprocessor.mean": torch.zeros(3)}
    return {"state_dict": state, "optimizer": {"state": {}}, "meta": {"iter": 7}}


def test_one_network_of_a_training_checkpoint_is_converted_and_the_other_entries_are_listed(
    tmp_path, saved, rough, tool, capsys
):
    parts = [rough(MSRResNet, seed, **SMALL) for seed in (1, 2)]
    parts.append(rough(ModifiedVGG, mid_channels=2))
    path = saved(training_checkpoint(*parts))
    ways = (["--no-ema"], [], ["--network", "discriminator"])
    for options, network in zip(ways, parts, strict=True):
        tool("convert_checkpoint").main(
            [str(path), "x.pth", "--to", "mmagic", "--overwrite", *options]
        )
        said = capsys.readouterr().out
        assert same(open_network("x.pth").state_dict(), network.state_dict())
        assert hashlib.sha256((tmp_path / "x.pth").read_bytes()).hexdigest() in said
        dropped = next(line for line in said.splitlines() if line.startswith("dropped"))
        assert {"optimizer", "meta", "step_counter"} <= set(dropped.replace(",", "").split())
        assert ("discriminator" in dropped) == ("--network" not in options)


def test_mmengines_ema_hook_saves_averaged_and_trained_weights_in_swapped_places(rough):
    live, averaged = rough(MSRResNet, 1, **SMALL), rough(MSRResNet, 2, **SMALL)
    checkpoint = {
        "state_dict": {f"generator.{k}": w for k, w in averaged.state_dict().items()},
        "ema_state_dict": {
            "steps": torch.tensor(5),
            **{f"module.generator.{k}": w for k, w in live.state_dict().items()},
        },
    }
    assert same(identify(checkpoint).build().state_dict(), averaged.state_dict())
    assert same(identify(checkpoint, ema=False).build().state_dict(), live.state_dict())


def test_half_precision_rounds_each_weight_once_and_halves_the_file(tmp_path, saved, rough, tool):
    network = rough(MSRResNet, mid_channels=16, num_blocks=2)
    path = saved({"state_dict": network.state_dict()})
    for target, options in (("x.safetensors", []), ("h.safetensors", ["--half"])):
        tool("convert_checkpoint").main([str(path), target, "--to", "plugin", *options])
    written = load_checkpoint_file(tmp_path / "h.safetensors")["state_dict"]
    assert all(torch.equal(written[k], w.half()) for k, w in network.state_dict().items())
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in "xh"]
    assert 1.8 < sizes[0] / sizes[1] < 2
    image = torch.rand(1, 3, 9, 11)
    with torch.inference_mode():
        difference = open_network(tmp_path / "h.safetensors")(image) - network(image)
    assert 0 < difference.abs().max() < 0.5 / 255


def test_weights_too_large_for_half_precision_are_not_written(tmp_path, saved, rough):
    state = rough(MSRResNet, **SMALL).state_dict()
    state["conv_hr.weight"][0, 0, 0, 0] = 1e5
    with pytest.raises(ValueError, match="conv_hr"):
        convert(saved(state), tmp_path / "x.pth", to="plugin", half=True)
    assert not (tmp_path / "x.pth").exists()


def test_another_layout_than_the_expected_one_is_refused(tmp_path, saved, rough, fails):
    path = saved({"params": rough(MSRResNet, **SMALL).state_dict()})
    said = fails("convert_checkpoint", path, "x.pth", "--to", "plugin", "--from", "basicsr")
    assert "basicsr" in said
    assert "MSRResNet x4 (4 features, 2 blocks) in MMagic's" in said


def test_a_training_state_of_basicsr_says_where_the_weights_are(saved, fails):
    path = saved({"epoch": 3, "iter": 500, "optimizers": [{}], "schedulers": []}, "500.state")
    said = fails("convert_checkpoint", path, "x.pth", "--to", "plugin")
    assert "BasicSR" in said
    assert "500" in said
    assert "net_g" in said


def test_safetensors_record_arguments_that_no_weight_shows(tmp_path, saved, rough):
    network = rough(SRResNet, prelu="channel", output_range=(-1, 1), **SMALL)
    arch_options = {"output_range": (-1, 1)}
    convert(
        saved(network.state_dict()), tmp_path / "x.safetensors", to="plugin", arguments=arch_options
    )
    again, image = open_network(tmp_path / "x.safetensors"), torch.rand(1, 3, 9, 11)
    assert torch.equal(again(image), network(image))
    with pytest.raises(ValueError, match=r"mmagic.*safetensors.*y\.safetensors"):
        convert(tmp_path / "source.pth", tmp_path / "y.safetensors", to="mmagic")


@pytest.mark.parametrize(
    ("arch_options", "said"),
    [
        ("activate_after_shuffle=True", ("SRResNet", "output_range", "activate_after_shuffle")),
        ("output_range=(0,2)", ("output_range", "(0, 1) or (-1, 1)", "(0, 2)")),
    ],
)
def test_an_arch_option_has_to_fit_the_network(saved, rough, fails, arch_options, said):
    path = saved(rough(SRResNet, **SMALL).state_dict())
    line = fails(
        "convert_checkpoint", path, "x.pth", "--to", "plugin", "--arch-option", arch_options
    )
    assert all(word in line for word in said)


def test_an_arch_option_may_not_contradict_the_file(tmp_path, saved, rough, fails):
    network = rough(MSRResNet, **SMALL)
    stated = {"activate_after_shuffle": False}
    convert(saved(network.state_dict()), tmp_path / "noted.pth", to="plugin", arguments=stated)
    note = torch.load(tmp_path / "noted.pth", weights_only=True)["meta"]["srgan_plugin"]
    assert note == {"format": 2, "network": "MSRResNet", **stated}
    arch_options = ["--to", "basicsr", "--arch-option", "activate_after_shuffle=True"]
    said = fails("convert_checkpoint", "noted.pth", "x.pth", *arch_options)
    assert "noted.pth: activate_after_shuffle: expected False, as in the file, got True" in said
    said = fails("convert_checkpoint", "noted.pth", "x.bin", "--to", "plugin")
    assert ".pth" in said
    assert ".safetensors" in said
    assert "x.bin" in said
    assert "got a folder" in fails("inspect_checkpoint", tmp_path)


def test_a_missing_discriminator_is_refused(saved, rough, fails):
    path = saved(rough(MSRResNet, **SMALL).state_dict())
    asked = [path, "x.pth", "--to", "mmagic", "--network", "discriminator"]
    said = fails("convert_checkpoint", *asked)
    assert "discriminator" in said
    assert "MSRResNet x" in said


def test_a_published_file_ends_with_its_hash_and_a_changed_one_is_refused(
    tmp_path, saved, rough, tool
):
    network = rough(MSRResNet, **SMALL)
    path = saved({"state_dict": network.state_dict(), "optimizer": {"state": {}}}, "model.pth")
    before = path.read_bytes()
    done = publish(path, path, to="mmagic")  # its own name: the source must survive
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=r"model-0123abcd\.pth.*hash"):
        publish(path, path.with_name("model-0123abcd.pth"), to="mmagic")
    with pytest.raises(ValueError, match=r"got .*model\.onnx$"):
        publish(path, path.with_name("model.onnx"), to="mmagic")
    assert done.path.name == f"model-{hashlib.sha256(done.path.read_bytes()).hexdigest()[:8]}.pth"
    assert "optimizer" not in torch.load(done.path, weights_only=True)
    assert same(open_network(done.path).state_dict(), network.state_dict())
    done.path.write_bytes(before)
    with pytest.raises(ValueError, match=r"model-.*\.pth.*SHA-256"):
        open_network(done.path)


def test_publishing_keeps_a_metafile_with_one_entry_for_each_model(tmp_path, saved, rough, tool):
    yaml = pytest.importorskip("yaml")
    path = saved(rough(SRResNet, output_range=(-1, 1), **SMALL).state_dict())
    scores = {"Set5": {"PSNR": 30.5}}
    (tmp_path / "r.json").write_text(json.dumps(scores))
    arch_options = ["--arch-option", "output_range=(-1,1)"]
    for name in ("a", "b", "a"):
        target = f"out/{name}.safetensors"
        tool("publish_model").main([str(path), target, "--results", "r.json", *arch_options])
    models = yaml.safe_load((tmp_path / "out/metafile.yml").read_text())["Models"]
    assert [model["Name"] for model in models] == ["b", "a"]
    assert models[0]["Results"][0]["Metrics"] == {"PSNR": 30.5}
    assert models[0]["Metadata"]["Arguments"]["output_range"] == [-1, 1]
    assert (tmp_path / "out" / models[0]["Weights"]).is_file()


def test_inspection_shows_network_layout_function_and_other_entries(saved, rough, tool, capsys):
    networks = [rough(MSRResNet, seed, **SMALL) for seed in (1, 2)]
    path = saved(training_checkpoint(*networks, rough(ModifiedVGG, mid_channels=2)))
    tool("inspect_checkpoint").main([str(path)])
    said = capsys.readouterr().out
    assert "MSRResNet x4 (4 features, 2 blocks) in MMagic's keys" in said
    assert hashlib.sha256(path.read_bytes()).hexdigest() in said
    assert "strictly" in said
    assert "iteration  7" in said


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (lambda w: {"params_ema": w, "params": w}, "averaged (EMA); from params_ema"),
        (lambda w: {"params_ema": w}, "averaged (EMA); from params_ema"),
        (lambda w: {"params": w}, "not marked as averaged (EMA); from params"),
        (lambda w: w, "not marked as averaged (EMA)"),
        (
            lambda w: {"state_dict": w, "ema_state_dict": {"steps": torch.tensor(1), **w}},
            "averaged (EMA); from state_dict",
        ),
        (
            lambda w: {"state_dict": {f"generator_ema.{k}": v for k, v in w.items()}},
            "averaged (EMA); from state_dict.generator_ema",
        ),
    ],
    ids=["both", "average only", "BasicSR without", "bare", "mmengine's hook", "MMagic"],
)
def test_inspection_states_whether_the_weights_that_are_taken_are_averaged(
    saved, rough, tool, capsys, wrap, said
):
    path = saved(wrap(rough(MSRResNet, **SMALL).state_dict()))
    tool("inspect_checkpoint").main([str(path)])
    assert f"weights    {said}\n" in capsys.readouterr().out


def test_inspection_of_a_file_that_needs_an_argument_states_it_and_exits_with_0(
    saved, rough, tool, capsys
):
    state = rough(SRResNet, act="relu", output_range=(-1, 1), **SMALL).state_dict()
    tool("inspect_checkpoint").main([str(saved(state))])
    said = capsys.readouterr()
    assert "give --arch-option" in said.out
    assert "fits       srgan_plugin's SRResNet, if output_range, act is given" in said.out
    assert said.err == ""


def damaged_weights(rough):
    weights = rough(MSRResNet, **SMALL).state_dict()
    del weights["conv_hr.bias"]
    return weights


@pytest.mark.parametrize(
    ("content", "described", "reason"),
    [
        (lambda _: {"iter": 3}, "no weights", "iter"),
        (
            lambda _: {"body.0.rdb1.conv1.weight": torch.ones(2, 2, 3, 3)},
            "RRDBNet (ESRGAN) (1 blocks)",
            "expected weights of",
        ),
        (damaged_weights, "MSRResNet x4", "conv_hr.bias"),
        (
            lambda _: {"netG": {"a": torch.ones(2)}, "G": {"a": torch.zeros(2)}},
            "holds      weights, but not",
            "netG and G",
        ),
        (lambda _: {"a": np.ones(2)}, "holds      weights, but not", "NumPy arrays"),
        (
            lambda _: {"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)},
            "holds      weights, but not",
            "quantised",
        ),
    ],
)
def test_inspection_of_a_file_that_does_not_load_describes_it_and_exits_with_1_and_the_reason(
    saved, rough, tool, capsys, content, described, reason
):
    path = saved(content(rough))
    with pytest.raises(SystemExit) as ended:
        tool("inspect_checkpoint").main([str(path)])
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert described in said.out
    assert said.err.startswith(f"error: {path} does not load: ")
    assert reason in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("convert_checkpoint", ["x.pth", "--to", "plugin"]),
        ("export", ["x.safetensors"]),
        ("export", ["x.param"]),
    ],
)
def test_an_existing_file_is_replaced_only_with_overwrite(
    tmp_path, saved, rough, tool, fails, monkeypatch, name, arguments
):
    source = saved({"state_dict": rough(MSRResNet, **SMALL).state_dict()})
    taken = tmp_path / arguments[0].replace(".param", ".bin")
    taken.write_bytes(b"of another run")
    said = fails(name, source, *arguments)
    assert str(taken.name) in said
    assert "--overwrite" in said
    assert taken.read_bytes() == b"of another run"
    if taken.suffix != ".bin":  # ncnn need not be installed
        tool(name).main([str(source), *arguments, "--overwrite"])
        assert identify(load_checkpoint_file(taken)).layout.network == "MSRResNet"


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_folder_in_the_place_of_the_new_file_is_refused(tmp_path, saved, rough, fails, overwrite):
    source = saved({"state_dict": rough(MSRResNet, **SMALL).state_dict()})
    (tmp_path / "new").mkdir()
    said = fails("convert_checkpoint", source, "new", "--to", "plugin", *overwrite)
    assert "folder" in said
    assert "--overwrite" not in said


def test_publishing_to_a_full_disk_names_the_target_and_leaves_nothing(
    tmp_path, saved, rough, fails, monkeypatch
):
    source = saved({"state_dict": rough(MSRResNet, **SMALL).state_dict()})

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    said = fails("publish_model", source, "published/mine.pth")
    assert "published/mine.pth" in said
    assert "No space left" in said
    assert "/." not in said  # of a temporary name
    assert list((tmp_path / "published").iterdir()) == []


def kairs_function(state, x, scale):
    """Compute KAIR's MSRResNet1 step by step from its own keys."""

    def conv(name, y):
        return F.conv2d(y, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    y = F.leaky_relu(conv("conv_first", x), 0.1)
    for n in range(SMALL["num_blocks"]):
        inside = F.relu(conv(f"recon_trunk.{n}.conv1", y))
        y = y + conv(f"recon_trunk.{n}.conv2", inside)
    for n, factor in enumerate({2: [2], 3: [3], 4: [2, 2]}[scale], start=1):
        y = F.leaky_relu(F.pixel_shuffle(conv(f"upconv{n}", y), factor), 0.1)
    y = conv("conv_last", F.leaky_relu(conv("HRconv", y), 0.1))
    return y + F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_kairs_function_gives_the_same_images_with_converted_weights(tmp_path, saved, rough, scale):
    arch_options = {"activate_after_shuffle": True}
    network = rough(MSRResNet, upscale_factor=scale, **arch_options, **SMALL)
    convert(saved(network.state_dict()), tmp_path / "x.pth", to="kair", arguments=arch_options)
    state, image = torch.load(tmp_path / "x.pth", weights_only=True), torch.rand(1, 3, 9, 14)
    with torch.inference_mode():
        theirs = kairs_function(state, image, scale)
        torch.testing.assert_close(network(image), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"to": "foo"}, "to: expected .*'foo'"),
        ({"to": "plugin", "role": "gen"}, "role: expected .*'gen'"),
        ({"to": "plugin", "origin": "foo"}, "origin: expected .*'foo'"),
        ({"to": "basicsr", "note_among_weights": True}, "note_among_weights: expected to='plugin'"),
    ],
)
def test_an_option_that_does_not_exist_is_named(tmp_path, options, said):
    torch.save(MSRResNet(mid_channels=4, num_blocks=1).state_dict(), tmp_path / "x.pth")
    with pytest.raises(UserError, match=said):
        convert(tmp_path / "x.pth", tmp_path / "y.pth", **options)
    assert not (tmp_path / "y.pth").exists()
