"""Arguments that no weight shows are recorded or required, never guessed."""

import inspect
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import srgan_plugin
from srgan_plugin import networks
from srgan_plugin.checkpoints import (
    generator_changes,
    identify,
    load_checkpoint_file,
    load_generator_weights,
    open_network,
)
from srgan_plugin.checkpoints.convert import convert
from srgan_plugin.checkpoints.recorded_args import NOTE_TENSOR, read_note_tensor
from srgan_plugin.errors import UserError
from srgan_plugin.inference import Upscaler, open_model
from srgan_plugin.networks import MSRResNet, SRResNet

SMALL = {"mid_channels": 4, "num_blocks": 2}
RANGE = {"output_range": (-1.0, 1.0)}
FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(
    path
    for path in (*FOLDER.glob("*.py"), *FOLDER.glob("mmagic/*.py"))
    if path.name != "bicubic_x4.py"
)
ARGUMENT_OF = {  # what its weights do not show of a network, and a value that no config has
    "MSRResNet": ("activate_after_shuffle", True),
    "SRResNet": ("output_range", (0.0, 1.0)),
}
IMAGE = np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(np.uint8)


@pytest.fixture
def bare(tmp_path, rough):
    """Return weights of an SRResNet of (-1, 1) that do not record it, and the network."""
    network = rough(SRResNet, **RANGE, **SMALL)
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    return tmp_path / "bare.pth", network


def with_note(path, network, note):
    torch.save({"state_dict": network.state_dict(), "meta": {"srgan_plugin": note}}, path)
    return path


def asks(line, path):
    return all(
        word in line
        for word in (path.name, "output_range", "(0, 1) or (-1, 1)", "--arch-option output_range=")
    )


def test_every_tool_that_runs_the_network_requires_the_range(bare, fails, tmp_path):
    path, _ = bare
    cv2.imwrite(str(tmp_path / "lr.png"), IMAGE)
    assert asks(fails("upscale", "lr.png", "sr.png", "--model", path), path)
    assert asks(fails("upscale", "lr.png", "sr.png", "--blend", 0.5, "--model", path), path)
    assert asks(fails("export", path, "x.onnx"), path)
    assert not {"sr.png", "x.onnx"} & {found.name for found in tmp_path.iterdir()}
    for run in (open_network, open_model, lambda path: srgan_plugin.upscale(IMAGE, model=path)):
        with pytest.raises(ValueError, match="output_range") as caught:
            run(str(path))
        assert asks(str(caught.value), path)


def test_the_given_range_is_used(bare, tool, tmp_path):
    path, network = bare
    expected = Upscaler(network)(IMAGE)
    cv2.imwrite(str(tmp_path / "lr.png"), IMAGE[..., ::-1])
    option = ["--arch-option", "output_range=(-1,1)"]
    tool("upscale").main(["lr.png", "sr.png", "--model", str(path), *option])
    assert np.array_equal(cv2.imread(str(tmp_path / "sr.png"))[..., ::-1], expected)
    assert np.array_equal(
        srgan_plugin.upscale(IMAGE, model=str(path), arch_options=RANGE), expected
    )
    other = Upscaler(open_model(str(path), arch_options={"output_range": [0, 1]}))(IMAGE)
    assert np.abs(other.astype(int) - expected).mean() > 20


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_a_conversion_records_no_range_that_is_not_given(bare, tool, capsys, tmp_path, name):
    path, network = bare
    tool("convert_checkpoint").main([str(path), name, "--to", "plugin"])
    assert "unrecorded output_range" in capsys.readouterr().out
    checkpoint = load_checkpoint_file(tmp_path / name)
    assert checkpoint["meta"]["srgan_plugin"] == {"format": 2, "network": "SRResNet"}
    config = {"type": "SRResNet", "output_range": (-1, 1), **SMALL}
    assert generator_changes(config, checkpoint) == {}
    with pytest.raises(ValueError, match=f"{name}.*output_range"):
        open_network(tmp_path / name)
    tool("publish_model").main([str(path), f"pub/{name}"])
    assert "unrecorded output_range" in capsys.readouterr().out
    tool("inspect_checkpoint").main([name])
    said = capsys.readouterr().out
    assert "unrecorded output_range" in said
    assert "strictly" in said
    arch_options = ["--arch-option", "output_range=(-1,1)"]
    tool("convert_checkpoint").main([name, f"told_{name}", "--to", "plugin", *arch_options])
    assert torch.equal(
        open_network(tmp_path / f"told_{name}")(torch.ones(1, 3, 8, 8)),
        network(torch.ones(1, 3, 8, 8)),
    )


