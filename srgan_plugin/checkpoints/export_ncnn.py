"""Generators for ncnn, by pnnx, with the blob names of realesrgan-ncnn-vulkan."""

import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from srgan_plugin.errors import UserError
from srgan_plugin.io.atomic import atomic_path
from srgan_plugin.networks import Generator

from .export import (
    SIZES,
    largest_difference,
    probe_image,
    require_agreement,
    require_exportable,
    write_onnx,
)

_PACKAGES = ("onnx", "onnxscript", "pnnx", "ncnn")
#: pnnx's names of input and output, and those that realesrgan-ncnn-vulkan looks up.
_BLOBS = {"in0": "data", "out0": "output"}


def export_ncnn(network: torch.nn.Module, target: str | Path, *, half: bool = False) -> float:
    """Write a generator as `NAME.param` and `NAME.bin` and compare it with ncnn's own runtime.

    The blob `data` is float32 RGB in [0, 1] of any height and width; `output` is what the network
    returns. The files appear only if ncnn's result on a CPU agrees with torch's.

    Args:
        network: one of our generators, on the CPU, in evaluation mode.
        target: the `.param` file; the `.bin` goes beside it.
        half: whether the weights are stored in half precision, for a file of half the size.

    Returns:
        The largest difference found.

    Raises:
        UserError: no generator, a package is missing (the message has the line that installs
            it), ncnn lacks a layer, or the outputs differ.
        OSError: a file cannot be written.
    """
    generator = require_exportable(network, _PACKAGES)
    target = Path(target)
    with TemporaryDirectory() as folder:
        structure, weights = _run_pnnx(generator, Path(folder), half=half)
    # The inner one is renamed first: a structure is never there without its weights.
    with atomic_path(target) as param, atomic_path(target.with_suffix(".bin")) as binary:
        param.write_text(structure, encoding="ascii")
        binary.write_bytes(weights)
        difference = max(_difference(generator, param, binary, size) for size in SIZES)
        require_agreement(difference, half=half)
    return difference


def _run_pnnx(network: Generator, folder: Path, *, half: bool) -> tuple[str, bytes]:
    """Return the `.param` and the `.bin`, converted by way of ONNX, which is not deprecated."""
    import pnnx

    write_onnx(network, folder / "x.onnx")
    # Two shapes make height and width free.
    channels = network.conv_first.in_channels
    shapes = [f"inputshape{n}=[1,{channels},{h},{w}]" for n, h, w in (("", 20, 24), (2, 33, 17))]
    done = subprocess.run(
        [pnnx.EXEC_PATH, "x.onnx", *shapes, f"fp16={int(half)}"],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    param, binary = folder / "x.ncnn.param", folder / "x.ncnn.bin"
    if done.returncode or not (param.is_file() and binary.is_file()):
        said = " ".join((done.stderr or done.stdout).split())[-200:]
        raise UserError(f"pnnx cannot convert {type(network).__name__} ({said})")
    return _renamed(param.read_text(encoding="ascii")), binary.read_bytes()


def _renamed(structure: str) -> str:
    names = "|".join(_BLOBS)
    return re.sub(rf"(?<!\S)({names})(?!\S)", lambda found: _BLOBS[found[1]], structure)


def _difference(network: Generator, param: Path, binary: Path, size: tuple[int, int]) -> float:
    import ncnn

    net = ncnn.Net()
    # Single precision: the check is of the file, not of a processor's rounding.
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{option}", False)
    if net.load_param(str(param)) or net.load_model(str(binary)):
        raise UserError(f"ncnn has no layer for a part of {type(network).__name__}")
    image = probe_image(network, size)
    extractor = net.create_extractor()
    extractor.input("data", ncnn.Mat(image[0].numpy()).clone())
    status, result = extractor.extract("output")
    if status:
        raise UserError(f"ncnn fails to run the exported {type(network).__name__} ({status})")
    return largest_difference(network, image, torch.from_numpy(result.numpy("f"))[None])
