"""Published results of these networks at x4, and the protocols they were measured under."""

from typing import NamedTuple

from srgan_plugin.errors import check_option

from .protocols import PROTOCOLS, MetricKind


class PublishedTable(NamedTuple):
    """A published table.

    Attributes:
        source: Publication.
        protocol: Protocol it was measured under, a name in `PROTOCOLS`.
        second_protocol: Another protocol, under which values are shown as well.
    """

    source: str
    protocol: str
    second_protocol: str


class ReferenceResult(NamedTuple):
    """A published value.

    Attributes:
        value: Published value, in dB for PSNR.
        metric: Name of the metric it was measured by; None if that cannot be reproduced.
        second_metric: Name of the metric under the second protocol of the table; None if it has
            none.
        table: Table with the value.

    Example:
        >>> from srgan_plugin.metrics import ReferenceResult, reference_results
        >>> result = reference_results("srresnet", "Set5")["PSNR"]
        >>> isinstance(result, ReferenceResult), result.metric, result.table.protocol
        (True, 'PSNR_Y', 'paper')
    """

    value: float
    metric: str | None
    second_metric: str | None
    table: PublishedTable


OPENMMLAB = PublishedTable(
    "OpenMMLab model zoo, srresnet_srgan; its SSIM is of the blue channel (docs/protocols.md)",
    protocol="openmmlab-2020",
    second_protocol="basicsr",
)
BASICSR = PublishedTable("BasicSR, docs/ModelZoo.md", protocol="basicsr", second_protocol="basicsr")
PAPER = PublishedTable(
    "Ledig et al. 2016, table 2, of GT cropped to multiples of 4 (bicubic on Set5: 28.43 dB; 28.40 "
    "dB where it is cropped to 12); its SSIM is that of daala, so it is not compared",
    protocol="paper",
    second_protocol="y",
)

# PSNR and SSIM by test set. DIV2K is the 100 validation images: the values match those, not their
# sub-images.
_TABLE: dict[str, tuple[PublishedTable, dict[str, tuple[float, float]]]] = {
    "msrresnet_x4c64b16_1x16_300k_div2k": (
        OPENMMLAB,
        {"Set5": (30.2252, 0.8491), "Set14": (26.7762, 0.7369), "DIV2K": (28.9748, 0.8178)},
    ),
    "srgan_x4c64b16_1x16_1000k_div2k": (
        OPENMMLAB,
        {"Set5": (27.9499, 0.7846), "Set14": (24.7383, 0.6491), "DIV2K": (26.5697, 0.7365)},
    ),
    "001_MSRResNet_x4_f64b16_DIV2K_1000k_B16G1_wandb": (
        BASICSR,
        {"Set5": (30.2468, 0.8651), "Set14": (26.7817, 0.7451), "DIV2K": (28.9967, 0.8195)},
    ),
    "004_MSRGAN_x4_f64b16_DIV2K_400k_B16G1_wandb": (
        BASICSR,
        {"Set5": (28.0158, 0.8087), "Set14": (24.7474, 0.6623), "DIV2K": (26.6504, 0.7462)},
    ),
    "bicubic": (
        PAPER,
        {"Set5": (28.43, 0.8211), "Set14": (25.99, 0.7486), "B100": (25.94, 0.6935)},
    ),
    "srresnet": (
        PAPER,
        {"Set5": (32.05, 0.9019), "Set14": (28.49, 0.8184), "B100": (27.58, 0.7620)},
    ),
    "srgan_vgg54": (
        PAPER,
        {"Set5": (29.40, 0.8472), "Set14": (26.02, 0.7397), "B100": (25.16, 0.6688)},
    ),
}
MODELS = tuple(_TABLE)


def reference_results(model: str, dataset: str) -> dict[MetricKind, ReferenceResult]:
    """Look up the published results of a model at x4.

    Args:
        model: One of `MODELS`: "bicubic", "srresnet" or "srgan_vgg54" of the paper, or the name of
            a checkpoint of OpenMMLab or BasicSR.
        dataset: Name of the test set as in `data.benchmark_sets.Benchmark`, such as "Set5".

    Returns:
        The published PSNR and SSIM; empty if nothing was published for the test set.

    Raises:
        UserError: `model` is not one of `MODELS`.

    Example:
        >>> from srgan_plugin.metrics import reference_results
        >>> {name: result.value for name, result in reference_results("bicubic", "Set5").items()}
        {'PSNR': 28.43, 'SSIM': 0.8211}
    """
    check_option("reference model", model, MODELS)
    table, values = _TABLE[model]
    published, right = (
        {metric.kind: name for name, metric in PROTOCOLS[protocol].metrics(border=4).items()}
        for protocol in (table.protocol, table.second_protocol)
    )
    kinds: tuple[MetricKind, ...] = ("PSNR", "SSIM")
    return {
        kind: ReferenceResult(value, published.get(kind), right.get(kind), table)
        for kind, value in zip(kinds, values.get(dataset, ()), strict=False)
    }
