"""Exports give the same images as torch at any size, or no file is written."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from srgan_plugin import __version__
from srgan_plugin.checkpoints import export, open_network
from srgan_plugin.checkpoints.export_ncnn import export_ncnn
from srgan_plugin.checkpoints.inspect import inspect_checkpoint
from srgan_plugin.checkpoints.recorded_args import NON_INFERABLE_ARGS
from srgan_plugin.errors import UserError
from srgan_plugin.networks import Generator, ModifiedVGG, MSRResNet, SRResNet

SMALL = {"mid_channels": 4, "num_blocks": 2}


@pytest.fixture
def onnxruntime():
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    return pytest.importorskip("onnxruntime")


@pytest.fixture
def ncnn():
    for name in ("onnx", "onnxscript", "pnnx"):
        pytest.importorskip(name)
    return pytest.importorskip("ncnn")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (MSRResNet, {"upscale_factor": 3, "activate_after_shuffle": True}),
        (SRResNet, {"prelu": "channel", "output_range": (-1, 1)}),
    ],
)
def test_onnx_gives_the_same_images_as_torch_at_sizes_it_was_not_traced_with(
    tmp_path, tool, rough, onnxruntime, cls, options
):
    network = rough(cls, **SMALL, **options)
    torch.save(network.state_dict(), tmp_path / "x.pth")
    arch_options = [f"{key}={value}" for key, value in options.items() if key in NON_INFERABLE_ARGS]
    tool("export").main(["x.pth", "x.onnx", "--arch-option", *arch_options])
    session = onnxruntime.InferenceSession("x.onnx", providers=["CPUExecutionProvider"])
    for height, width in ((8, 8), (31, 12), (5, 50)):
        image = torch.rand(1, 3, height, width)
        (exported,) = session.run(["sr"], {"lr": image.numpy()})
        with torch.inference_mode():
            np.testing.assert_allclose(exported, network(image).numpy(), rtol=0, atol=1e-4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.onnx", "x.pth"]


def test_an_onnx_file_has_metadata_and_no_paths_of_this_machine(tmp_path, tool, rough, onnxruntime):
    network = rough(MSRResNet, **SMALL, upscale_factor=2)
    torch.save(network.state_dict(), tmp_path / "x.pth")
    tool("export").main(["x.pth", "x.onnx", "--name", "mine", "--license", "cc-by-4.0"])
    session = onnxruntime.InferenceSession("x.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map == {
        "name": "mine",
        "license": "cc-by-4.0",
        "network": "MSRResNet",
        "scale": "2",
        "input_channels": "3",
        "output_channels": "3",
        "channel_order": "RGB",
        "input_range": "[0, 1]",
        "output_range": "[0, 1]",
        "producer": f"srgan_plugin {__version__}",
    }
    assert str(Path(export.__file__).parents[1]).encode() not in Path("x.onnx").read_bytes()


def test_half_precision_halves_the_file_and_keeps_the_images(tmp_path, tool, rough, onnxruntime):
    network = rough(SRResNet, mid_channels=16, num_blocks=2, upscale_factor=2)
    note = {"srgan_plugin": {"format": 2, "network": "SRResNet", "output_range": (0, 1)}}
    torch.save({"state_dict": network.state_dict(), "meta": note}, tmp_path / "x.pth")
    tool("export").main(["x.pth", "half.onnx", "--half"])
    single = sum(weight.nbytes for weight in network.parameters())
    assert Path("half.onnx").stat().st_size < 0.65 * single
    session = onnxruntime.InferenceSession("half.onnx", providers=["CPUExecutionProvider"])
    image = torch.rand(1, 3, 9, 14)
    (exported,) = session.run(["sr"], {"lr": image.numpy()})
    assert exported.dtype == np.float32
    with torch.inference_mode():
        np.testing.assert_allclose(exported, network(image).numpy(), rtol=0, atol=1 / 255)


def test_a_network_that_overflows_half_precision_is_not_written_with_half(
    tmp_path, rough, onnxruntime
):
    network = rough(MSRResNet, **SMALL)
    with torch.no_grad():
        network.conv_hr.weight.mul_(1e6)
        network.conv_hr.bias.mul_(1e6)
        network.conv_last.weight.mul_(1e-6)
    with pytest.raises(ValueError, match="export it without --half"):
        export.export_onnx(network, tmp_path / "x.onnx", half=True)
    assert list(tmp_path.iterdir()) == []


def test_an_overflow_to_nan_in_half_precision_is_not_written(tmp_path, onnxruntime):
    network = MSRResNet(mid_channels=4, num_blocks=1).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.conv_hr.bias.fill_(1e5)
        network.conv_last.weight[:, :2, 1, 1] = torch.tensor([1.0, -1.0])  # infinity minus infinity
    with pytest.raises(ValueError, match=r"by nan.*export it without --half"):
        export.export_onnx(network, tmp_path / "x.onnx", half=True)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="by nan"):
        export.require_agreement([0.0, math.nan, 0.0], half=False)


def test_half_precision_is_checked_of_the_network_that_is_written(tmp_path, rough, onnxruntime):
    network = rough(SRResNet, **SMALL)
    with torch.no_grad():  # over the largest number of float16, but not once it is folded
        network.bn_trunk.running_mean.fill_(1e5)
        network.conv_trunk.bias.fill_(1e5)
    assert export.export_onnx(network, tmp_path / "x.onnx", half=True) < 1e-2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (nn.Module.half, "float16, on cpu, in evaluation mode"),
        (nn.Module.double, "float64"),
        (nn.Module.train, "float32, on cpu, in training mode"),
    ],
)
def test_a_network_in_another_state_is_refused_with_what_to_do(
    tmp_path, rough, onnxruntime, change, said
):
    with pytest.raises(UserError, match=rf"{said}.*float\(\)\.cpu\(\)\.eval\(\)"):
        export.export_onnx(change(rough(MSRResNet, **SMALL)), tmp_path / "x.onnx")


class ActivatedFirst(Generator):
    """A generator whose `bn1` does not follow `conv1`."""

    upscale_factor = 1

    def __init__(self):
        super().__init__()
        self.conv_first = self.conv1 = nn.Conv2d(3, 3, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(3)
        self.bn1.running_mean.fill_(0.3)
        self.bn1.running_var.fill_(0.5)

    def forward(self, x):
        return self.bn1(torch.relu(self.conv1(x)))


def test_a_normalisation_that_does_not_follow_its_convolution_is_not_folded_into_it():
    network, image = ActivatedFirst().eval(), torch.rand(1, 3, 8, 8)
    folded = export.fold_batch_norm(network)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    with torch.inference_mode():
        torch.testing.assert_close(folded(image), network(image))


class OtherNorms(Generator):
    """A generator with instance normalisation, normalisation before a convolution, and tanh."""

    upscale_factor = 2

    def __init__(self):
        super().__init__()
        self.conv_first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.bn = nn.BatchNorm2d(8, eps=0.8)
        self.conv_last = nn.Conv2d(8, 12, 3, padding=1)

    def forward(self, x):
        x = self.norm(self.conv_first(2 * x - 1))
        x = nn.functional.pixel_shuffle(self.conv_last(torch.relu(self.bn(x))), 2)
        return (torch.tanh(x) + 1) / 2


@pytest.mark.parametrize("write", [export.export_onnx, export_ncnn])
def test_instance_normalisation_and_normalisation_without_convolution_are_exported(
    tmp_path, rough, ncnn, write
):
    pytest.importorskip("onnxruntime")
    assert write(rough(OtherNorms), tmp_path / "x.param") < 1e-5


@pytest.mark.parametrize(
    ("cls", "options", "half"),
    [
        (MSRResNet, {"upscale_factor": 3, "activate_after_shuffle": True}, False),
        (MSRResNet, {"upscale_factor": 2}, True),
        (SRResNet, {"upscale_factor": 4, "prelu": "channel", "output_range": (-1, 1)}, False),
    ],
)
def test_ncnn_gives_the_same_images_as_torch_with_the_blobs_of_realesrgan_ncnn_vulkan(
    tmp_path, tool, rough, ncnn, cls, options, half
):
    network = rough(cls, **SMALL, **options)
    torch.save(network.state_dict(), tmp_path / "x.pth")
    arch_options = [f"{key}={value}" for key, value in options.items() if key in NON_INFERABLE_ARGS]
    flags = ["--arch-option", *arch_options] * bool(arch_options) + ["--half"] * half
    tool("export").main(["x.pth", "realesr-x", "--to", "ncnn", *flags])
    names = ["realesr-x.bin", "realesr-x.param", "x.pth"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    net = ncnn.Net()
    net.opt.use_fp16_arithmetic = net.opt.use_fp16_storage = False  # which ARM would do
    assert net.load_param("realesr-x.param") == net.load_model("realesr-x.bin") == 0
    assert (net.input_names(), net.output_names()) == (["data"], ["output"])
    for height, width in ((8, 8), (31, 12), (5, 50)):
        image = torch.rand(3, height, width)
        extractor = net.create_extractor()
        extractor.input("data", ncnn.Mat(image.numpy()).clone())
        status, result = extractor.extract("output")
        assert status == 0
        with torch.inference_mode():
            expected = network(image[None])[0].numpy()
        np.testing.assert_allclose(np.array(result), expected, atol=5e-4 if half else 1e-4, rtol=0)


def test_a_layer_missing_in_ncnn_is_refused_and_nothing_is_written(tmp_path, rough, ncnn):
    class Sorting(OtherNorms):
        def forward(self, x):
            return super().forward(x).sort(dim=-1).values

    with pytest.raises(UserError, match="Sorting"):
        export_ncnn(rough(Sorting), tmp_path / "x.param")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x.onnx", "--to", "ncnn"], ".param"),
        (["x.txt"], ".onnx, .param, .safetensors"),
    ],
)
def test_a_name_that_does_not_fit_the_format_is_a_usage_error(tool, capsys, arguments, said):
    with pytest.raises(SystemExit) as stop:
        tool("export").main(["x.pth", *arguments])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


class CountingGenerator(Generator):
    """A generator that adds the number of its calls, which no graph can express."""

    upscale_factor = 4

    def __init__(self):
        super().__init__()
        self.conv_first = nn.Conv2d(3, 3, 1)
        self.calls = 0.0

    def forward(self, x):
        self.calls += 1
        return self.conv_first(x) + self.calls


def test_an_export_that_differs_from_torch_is_not_written(tmp_path, onnxruntime):
    with pytest.raises(ValueError, match=r"differs from torch by \d"):
        export.export_onnx(CountingGenerator().eval(), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_message_for_a_missing_package_says_how_to_install_it(
    tmp_path, fails, rough, monkeypatch
):
    torch.save(rough(MSRResNet, **SMALL).state_dict(), tmp_path / "x.pth")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name)
    )
    assert fails("export", "x.pth", "x.onnx").endswith("pip install onnxruntime")


def test_a_discriminator_is_not_exported(tmp_path, fails, rough, onnxruntime):
    torch.save(rough(ModifiedVGG, mid_channels=2).state_dict(), tmp_path / "x.pth")
    assert "generator" in (said := fails("export", "x.pth", "x.onnx"))
    assert "ModifiedVGG" in said


def test_the_metadata_of_safetensors_are_shown_by_inspect_and_kept_by_a_conversion(
    tmp_path, tool, rough
):
    torch.save(rough(MSRResNet, **SMALL).state_dict(), tmp_path / "x.pth")
    tool("export").main(["x.pth", "x.safetensors", "--license", "cc-by-4.0"])
    tool("export").main(["x.safetensors", "again.safetensors"])
    stated = inspect_checkpoint("again.safetensors")["metadata"]
    for fact in ("name: again", "license: cc-by-4.0", "scale: 4", f"srgan_plugin {__version__}"):
        assert fact in stated
    with safe_open("again.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"


def test_exports_of_bundled_weights_have_their_licence(tool, onnxruntime):
    tool("export").main(["srgan", "x.safetensors"])
    stated = inspect_checkpoint("x.safetensors")
    assert "license: cc-by-sa-4.0" in stated["metadata"]
    assert "unrecorded" not in stated


def test_safetensors_are_exported_with_arguments_that_no_weight_shows(tmp_path, tool, rough):
    network = rough(MSRResNet, activate_after_shuffle=True, **SMALL)
    torch.save(network.state_dict(), tmp_path / "x.pth")
    tool("export").main(["x.pth", "x.safetensors", "--arch-option", "activate_after_shuffle=True"])
    image = torch.rand(1, 3, 6, 6)
    assert torch.equal(open_network("x.safetensors")(image), network(image))
