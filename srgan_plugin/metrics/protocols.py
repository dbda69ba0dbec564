"""Evaluation protocols by name: how published tables were measured (docs/protocols.md)."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from .psnr_ssim import Channel

MetricKind = Literal["PSNR", "SSIM"]

_SUFFIXES: dict[Channel, str] = {"rgb": "", "b": "_B", "y": "_Y"}
_DESCRIPTIONS: dict[Channel, str] = {"rgb": "RGB", "b": "blue only", "y": "Y (BT.601)"}


class Metric(NamedTuple):
    """PSNR or SSIM with its options.

    Attributes:
        kind: "PSNR" or "SSIM".
        channel: Channels to compare: "rgb", "b" for blue only, or "y" for luma.
        rounding: Whether predictions are rounded to uint8, not only clamped.
        border: Pixels cropped from each edge.
    """

    kind: MetricKind
    channel: Channel
    rounding: bool
    border: int


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol:
    """Channels, rounding and border of the PSNR and SSIM of a published table.

    A metric is named by what differs between protocols: its channels, and that the protocol does
    not round (`SSIM_B`, `PSNR_unrounded`). The border is that of a whole table, and in no name.

    Attributes:
        psnr: Channels of the PSNR, computed from one MSE over all of them.
        ssim: Channels of the SSIM, averaged over them; None if the SSIM cannot be reproduced.
        ssim_without_border: Channels of the SSIM at border 0; None for those of `ssim`.
        rounding: Whether the network's output is rounded to uint8 before it is measured; it is
            clamped in either case.
        border: Pixels cropped from each edge; None for as many as the scale.
        source: Project, version and commit of the original code.

    Example:
        >>> from srgan_plugin.metrics import PROTOCOLS
        >>> PROTOCOLS["y"].describe()
        'PSNR of Y (BT.601), SSIM of Y (BT.601), output rounded to uint8'
        >>> list(PROTOCOLS["openmmlab-2020"].metrics(border=4))
        ['PSNR', 'SSIM_B']
    """

    psnr: Channel
    ssim: Channel | None
    ssim_without_border: Channel | None = None
    rounding: bool = True
    border: int | None = None
    source: str

    def metrics(self, border: int, rounding: bool = True) -> dict[str, Metric]:
        """Return the protocol's metrics by name.

        Args:
            border: Pixels to crop from each edge, at least 0, unless the protocol has a border.
            rounding: Whether to round where the protocol does; default True. Names do not depend
                on it, so that files and configs keep them: without it "PSNR" is not rounded.
        """
        border = border if self.border is None else self.border
        unrounded = "" if self.rounding else "_unrounded"
        return {
            f"{kind}{_SUFFIXES[channel]}{unrounded}": Metric(
                kind=kind, channel=channel, rounding=rounding and self.rounding, border=border
            )
            for kind, channel in self._channels(border).items()
        }

    def describe(self, border: int = 4) -> str:
        """Describe the metrics at a border in one line."""
        channels = self._channels(border)
        ssim = (
            f"SSIM of {_DESCRIPTIONS[channels['SSIM']]}"
            if self.ssim
            else "its SSIM is not compared"
        )
        rounded = "rounded to uint8" if self.rounding else "clamped, not rounded"
        return f"PSNR of {_DESCRIPTIONS[self.psnr]}, {ssim}, output {rounded}"

    def _channels(self, border: int) -> dict[MetricKind, Channel]:
        """Return the channels of each metric that the protocol has."""
        channels: dict[MetricKind, Channel] = {"PSNR": self.psnr}
        if ssim := self.ssim if border else self.ssim_without_border or self.ssim:
            channels["SSIM"] = ssim
        return channels


PROTOCOLS: dict[str, EvaluationProtocol] = {
    "openmmlab-2020": EvaluationProtocol(
        psnr="rgb",
        ssim="b",  # by an axis too many where the border is cropped
        ssim_without_border="rgb",
        source="MMEditing 0.x, mmedit/core/evaluation/metrics.py at f9e1453",
    ),
    "mmagic-1.x": EvaluationProtocol(
        psnr="rgb", ssim="rgb", rounding=False, source="MMagic 1.2.0, mmagic/evaluation/metrics"
    ),
    "basicsr": EvaluationProtocol(
        psnr="rgb", ssim="rgb", source="BasicSR 1.4.2, basicsr/metrics/psnr_ssim.py"
    ),
    "paper": EvaluationProtocol(
        psnr="y", ssim=None, border=4, source="Ledig et al. 2016, section 3.1"
    ),
    "y": EvaluationProtocol(
        psnr="y", ssim="y", source="RCAN, RCAN_TestCode/Evaluate_PSNR_SSIM.m at a57c5ed"
    ),
}
#: Protocols that are used by default: they include every metric of `reference_results` at border 4
#: (that of "paper" is the PSNR of "y"). Columns of tables are in this order, RGB first.
DEFAULT_PROTOCOLS = ("basicsr", "y", "openmmlab-2020")
