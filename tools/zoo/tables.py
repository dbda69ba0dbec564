"""Scores of the bundled weights as Markdown tables, for their cards and for the README."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from .scores import ORIGINAL, SCALE, Scores

LABELS: Final = {
    "bicubic": "bicubic",
    "msrresnet": "MSRResNet",
    "srgan": "SRGAN",
    "photo": "photo",
    ORIGINAL: "the original",
}
COLUMNS: Final = {
    "PSNR": ("PSNR RGB", "{:.3f}"),
    "SSIM": ("SSIM RGB", "{:.4f}"),
    "SSIM_B": ("SSIM B", "{:.4f}"),
    "PSNR_Y": ("PSNR Y", "{:.3f}"),
    "SSIM_Y": ("SSIM Y", "{:.4f}"),
    "NIQE": ("NIQE", "{:.2f}"),
    "colour_shift": ("colour shift", "{:.2f}"),
    "checkerboard": ("checkerboard", "{:.2f}"),
}

Sets = Mapping[str, Mapping[str, Scores]]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table; the first row is the head."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *body])


def full_table(sets: Sets) -> str:
    """Format all scores of all methods, by test set."""
    rows = [["set", "", *(title for title, _ in COLUMNS.values())]]
    for name, methods in sets.items():
        for method, scores in methods.items():
            rows.append([name, LABELS[method], *(_cell(scores, m) for m in COLUMNS)])
    return table(rows)


def short_table(sets: Sets, methods: Iterable[str]) -> str:
    """Format PSNR (RGB) and NIQE of methods, one line for each."""
    rows = [["PSNR RGB / NIQE", *sets]]
    for method in methods:
        cells = [
            " / ".join((_cell(scores[method], "PSNR"), _cell(scores[method], "NIQE")))
            for scores in sets.values()
        ]
        rows.append([LABELS[method], *cells])
    return table(rows)


def conditions(lr_origins: Mapping[str, Any]) -> str:
    """Describe the conditions of the measurements."""
    groups: dict[str, list[str]] = {}
    for name, origin in lr_origins.items():
        groups.setdefault(origin, []).append(name)
    origins = ", ".join(f"{origin} ({', '.join(names)})" for origin, names in groups.items())
    return (
        "[Protocols](../../../docs/protocols.md): RGB as `basicsr`, Y as `y`, "
        f"SSIM B (blue channel only) as `openmmlab-2020`; {SCALE} pixels cut off each edge, output "
        f"rounded to uint8; LR: {origins}. NIQE (lower is better): computed as by BasicSR, on Y, "
        f"border {SCALE}. Colour shift: largest difference of a channel's mean from GT, in levels "
        "of 255, on the worst image. Checkerboard: amplitude at periods of 2 and 4 pixels above "
        "the neighbouring frequencies, in levels, mean over the images; about 1 would be visible."
    )


def _cell(scores: Scores, metric: str) -> str:
    return COLUMNS[metric][1].format(scores[metric]) if metric in scores else "–"
