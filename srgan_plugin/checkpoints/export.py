"""Export generators to ONNX."""

import copy
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from srgan_plugin.errors import UserError
from srgan_plugin.io.atomic import atomic_path
from srgan_plugin.networks import Generator

from .probe import probe_image

TOLERANCE = 1e-4  # largest difference of images in [0, 1]
HALF_TOLERANCE = 1 / 255  # one level of an 8-bit image
#: (height, width) of the probe images on which an export is compared with torch.
SIZES = ((24, 24), (17, 40), (33, 21))
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def export_onnx(
    network: nn.Module,
    target: str | Path,
    *,
    half: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> float:
    """Export a generator to ONNX, and compare ONNX Runtime with torch on probe images.

    The input of the graph is `lr`, float32 (1, C, H, W) in [0, 1], with any H and W of at least 2.
    Its output is `sr`, (1, C, scale * H, scale * W), the output of `forward`.

    Args:
        network: A generator of this package, float32, on the CPU, in evaluation mode.
        target: The `.onnx` file. It is only written if the outputs agree.
        half: Whether to store weights and compute in half precision, which halves the file; `lr`
            and `sr` stay float32.
        metadata: Metadata of the file, from `export_metadata`.

    Returns:
        The largest difference between the outputs, for images in [0, 1].

    Raises:
        UserError: The network is not such a generator, a package is missing, or the outputs differ
            by more than `TOLERANCE`, or `HALF_TOLERANCE`.
        OSError: The file cannot be written.
    """
    generator = require_exportable(network, _PACKAGES)
    with atomic_path(target) as temporary:
        write_onnx(generator, temporary, half=half)
        _add_metadata(temporary, metadata or {})
        differences = [_difference(generator, temporary, size) for size in SIZES]
        if half:  # ONNX Runtime computes in half precision on GPUs only, so torch is checked
            half_network = _HalfPrecision(fold_batch_norm(generator))
            image = probe_image(generator.conv_first.in_channels, *SIZES[0])
            with torch.inference_mode():
                differences.append(largest_difference(generator, image, half_network(image)))
        return require_agreement(differences, half=half)


def require_exportable(network: nn.Module, packages: tuple[str, ...]) -> Generator:
    """Return the network if it can be exported and the packages are installed.

    Args:
        network: The network to export.
        packages: Names of the packages that the export needs.

    Raises:
        UserError: The network is not a generator in float32, on the CPU and in evaluation mode, or
            a package is missing.
    """
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise UserError(
            f"expected the packages {', '.join(packages)}, got no {', '.join(missing)}; "
            f"pip install {' '.join(missing)}"
        )
    if not isinstance(network, Generator):
        raise UserError(f"expected a generator to export, got {type(network).__name__}")
    weight, mode = network.conv_first.weight, "training" if network.training else "evaluation"
    if network.training or weight.dtype != torch.float32 or weight.device.type != "cpu":
        raise UserError(
            "expected a generator in float32, on the CPU and in evaluation mode, got one in "
            f"{str(weight.dtype).removeprefix('torch.')}, on {weight.device}, in {mode} mode; "
            "export network.float().cpu().eval()"
        )
    return network


def allowed_difference(*, half: bool) -> float:
    """Return the largest allowed difference between the outputs of an export and of torch."""
    return HALF_TOLERANCE if half else TOLERANCE


def require_agreement(differences: Sequence[float], *, half: bool) -> float:
    """Check that the outputs of an export and of torch agree.

    Args:
        differences: The largest difference for each of some images.
        half: Whether the export is in half precision.

    Returns:
        The largest of all differences.

    Raises:
        UserError: A difference is larger than `allowed_difference`, or NaN.
    """
    allowed, difference = allowed_difference(half=half), float(np.max(differences))
    if not difference <= allowed:  # also true for NaN
        raise UserError(
            f"the exported network differs from torch by {difference:.1e} (allowed {allowed:.1e})"
            f"{'; export it without --half' * half}; nothing was written"
        )
    return difference


class _HalfPrecision(nn.Module):
    """A network in half precision with float32 input and output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, x: Tensor) -> Tensor:
        """Upscale LR images in half precision; input and output are float32."""
        out: Tensor = self.network(x.half())
        return out.float()


_Network = TypeVar("_Network", bound=nn.Module)


def fold_batch_norm(network: _Network) -> _Network:
    """Return a copy of a network with batch normalisation folded into convolutions.

    Inference is faster without batch normalisation, and torch 2.6 fails to export it. In the blocks
    of this package `bnX` follows `convX`. In others, of which the order is unknown, it becomes a
    depthwise convolution.
    """
    network = copy.deepcopy(network)
    norms = [name for name, part in network.named_modules() if isinstance(part, nn.BatchNorm2d)]
    for name in norms:
        parent, _, last = name.rpartition(".")
        block, conv = network.get_submodule(parent), last.replace("bn", "conv")
        norm, before = getattr(block, last), getattr(block, conv, None)
        follows = conv != last and type(block).__module__.startswith("srgan_plugin.networks.")
        if follows and isinstance(before, nn.Conv2d):
            setattr(block, conv, fuse_conv_bn_eval(before, norm))
            setattr(block, last, nn.Identity())
        elif norm.running_mean is not None:  # becomes a depthwise convolution
            channels = norm.num_features
            identity = nn.Conv2d(channels, channels, 1, groups=channels, bias=False).eval()
            nn.init.ones_(identity.weight)
            setattr(block, last, fuse_conv_bn_eval(identity, norm))
    return network


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the log and the warnings of the exporter; its result is compared afterwards."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)


def write_onnx(network: Generator, target: Path, *, half: bool = False) -> None:
    """Write a generator as ONNX, without metadata and without comparing the output.

    Args:
        network: The generator, on the CPU, in evaluation mode.
        target: The `.onnx` file.
        half: See `export_onnx`.
    """
    sides = {axis: torch.export.Dim(name, min=2) for axis, name in ((2, "height"), (3, "width"))}
    folded = fold_batch_norm(network)
    with _quiet_exporter():
        torch.onnx.export(
            _HalfPrecision(folded).eval() if half else folded,
            (probe_image(network.conv_first.in_channels, 20, 24),),
            target,
            input_names=["lr"],
            output_names=["sr"],
            dynamic_shapes=(sides,),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _add_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Replace the metadata of a graph; torch writes stack traces with local paths."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)


def _difference(network: Generator, path: Path, size: tuple[int, int]) -> float:
    """Return the largest difference between the outputs of ONNX Runtime and torch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = probe_image(network.conv_first.in_channels, *size)
    (exported,) = session.run(["sr"], {"lr": image.numpy()})
    return largest_difference(network, image, torch.from_numpy(exported))


def largest_difference(network: Generator, image: Tensor, exported: Tensor) -> float:
    """Return the largest difference between the outputs of torch and of an exported network.

    Args:
        network: The network in torch.
        image: The LR image, (1, C, H, W).
        exported: Output of the exported network.

    Returns:
        The difference; NaN if one of the outputs contains NaN.

    Raises:
        UserError: The shapes differ.
    """
    with torch.inference_mode():
        expected = network(image)
    if expected.shape != exported.shape:
        raise UserError(
            f"expected an image of {tuple(expected.shape)} from the exported network, got "
            f"{tuple(exported.shape)}; nothing was written"
        )
    return float((expected - exported).abs().max())
