"""Export generators to ncnn with pnnx."""

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
    require_agreement,
    require_exportable,
    write_onnx,
)
from .probe import probe_image

_PACKAGES = ("onnx", "onnxscript", "pnnx", "ncnn")
#: {name of input or output in pnnx: name in realesrgan-ncnn-vulkan}
_BLOBS = {"in0": "data", "out0": "output"}


def export_ncnn(network: torch.nn.Module, target: str | Path, *, half: bool = False) -> float:
    """Export a generator to `NAME.param` and `NAME.bin`, compared with torch on probe images.

    The input blob is `data`, float32 RGB (C, H, W) in [0, 1] with any H and W. The output blob is
    `output`, the output of `forward`.

    Args:
        network: A generator of this package, on the CPU, in evaluation mode.
        target: The `.param` file; the `.bin` file is written to the same folder. Both are written
            only if the outputs on a CPU agree.
        half: Whether to store the weights in half precision, which halves the file.

    Returns:
        The largest difference between the outputs.

    Raises:
        UserError: The network is not a generator, a package or a layer of ncnn is missing, or the
            outputs differ.
        OSError: A file cannot be written.
    """
    generator = require_exportable(network, _PACKAGES)
    target = Path(target)
    with TemporaryDirectory() as folder:
        structure, weights = _run_pnnx(generator, Path(folder), half=half)
    # The `.bin` file is renamed first, so that no `.param` file exists without weights.
    with atomic_path(target) as param, atomic_path(target.with_suffix(".bin")) as binary:
        param.write_text(structure, encoding="ascii")
        binary.write_bytes(weights)
        differences = [_difference(generator, param, binary, size) for size in SIZES]
        return require_agreement(differences, half=half)


def _run_pnnx(network: Generator, folder: Path, *, half: bool) -> tuple[str, bytes]:
    """Return the contents of the `.param` and `.bin` files.

    Args:
        network: The generator.
        folder: An empty folder for temporary files.
        half: See `export_ncnn`.
    """
    import pnnx

    write_onnx(network, folder / "x.onnx")  # TorchScript, pnnx's other input, is deprecated
    # With two shapes, pnnx makes height and width dynamic.
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
        output = " ".join((done.stderr or done.stdout).split())[-200:]
        raise UserError(f"pnnx cannot convert {type(network).__name__} ({output})")
    return _rename_blobs(param.read_text(encoding="ascii")), binary.read_bytes()


def _rename_blobs(structure: str) -> str:
    """Rename the blobs in the content of a `.param` file."""
    names = "|".join(_BLOBS)
    return re.sub(rf"(?<!\S)({names})(?!\S)", lambda found: _BLOBS[found[1]], structure)


def _difference(network: Generator, param: Path, binary: Path, size: tuple[int, int]) -> float:
    """Return the largest difference between the outputs of ncnn and torch."""
    import ncnn

    net = ncnn.Net()
    # Single precision, so that rounding on this processor does not count as a difference.
    for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
        setattr(net.opt, f"use_{option}", False)
    if net.load_param(str(param)) or net.load_model(str(binary)):
        raise UserError(f"ncnn has no layer for a part of {type(network).__name__}")
    image = probe_image(network.conv_first.in_channels, *size)
    extractor = net.create_extractor()
    extractor.input("data", ncnn.Mat(image[0].numpy()).clone())
    status, result = extractor.extract("output")
    if status:
        raise UserError(f"ncnn fails to run the exported {type(network).__name__} ({status})")
    return largest_difference(network, image, torch.from_numpy(result.numpy("f"))[None])
