"""Group the curves of runs into charts, and order the charts."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from .runs import Curve, Run

_MAX_POINTS: Final = 1500  # per curve; longer curves are averaged
# Section, pattern of the curve name, chart title, unit, label of the curve in the chart.
# "\1" is the group of the pattern. The first pattern that matches applies.
_CHARTS: Final = (
    ("Validation", r"(.+/(?:PSNR|SSIM|NIQE|LPIPS|DISTS).*)", r"\1", "", ""),
    ("Validation", r"(PSNR.*|SSIM.*|NIQE.*)", r"\1", "", ""),
    ("Losses", r"loss_(pix|perceptual|gan|style)", r"\1 loss", "", ""),
    ("Discriminator", r"loss_d_(real|fake)", "discriminator loss", "", r"\1"),
    ("Discriminator", r"out_d_(real|fake)", "D(real) and D(fake), logits", "", r"\1"),
    ("Losses", r"(loss.*|l_.*)", r"\1", "", ""),
    ("Optimisation", r"(?:generator\.|base_)?lr", "learning rate", "", "generator"),
    ("Optimisation", r"discriminator\.lr|lr 2", "learning rate", "", "discriminator"),
    ("Optimisation", r"grad_norm_?(.*)", r"gradient norm", "", r"\1"),
    ("Speed", r"it/s", "iterations per second", "it/s", ""),
    ("Speed", r"waiting for data", "waiting for data", "%", ""),
)
_SECTIONS: Final = ("Validation", "Losses", "Discriminator", "Optimisation", "Speed", "Other")
_FIRST: Final = ("PSNR", "SSIM", "NIQE")  # metrics before all others of a test set
# What mmengine logs beside losses; `waiting` is the former name of `data_wait_fraction`.
_HIDDEN: Final = ("time", "data_time", "waiting", "data_wait_fraction", "memory", "eta")
_TITLES: Final = {"pix loss": "pixel loss", "gan loss": "adversarial loss"}


class ChartKey(NamedTuple):
    """Chart in which a curve is drawn.

    Attributes:
        section: Section of the page.
        title: Title of the chart; curves of one section and title share a chart.
        unit: Unit of the values; empty if they have none.
        label: Label of the curve in its chart; empty if it needs none.
    """

    section: str
    title: str
    unit: str
    label: str


def find_chart(name: str) -> ChartKey:
    """Return the chart for a curve name."""
    for section, pattern, title, unit, label in _CHARTS:
        if found := re.fullmatch(pattern, name):
            expanded = found.expand(title)
            return ChartKey(section, _TITLES.get(expanded, expanded), unit, found.expand(label))
    return ChartKey("Other", name, "", "")


def charts(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """Return the charts of runs for `assets/curves.js`, ordered by section.

    Returns:
        Charts with `section`, `title`, `unit` and `series`. Each series has `run` (index), `label`
        (empty unless the chart has several), `x` and `y` (lists), and `mean` (number of logged
        values averaged per point).
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for number, run in enumerate(runs):
        for name in sorted(run.curves):
            if name in _HIDDEN or not run.curves[name] or _is_redundant(name, run.curves):
                continue
            place = find_chart(name)
            chart = found.setdefault(
                (place.section, place.title),
                {"section": place.section, "title": place.title, "unit": place.unit, "series": []},
            )
            series = _average_points(run.curves[name])
            chart["series"].append({"run": number, "label": place.label, **series})
    for chart in found.values():
        if len({series["label"] for series in chart["series"]}) == 1:
            for series in chart["series"]:
                series["label"] = ""
    return sorted(found.values(), key=_rank)


def _is_redundant(name: str, curves: Mapping[str, Curve]) -> bool:
    """Return whether a curve is mmengine's sum of losses and there is only one loss."""
    parts = [other for other in curves if other.startswith("loss_")]
    return name == "loss" and len(parts) == 1 and curves[parts[0]] == curves["loss"]


def _rank(chart: Mapping[str, Any]) -> tuple[int, str]:
    dataset, _, metric = chart["title"].rpartition("/")
    rank = _FIRST.index(metric) if metric in _FIRST else len(_FIRST)
    return (_SECTIONS.index(chart["section"]), f"{dataset}{rank}{metric}")


def _average_points(curve: Curve) -> dict[str, Any]:
    """Return a curve as lists of at most `_MAX_POINTS` values, averaging neighbouring ones."""
    points = [(x, y) for x, y in sorted(curve.items()) if math.isfinite(y)]
    size = max(1, -(-len(points) // _MAX_POINTS))
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return {
        "x": [group[-1][0] for group in groups],
        "y": [float(f"{sum(y for _, y in group) / len(group):.6g}") for group in groups],
        "mean": size,
    }