def test_a_default_in_an_old_note_is_ignored_and_another_value_is_used(tmp_path, rough):
    network = rough(SRResNet, **RANGE, **SMALL)
    config = {"type": "SRResNet", "output_range": (-1, 1), **SMALL}
    for value in ((0.0, 1.0), [0, 1]):
        path = with_note(
            tmp_path / "x.pth", network, {"network": "SRResNet", "output_range": value}
        )
        assert generator_changes(config, load_checkpoint_file(path)) == {}
        with pytest.raises(ValueError, match="output_range"):
            open_network(path)
    note = {"network": "SRResNet", "output_range": [-1, 1]}
    assert open_network(with_note(path, network, note)).output_range == (-1, 1)
    note = {"format": 2, "network": "SRResNet", "output_range": (0, 1)}
    assert open_network(with_note(path, network, note)).output_range == (0, 1)


def test_an_old_note_does_not_switch_an_activation_off(tmp_path, rough):
    note = {"network": "MSRResNet", "activate_after_shuffle": False}
    path = with_note(tmp_path / "x.pth", rough(MSRResNet, **SMALL), note)
    config = {"type": "MSRResNet", "activate_after_shuffle": True, **SMALL}
    assert generator_changes(config, load_checkpoint_file(path)) == {}
    path = with_note(path, rough(MSRResNet, **SMALL), {"format": 2, **note})
    assert generator_changes(config, load_checkpoint_file(path)) == {
        "activate_after_shuffle": False
    }


@pytest.mark.parametrize(
    ("generator", "stated"),
    [
        ("type='SRResNet', mid_channels=4", (0, 1)),
        ("type='srgan_plugin.SRResNet', output_range=(\n    -1,\n    1,\n)", (-1, 1)),
        ("type='OtherNet', output_range=(0, 1)", None),
    ],
)
def test_the_config_of_a_training_records_the_range_of_its_generator(rough, generator, stated):
    """A range elsewhere in the config is ignored."""
    text = f"data = dict(output_range=(0, 1))\nmodel = dict(generator=dict({generator}))\n"
    checkpoint = {"state_dict": rough(SRResNet, **SMALL).state_dict(), "meta": {"cfg": text}}
    assert identify(checkpoint).arguments.get("output_range") == stated


def test_other_arguments_in_the_config_of_a_training_are_not_evaluated(rough):
    """`{[1]: 2}` cannot be evaluated, and a thousand signs exceed Python's recursion limit."""
    others = f"type='SRResNet', output_range=(-1, 1), a={{[1]: 2}}, b={'-' * 600}1"
    meta = {"cfg": f"model = dict(generator=dict({others}))"}
    checkpoint = {"state_dict": rough(SRResNet, **SMALL).state_dict(), "meta": meta}
    assert identify(checkpoint).arguments["output_range"] == (-1, 1)
    for act, got in (("{[1]: 2}", r"{\[1\]: 2}"), ("-" * 600 + "1", "nested too deeply")):
        meta["cfg"] = f"model = dict(generator=dict(type='SRResNet', act={act}))"
        with pytest.raises(UserError, match=rf"generator\.act: expected prelu .*got '{got}'"):
            identify(checkpoint)


def test_a_note_tensor_that_is_nested_too_deeply_is_refused():
    nested = torch.tensor(list(b"[" * 9000), dtype=torch.int32)
    with pytest.raises(UserError, match="expected JSON"):
        read_note_tensor({NOTE_TENSOR: nested})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_bundled_config_records_the_function_of_its_generator(path, rough):
    """GANs have an optimizer of the same name as the generator as well."""
    config = pytest.importorskip("mmengine").Config.fromfile(path)
    kind = config.model.generator.type
    name, other = ARGUMENT_OF[kind]
    state = rough(getattr(networks, kind), **SMALL).state_dict()
    default = inspect.signature(getattr(networks, kind)).parameters[name].default
    for value in (config.model.generator.get(name, default), other):
        config.model.generator[name] = value
        checkpoint = {"state_dict": state, "meta": {"cfg": config.pretty_text}}
        assert identify(checkpoint).arguments.get(name) == value


