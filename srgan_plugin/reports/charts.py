"""Which curves of runs are drawn together, and in which order."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from .runs import Curve, Run

_MAX_POINTS: Final = 1500  # of a curve in a page
# Section, pattern of a curve's name, title ("\1" is the pattern's group), unit, the curves that
# share a chart. The first pattern that matches counts.
_CHARTS: Final = (
    ("Validation", r"(.+/(?:PSNR|SSIM|NIQE|LPIPS|DISTS).*)", r"\1", "", ""),
    ("Validation", r"(PSNR.*|SSIM.*|NIQE.*)", r"\1", "", ""),
    ("Losses", r"loss_(pix|perceptual|gan|style)", r"\1 loss", "", ""),
    ("Discriminator", r"loss_d_(real|fake)", "discriminator's loss", "", r"\1"),
    ("Discriminator", r"out_d_(real|fake)", "D(real) and D(fake), logits", "", r"\1"),
    ("Losses", r"(loss.*|l_.*)", r"\1", "", ""),
    ("Optimisation", r"(?:generator\.|base_)?lr", "learning rate", "", "generator"),
    ("Optimisation", r"discriminator\.lr|lr 2", "learning rate", "", "discriminator"),
    ("Optimisation", r"grad_norm_?(.*)", r"gradient norm", "", r"\1"),
    ("Speed", r"it/s", "iterations per second", "it/s", ""),
    ("Speed", r"waiting for data", "waiting for data", "%", ""),
)
_SECTIONS: Final = ("Validation", "Losses", "Discriminator", "Optimisation", "Speed", "Other")
_HIDDEN: Final = ("time", "data_time", "waiting", "data_wait_fraction", "memory", "eta")
_TITLES: Final = {"pix loss": "pixel loss", "gan loss": "adversarial loss"}


class Place(NamedTuple):
    """Where a curve is drawn."""

    section: str
    title: str
    unit: str
    label: str


def place_of(name: str) -> Place:
    """Return the chart of a curve by the curve's name."""
    for section, pattern, title, unit, label in _CHARTS:
        if found := re.fullmatch(pattern, name):
            expanded = found.expand(title)
            return Place(section, _TITLES.get(expanded, expanded), unit, found.expand(label))
    return Place("Other", name, "", "")


def charts(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """Return the charts of runs for the page, by section.

    Returns:
        For each chart `section`, `title`, `unit` and `series`: the number of the `run`, a `label`
        where a chart has curves of several kinds, `x`, `y`, and `mean`, of how many logged values
        each point is the mean.
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for number, run in enumerate(runs):
        for name in sorted(run.curves):
            if name in _HIDDEN or not run.curves[name] or _repeats(name, run.curves):
                continue
            place = place_of(name)
            chart = found.setdefault(
                (place.section, place.title),
                {"section": place.section, "title": place.title, "unit": place.unit, "series": []},
            )
            series = _thinned(run.curves[name])
            chart["series"].append({"run": number, "label": place.label, **series})
    for chart in found.values():
        if len({series["label"] for series in chart["series"]}) == 1:
            for series in chart["series"]:
                series["label"] = ""
    return sorted(found.values(), key=_rank)


def _repeats(name: str, curves: Mapping[str, Curve]) -> bool:
    """Whether it is mmengine's sum of losses, of a single loss."""
    parts = [other for other in curves if other.startswith("loss_")]
    return name == "loss" and len(parts) == 1 and curves[parts[0]] == curves["loss"]


def _rank(chart: Mapping[str, Any]) -> tuple[int, str]:
    name = chart["title"]
    dataset, _, measure = name.rpartition("/")
    order = ("PSNR", "SSIM", "NIQE")
    first = next((i for i, m in enumerate(order) if measure == m), len(order))
    return (_SECTIONS.index(chart["section"]), f"{dataset}{first}{measure}")


def _thinned(curve: Curve) -> dict[str, Any]:
    """Return a curve as lists; where it is long, as means of neighbouring values."""
    points = [(x, y) for x, y in sorted(curve.items()) if math.isfinite(y)]
    size = max(1, -(-len(points) // _MAX_POINTS))
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return {
        "x": [group[-1][0] for group in groups],
        "y": [float(f"{sum(y for _, y in group) / len(group):.6g}") for group in groups],
        "mean": size,
    }
