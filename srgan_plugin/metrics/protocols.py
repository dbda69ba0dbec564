"""Evaluation protocols by name: how published tables were measured (docs/protocols.md)."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from .psnr_ssim import Channel

Function = Literal["PSNR", "SSIM"]
MetricName = str  # as in JSON, logs and tables: "PSNR", "SSIM_B", …

_SUFFIXES: dict[Channel, str] = {"rgb": "", "b": "_B", "y": "_Y"}
_DESCRIPTIONS: dict[Channel, str] = {"rgb": "RGB", "b": "blue only", "y": "Y (BT.601)"}


class Measure(NamedTuple):
    """PSNR or SSIM with its options.

    Attributes:
        function: "PSNR" or "SSIM".
        channel: Channels to compare: "rgb", "b" for blue only, or "y" for luma.
        rounding: Whether predictions are rounded to uint8, not only clamped.
        border: Pixels cropped from each edge.
    """

    function: Function
    channel: Channel
    rounding: bool
    border: int


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol:
    """How a published table was measured.

    Attributes:
        psnr: Channels of the PSNR, computed from one MSE over all of them.
        ssim: Channels of the SSIM, averaged over them; None if the SSIM cannot be reproduced.
        rounding: Whether the network's output is rounded to uint8 before it is measured; it is
            clamped in either case.
        border: Pixels cropped from each edge; None for as many as the scale.
        gt_multiple: GT is cropped to a multiple of this before LR is made; None for the scale. This
            concerns the preparation of a test set; an existing one is measured as it is.
        source: Project, version and commit of the original code.

    Example:
        >>> from srgan_plugin.metrics import PROTOCOLS
        >>> PROTOCOLS["y"].describe()
        'PSNR of Y (BT.601), SSIM of Y (BT.601), output rounded to uint8'
        >>> list(PROTOCOLS["openmmlab-2020"].measures(border=4))
        ['PSNR', 'SSIM_B']
    """

    psnr: Channel
    ssim: Channel | None
    rounding: bool = True
    border: int | None = None
    gt_multiple: int | None = 12
    source: str

    def name(self, function: Function) -> MetricName | None:
        """Return the name of the protocol's PSNR or SSIM, or None if it has none."""
        channel = self.psnr if function == "PSNR" else self.ssim
        unrounded = "" if self.rounding else "_unrounded"
        return None if channel is None else f"{function}{_SUFFIXES[channel]}{unrounded}"

    def measures(self, border: int, rounding: bool = True) -> dict[MetricName, Measure]:
        """Return the protocol's metrics and their options by name.

        Args:
            border: Pixels to crop from each edge, at least 0, unless the protocol has a border.
            rounding: Whether to round where the protocol does; default True.
        """
        border = border if self.border is None else self.border
        channels: dict[Function, Channel | None] = {"PSNR": self.psnr, "SSIM": self.ssim}
        measures: dict[MetricName, Measure] = {}
        for function, channel in channels.items():
            name = self.name(function)
            if name and channel:
                measures[name] = Measure(
                    function=function,
                    channel=channel,
                    rounding=rounding and self.rounding,
                    border=border,
                )
        return measures

    def describe(self) -> str:
        """Describe the metrics in one line."""
        ssim = f"SSIM of {_DESCRIPTIONS[self.ssim]}" if self.ssim else "its SSIM is not compared"
        rounded = "rounded to uint8" if self.rounding else "clamped, not rounded"
        return f"PSNR of {_DESCRIPTIONS[self.psnr]}, {ssim}, output {rounded}"


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
#: Protocols that are used by default.
DEFAULT_PROTOCOLS = ("basicsr", "y", "openmmlab-2020")
