"""Exports that give torch's pictures at any size, or no file."""

import importlib.util

import numpy as np
import pytest
import torch
from torch import nn

from srgan_plugin.checkpoints import export, open_network
from srgan_plugin.checkpoints.recorded_args import NON_INFERABLE_ARGS
from srgan_plugin.networks import Generator, ModifiedVGG, MSRResNet, SRResNet

SMALL = {"mid_channels": 4, "num_blocks": 2}


@pytest.fixture
def onnxruntime():
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    return pytest.importorskip("onnxruntime")


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (MSRResNet, {"upscale_factor": 3, "activate_after_shuffle": True}),
        (SRResNet, {"prelu": "channel", "output_range": (-1, 1)}),
    ],
)
def test_onnx_gives_torchs_images_at_sizes_it_was_not_traced_with(
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


class CountingGenerator(Generator):
    """Adds the number of its calls, which no graph can express."""

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


def test_a_missing_package_is_answered_by_the_line_that_installs_it(
    tmp_path, fails, rough, monkeypatch
):
    torch.save(rough(MSRResNet, **SMALL).state_dict(), tmp_path / "x.pth")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name)
    )
    assert fails("export", "x.pth", "x.onnx").endswith("pip install onnxruntime")


def test_a_discriminator_is_no_generator_to_export(tmp_path, fails, rough, onnxruntime):
    torch.save(rough(ModifiedVGG, mid_channels=2).state_dict(), tmp_path / "x.pth")
    assert "generator" in (said := fails("export", "x.pth", "x.onnx")) and "ModifiedVGG" in said


def test_safetensors_are_exported_with_what_they_do_not_tell(tmp_path, tool, rough):
    network = rough(MSRResNet, activate_after_shuffle=True, **SMALL)
    torch.save(network.state_dict(), tmp_path / "x.pth")
    tool("export").main(["x.pth", "x.safetensors", "--arch-option", "activate_after_shuffle=True"])
    image = torch.rand(1, 3, 6, 6)
    assert torch.equal(open_network("x.safetensors")(image), network(image))
