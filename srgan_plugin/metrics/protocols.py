"""Evaluation protocols by name: how published tables were measured (docs/protocols.md)."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from .psnr_ssim import Channel

Function = Literal["PSNR", "SSIM"]
MetricName = str  # of a measure, as in JSON, logs and tables: "PSNR", "SSIM_B", …

_SUFFIXES: dict[Channel, str] = {"rgb": "", "b": "_B", "y": "_Y"}
_WORDS: dict[Channel, str] = {"rgb": "RGB", "b": "blue alone", "y": "Y (BT.601)"}


class Measure(NamedTuple):
    """One number about two images.

    Attributes:
        function: "PSNR" or "SSIM".
        channel: The planes that are compared.
        rounding: Compare the uint8 image one would save, not the clamped floats.
        border: Pixels left out at each edge.
    """

    function: Function
    channel: Channel
    rounding: bool
    border: int


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol:
    """How a published table was measured.

    Attributes:
        psnr: Channels of the PSNR, from one MSE over all of them.
        ssim: Channels of the SSIM, the mean over them; None where its SSIM cannot be reproduced.
        rounding: Whether the network's output is rounded to uint8 first; it is clamped anyway.
        border: Pixels left out at each edge; None for as many as the scale.
        gt_multiple: GT is cropped to a multiple of this before LR is made; None for the scale.
            Whoever prepares a test set does that: given sets are measured as they are.
        source: Project, version and commit whose code this is.
    """

    psnr: Channel
    ssim: Channel | None
    rounding: bool = True
    border: int | None = None
    gt_multiple: int | None = 12
    source: str

    def name(self, function: Function) -> MetricName | None:
        """Return what this protocol's PSNR or SSIM is called; None where it has none."""
        channel = self.psnr if function == "PSNR" else self.ssim
        unrounded = "" if self.rounding else "_unrounded"
        return None if channel is None else f"{function}{_SUFFIXES[channel]}{unrounded}"

    def measures(self, border: int, rounding: bool = True) -> dict[MetricName, Measure]:
        """Return this protocol's measures by name.

        Args:
            border: Pixels left out at each edge where the protocol says as many as the scale.
            rounding: Off, nothing is rounded, whatever the protocol says.
        """
        border = border if self.border is None else self.border
        channels: dict[Function, Channel | None] = {"PSNR": self.psnr, "SSIM": self.ssim}
        measures: dict[MetricName, Measure] = {}
        for function, channel in channels.items():
            name = self.name(function)
            if name and channel:
                measures[name] = Measure(function, channel, rounding and self.rounding, border)
        return measures

    def describe(self) -> str:
        """Return what is measured, in a few words."""
        ssim = f"SSIM of {_WORDS[self.ssim]}" if self.ssim else "its SSIM is not compared"
        rounded = "rounded to uint8" if self.rounding else "clamped, not rounded"
        return f"PSNR of {_WORDS[self.psnr]}, {ssim}, output {rounded}"


PROTOCOLS: dict[str, EvaluationProtocol] = {
    "openmmlab-2020": EvaluationProtocol(
        psnr="rgb", ssim="b", source="MMEditing 0.x, mmedit/core/evaluation/metrics.py at f9e1453"
    ),
    "mmagic-1.x": EvaluationProtocol(
        psnr="rgb", ssim="rgb", rounding=False, source="MMagic 1.2.0, mmagic/evaluation/metrics"
    ),
    "basicsr": EvaluationProtocol(
        psnr="rgb", ssim="rgb", source="BasicSR 1.4.2, basicsr/metrics/psnr_ssim.py"
    ),
    "paper": EvaluationProtocol(
        psnr="y", ssim=None, border=4, gt_multiple=4, source="Ledig et al. 2016, section 3.1"
    ),
    "y": EvaluationProtocol(
        psnr="y",
        ssim="y",
        gt_multiple=None,
        source="RCAN, RCAN_TestCode/Evaluate_PSNR_SSIM.m at a57c5ed",
    ),
}
#: What is measured where nothing else is asked for.
DEFAULT_PROTOCOLS = ("basicsr", "y", "openmmlab-2020")