def test_a_network_whose_gan_config_records_its_arguments_is_built_without_options(
    tmp_path, rough, caplog
):
    text = "model = dict(generator=dict(type='{}', {}))\noptim_wrapper = dict(generator=dict(lr=1))"
    for cls, name, value in (
        (MSRResNet, "activate_after_shuffle", True),
        (SRResNet, "output_range", (-1.0, 1.0)),
    ):
        state = rough(cls, **{name: value}, **SMALL).state_dict()
        cfg = text.format(cls.__name__, f"{name}={value}")
        torch.save({"state_dict": state, "meta": {"cfg": cfg}}, tmp_path / "x.pth")
        assert getattr(open_network(tmp_path / "x.pth"), name) == value
        other = cls(**{name: not value if value is True else (0, 1)}, **SMALL)
        with pytest.raises(ValueError, match=f"set {name}="):
            load_generator_weights(other, str(tmp_path / "x.pth"))
    assert not caplog.text


NOTES = [
    ({"output_range": "(-1, 1)"}, r"output_range.*\(0, 1\) or \(-1, 1\).*'\(-1, 1\)'"),
    ({"output_range": [0, 255]}, r"output_range.*\[0, 255\]"),
    ({"output_range": [False, True]}, r"output_range.*\[False, True\]"),
    ({"output_range": 1}, r"output_range.*\b1$"),
    ({"output_range": [[0], 1]}, r"output_range.*\[\[0\], 1\]"),
    ({"output_range": [10**400, 1]}, r"output_range.*\[1000"),
    ({"norm_eps": 10**400}, "norm_eps: expected a number above 0, got 1000"),
    ({"range": [0, 1]}, "output_range.*'range'"),
    ({"activate_after_shuffle": False}, "output_range.*'activate_after_shuffle'"),
    ({"network": "MSRResNet"}, "network.*SRResNet.*'MSRResNet'"),
    ({"format": "2"}, "format.*2.*'2'"),
    ([1], r"dict.*\[1\]"),
]


@pytest.mark.parametrize(("note", "said"), NOTES)
def test_an_invalid_note_is_refused_by_its_key(tmp_path, rough, fails, note, said):
    network = rough(SRResNet, **SMALL)
    path = with_note(tmp_path / "x.pth", network, note)
    with pytest.raises(ValueError, match=rf"x\.pth: meta\.srgan_plugin.*{said}") as caught:
        open_network(path)
    assert "\n" not in str(caught.value)
    config = {"type": "SRResNet", **SMALL}
    with pytest.raises(ValueError, match=r"meta\.srgan_plugin"):
        generator_changes(config, load_checkpoint_file(path))
    assert "meta.srgan_plugin" in fails("convert_checkpoint", path, "y.pth", "--to", "plugin")


def test_the_text_false_is_not_a_boolean(tmp_path, rough):
    note = {"format": 2, "network": "MSRResNet", "activate_after_shuffle": "False"}
    path = with_note(tmp_path / "x.pth", rough(MSRResNet, **SMALL), note)
    with pytest.raises(ValueError, match=r"activate_after_shuffle.*True or False.*'F"):
        open_network(path)


def test_notes_of_safetensors_are_checked_as_well(tmp_path, rough):
    safetensors = pytest.importorskip("safetensors.torch")
    state, path = rough(SRResNet, **SMALL).state_dict(), tmp_path / "x.safetensors"
    nested = "[" * 9000
    for note, said in (('{"output_range": [0, 2]}', "0, 2"), ("{", "JSON"), (nested, "JSON")):
        safetensors.save_file(state, path, metadata={"srgan_plugin": note})
        with pytest.raises(ValueError, match=f"x.safetensors: .*{said}"):
            open_network(path)


def test_a_note_that_contradicts_the_keys_is_refused(tmp_path, rough):
    state = rough(MSRResNet, **SMALL).state_dict()
    names = {"trunk_net.": "body.", "upsample1.upsample_conv": "upconv1"}
    names["upsample2.upsample_conv"] = "upconv2"
    for ours, theirs in names.items():
        state = {key.replace(ours, theirs): weight for key, weight in state.items()}
    note = {"format": 2, "network": "MSRResNet", "activate_after_shuffle": False}
    torch.save({"params": state, "meta": {"srgan_plugin": note}}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"activate_after_shuffle.*True.*BasicSR.*False"):
        open_network(tmp_path / "x.pth")


