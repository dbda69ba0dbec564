"""Generators for other runtimes: ONNX with any height and width."""

import copy
import importlib.util
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from srgan_plugin.errors import UserError
from srgan_plugin.io.atomic import atomic_path
from srgan_plugin.networks import Generator

TOLERANCE = 1e-4  # of the images' range of 1
#: Height and width of the LR images on which an export is checked.
SIZES = ((24, 24), (17, 40), (33, 21))
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def export_onnx(network: nn.Module, target: str | Path) -> float:
    """Write a generator as ONNX and compare it with onnxruntime; it appears only if they agree.

    The graph's `lr`, float32 (1, C, H, W) in [0, 1], has any height and width from 2; its `sr` is
    what the network returns.

    Args:
        network: one of our generators, on the CPU, in evaluation mode.
        target: the `.onnx` file.

    Returns:
        The largest difference found.

    Raises:
        UserError: no generator, a package is missing (the message has the line that installs
            it), or the outputs differ by more than `TOLERANCE`.
        OSError: the file cannot be written.
    """
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise UserError(f"exporting to ONNX needs more packages: pip install {' '.join(missing)}")
    if not isinstance(network, Generator):
        raise UserError(f"expected a generator to export, got {type(network).__name__}")
    channels = network.conv_first.in_channels
    with atomic_path(target) as temporary:
        _write_onnx(network, temporary, channels)
        difference = max(_difference(network, temporary, channels, size) for size in SIZES)
        if not difference <= TOLERANCE:
            raise UserError(
                f"the exported network differs from torch by {difference:.1e} (allowed "
                f"{TOLERANCE:.0e}); nothing was written"
            )
    return difference


def _folded(network: nn.Module) -> nn.Module:
    """A copy whose batch normalisations are part of the convolutions before them.

    They cost a runtime time, and torch 2.6 fails to export them.
    """
    network = copy.deepcopy(network)
    norms = [name for name, part in network.named_modules() if isinstance(part, nn.BatchNorm2d)]
    for name in norms:
        parent, _, last = name.rpartition(".")
        block, conv = network.get_submodule(parent), last.replace("bn", "conv")
        fused = fuse_conv_bn_eval(getattr(block, conv), getattr(block, last))
        setattr(block, conv, fused)
        setattr(block, last, nn.Identity())
    return network


def _write_onnx(network: nn.Module, target: Path, channels: int) -> None:
    sides = {axis: torch.export.Dim(name, min=2) for axis, name in ((2, "height"), (3, "width"))}
    # The exporter narrates; what matters is checked afterwards.
    chatty = logging.getLogger("torch.onnx")
    level = chatty.level
    chatty.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                _folded(network),
                (_image(channels, (20, 24)),),
                target,
                input_names=["lr"],
                output_names=["sr"],
                dynamic_shapes=(sides,),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        chatty.setLevel(level)


def _difference(network: nn.Module, path: Path, channels: int, size: tuple[int, int]) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = _image(channels, size)
    (exported,) = session.run(["sr"], {"lr": image.numpy()})
    with torch.inference_mode():
        return float((network(image) - torch.from_numpy(exported)).abs().max())


def _image(channels: int, size: tuple[int, int]) -> Tensor:
    return torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(0))
