"""The numbers others have published for these networks, x4, and how they were measured.

Only what our protocol can be held against is listed. Left out are the paper's SSIM, which came
from another package (daala), and its mean opinion scores, which need people.
"""

from typing import NamedTuple

from srgan_plugin.errors import UserError

from .protocol import MetricName

OPENMMLAB = "OpenMMLab model zoo, RGB, border 4, rounded"
PAPER = "Ledig et al. 2016, table 2, Y, border 4"


class ReferenceResult(NamedTuple):
    """A published value and where it comes from."""

    value: float
    source: str


# DIV2K means the 100 whole validation images: the figures fit those, not their sub-images.
_TABLE: dict[str, dict[MetricName, tuple[str, dict[str, float]]]] = {
    "msrresnet_x4c64b16_1x16_300k_div2k": {
        "PSNR": (OPENMMLAB, {"Set5": 30.2252, "Set14": 26.7762, "DIV2K": 28.9748}),
        "SSIM": (OPENMMLAB, {"Set5": 0.8491, "Set14": 0.7369, "DIV2K": 0.8178}),
    },
    "srgan_x4c64b16_1x16_1000k_div2k": {
        "PSNR": (OPENMMLAB, {"Set5": 27.9499, "Set14": 24.7383, "DIV2K": 26.5697}),
        "SSIM": (OPENMMLAB, {"Set5": 0.7846, "Set14": 0.6491, "DIV2K": 0.7365}),
    },
    "bicubic": {"PSNR_Y": (PAPER, {"Set5": 28.43, "Set14": 25.99, "B100": 25.94})},
    "srresnet": {"PSNR_Y": (PAPER, {"Set5": 32.05, "Set14": 28.49, "B100": 27.58})},
    "srgan_vgg54": {"PSNR_Y": (PAPER, {"Set5": 29.40, "Set14": 26.02, "B100": 25.16})},
}
MODELS = tuple(_TABLE)


def reference_result(model: str, dataset: str, measure: MetricName) -> ReferenceResult | None:
    """Looks up a published x4 result.

    Args:
        model: one of `MODELS`: OpenMMLab's go by the names of their checkpoints, "bicubic",
            "srresnet" and "srgan_vgg54" are the paper's.
        dataset: the test set's name as `Benchmark.name` has it, such as "Set5".
        measure: "PSNR" (dB) or "SSIM" over RGB, "PSNR_Y" or "SSIM_Y" over luma.

    Returns:
        The value and its source; None where nothing comparable was published.

    Raises:
        ValueError: nobody has published a model of that name.
    """
    if model not in _TABLE:
        raise UserError(f"expected a published model, one of {', '.join(MODELS)}, got {model!r}")
    source, values = _TABLE[model].get(measure, ("", {}))
    return ReferenceResult(values[dataset], source) if dataset in values else None