@pytest.mark.parametrize("option", ["output_range", "output_range=x y", "output_range=(0,"])
def test_an_invalid_option_is_refused_in_one_line(bare, fails, option):
    path, _ = bare
    cv2.imwrite("lr.png", IMAGE)
    arguments = ("lr.png", "sr.png", "--model", path, "--arch-option")
    assert f"got {option}" in fails("upscale", *arguments, option, status=2)
    assert "imagenet, got 'x'" in fails("upscale", *arguments, "output_range=x")


def test_bare_weights_in_mmagics_keys_are_read_as_mmagics_with_a_warning(tmp_path, rough, caplog):
    network = rough(MSRResNet, activate_after_shuffle=True, **SMALL)
    for around in ({}, {"meta": {"iter": 3}}, {"meta": {"cfg": "train_cfg = dict()"}}):
        torch.save({"state_dict": network.state_dict(), **around}, tmp_path / "x.pth")
        with caplog.at_level(logging.WARNING):
            assert not open_network(tmp_path / "x.pth").activate_after_shuffle
        assert "x.pth" in caplog.text
        assert "--arch-option activate_after_shuffle=True" in caplog.text
        caplog.clear()
    arch_options = {"activate_after_shuffle": True}
    convert(tmp_path / "x.pth", tmp_path / "y.pth", to="plugin", arguments=arch_options)
    assert open_network(tmp_path / "y.pth").activate_after_shuffle
    assert not caplog.text


@pytest.mark.parametrize("stated", ["note", "config"])
def test_loading_a_checkpoint_of_another_function_is_refused(tmp_path, rough, stated):
    """mmengine passes only the weights to a model, under any launcher."""
    runner = pytest.importorskip("mmengine.runner")
    from srgan_plugin.hosts.mmengine.models.sr_model import SRModel

    network = rough(SRResNet, **RANGE, **SMALL)
    text = "model = dict(generator=dict(type='SRResNet', output_range=(-1, 1)))"
    meta = {
        "note": {"srgan_plugin": {"format": 2, "network": "SRResNet", "output_range": [-1, 1]}},
        "config": {"cfg": text},
    }[stated]
    path, image = str(tmp_path / "x.pth"), torch.rand(1, 3, 8, 8)
    torch.save({"state_dict": network.state_dict(), "meta": meta}, path)
    for value in ((0, 1), (-1, 1)):
        config = {"type": "SRResNet", "output_range": value, **SMALL}
        model = SRModel(config, pixel_loss={"type": "L1Loss"}).eval()
        own = model.generator
        if value == (0, 1):
            with pytest.raises(ValueError, match=r"set output_range=\(-1.0, 1.0\)"):
                runner.load_checkpoint(model, path, map_location="cpu")
            with pytest.raises(ValueError, match=r"x\.pth: .*set output_range"):
                load_generator_weights(own, path)
        else:
            runner.load_checkpoint(model, path, map_location="cpu")
            assert torch.equal(own(image), network(image))


STRANGERS = {  # a few keys of each, which are no network
    "leftthomas": (
        *("block1.0.weight", "block2.conv1.weight", "block2.prelu.weight"),
        *("block7.0.weight", "block7.1.weight"),
    ),
    "eriklindernoren": (
        *("conv1.0.weight", "conv1.1.weight", "res_blocks.0.conv_block.0.weight"),
        *("upsampling.1.weight", "conv3.0.weight"),
    ),
    "aladdinpersson": ("initial.cnn.weight", "residuals.0.block1.cnn.weight", "final.weight"),
    "Lornatang": ("conv1.0.weight", "trunk.0.rcb.0.weight", "conv3.weight"),
    "aitorzip": (
        *("conv1.weight", "residual_block1.conv1.weight", "upsample1.conv.weight"),
        *("bn2.weight", "conv3.weight"),
    ),
}


@pytest.mark.parametrize("name", STRANGERS)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_incomplete_generators_of_repositories_are_refused_by_name(tmp_path, fails, name, prefix):
    state = {prefix + key: torch.ones(4, 4, 3, 3) for key in STRANGERS[name]}
    torch.save({"model": state} if prefix else state, tmp_path / "x.pth")
    cv2.imwrite(str(tmp_path / "lr.png"), IMAGE)
    assert name in fails("upscale", "lr.png", "sr.png", "--model", "x.pth")
    assert name in fails("convert_checkpoint", "x.pth", "y.pth", "--to", "plugin")
