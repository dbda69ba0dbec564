"""Generators for other runtimes: ONNX with any height and width."""

import copy
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from srgan_plugin.errors import UserError
from srgan_plugin.io.atomic import atomic_path
from srgan_plugin.networks import Generator

TOLERANCE = 1e-4  # of the images' range of 1
HALF_TOLERANCE = 1 / 255  # one level of an 8-bit image, for weights and computation together
#: Height and width of the LR images on which an export is checked.
SIZES = ((24, 24), (17, 40), (33, 21))
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def export_onnx(
    network: nn.Module,
    target: str | Path,
    *,
    half: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> float:
    """Write a generator as ONNX and compare it with onnxruntime; it appears only if they agree.

    The graph's `lr`, float32 (1, C, H, W) in [0, 1], has any height and width from 2; its `sr` is
    what the network returns.

    Args:
        network: one of our generators, on the CPU, in evaluation mode.
        target: the `.onnx` file.
        half: whether weights and computation are in half precision, for a file of half the size;
            `lr` and `sr` stay float32.
        metadata: what the file states beside the graph, see `metadata_of`.

    Returns:
        The largest difference found.

    Raises:
        UserError: no generator, a package is missing (the message has the line that installs
            it), or the outputs differ by more than `TOLERANCE`, or `HALF_TOLERANCE`.
        OSError: the file cannot be written.
    """
    generator = require_exportable(network, _PACKAGES)
    with atomic_path(target) as temporary:
        write_onnx(generator, temporary, half=half)
        _add_metadata(temporary, metadata or {})
        differences = [_difference(generator, temporary, size) for size in SIZES]
        if half:  # onnxruntime computes in single precision on a CPU, a GPU does not
            inside = _HalfInside(copy.deepcopy(generator))
            image = probe_image(generator, SIZES[0])
            with torch.inference_mode():
                differences.append(largest_difference(generator, image, inside(image)))
        require_agreement(difference := max(differences), half=half)
    return difference


def require_exportable(network: nn.Module, packages: tuple[str, ...]) -> Generator:
    """Return the network if it is a generator and the packages that export it are there.

    Raises:
        UserError: One of both is not so.
    """
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise UserError(f"this export needs more packages: pip install {' '.join(missing)}")
    if not isinstance(network, Generator):
        raise UserError(f"expected a generator to export, got {type(network).__name__}")
    return network


def allowed_difference(*, half: bool) -> float:
    """Return by how much an export may differ from torch."""
    return HALF_TOLERANCE if half else TOLERANCE


def require_agreement(difference: float, *, half: bool) -> None:
    """Refuse an export that differs from torch by more than is allowed.

    Raises:
        UserError: It does, or is not a number.
    """
    allowed = allowed_difference(half=half)
    if not difference <= allowed:  # NaN is no agreement either
        raise UserError(
            f"the exported network differs from torch by {difference:.1e} (allowed {allowed:.1e})"
            f"{'; export it without --half' * half}; nothing was written"
        )


class _HalfInside(nn.Module):
    """A network in half precision between float32 images."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, x: Tensor) -> Tensor:
        """See `Generator.forward`."""
        out: Tensor = self.network(x.half())
        return out.float()


_Network = TypeVar("_Network", bound=nn.Module)


def fold_batch_norm(network: _Network) -> _Network:
    """Return a copy with batch normalisation folded into the convolutions before it.

    They cost a runtime time, and torch 2.6 fails to export them.
    """
    network = copy.deepcopy(network)
    norms = [name for name, part in network.named_modules() if isinstance(part, nn.BatchNorm2d)]
    for name in norms:
        parent, _, last = name.rpartition(".")
        block, conv = network.get_submodule(parent), last.replace("bn", "conv")
        norm, before = getattr(block, last), getattr(block, conv, None)
        if conv != last and isinstance(before, nn.Conv2d):
            setattr(block, conv, fuse_conv_bn_eval(before, norm))
            setattr(block, last, nn.Identity())
        elif norm.running_mean is not None:
            channels = norm.num_features
            alone = nn.Conv2d(channels, channels, 1, groups=channels, bias=False).eval()
            nn.init.ones_(alone.weight)
            setattr(block, last, fuse_conv_bn_eval(alone, norm))
    return network


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter, which narrates; what matters is checked afterwards."""
    chatty = logging.getLogger("torch.onnx")
    level = chatty.level
    chatty.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        chatty.setLevel(level)


def write_onnx(network: Generator, target: Path, *, half: bool = False) -> None:
    """Write a generator's graph, of `lr` and `sr`, unchecked."""
    sides = {axis: torch.export.Dim(name, min=2) for axis, name in ((2, "height"), (3, "width"))}
    folded = fold_batch_norm(network)
    with _quiet_exporter():
        torch.onnx.export(
            _HalfInside(folded).eval() if half else folded,
            (probe_image(network, (20, 24)),),
            target,
            input_names=["lr"],
            output_names=["sr"],
            dynamic_shapes=(sides,),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _add_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Put metadata into a graph, and take out torch's: stack traces with this machine's paths."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)


def _difference(network: Generator, path: Path, size: tuple[int, int]) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    image = probe_image(network, size)
    (exported,) = session.run(["sr"], {"lr": image.numpy()})
    return largest_difference(network, image, torch.from_numpy(exported))


def largest_difference(network: Generator, image: Tensor, exported: Tensor) -> float:
    """Return the largest difference between a result and torch's; NaN where there is NaN."""
    with torch.inference_mode():
        expected = network(image)
    if expected.shape != exported.shape:
        raise UserError(
            f"expected an image of {tuple(expected.shape)} from the exported network, got "
            f"{tuple(exported.shape)}; nothing was written"
        )
    return float((expected - exported).abs().max())


def probe_image(network: Generator, size: tuple[int, int]) -> Tensor:
    """Return a random image of (1, C, *size) in [0, 1]."""
    channels = network.conv_first.in_channels
    return torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(0))
