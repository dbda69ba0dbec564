"""Colours of the pages: text contrast meets WCAG 2.2, level AA, in light and dark schemes."""

import re

import pytest

from srgan_plugin.reports.html import asset

SERIES = tuple(f"series-{i}" for i in range(6))
# Stylesheet, number of colour schemes, text colours, background colours.
PAGES = (
    ("report.css", 3, ("text", "muted", "accent", *SERIES), ("bg", "panel")),
    ("mos_scores.css", 2, ("text", "soft", "alert"), ("back",)),
    ("mos.css", 1, ("text", "soft", "accent"), ("panel",)),
)


def luminance(colour: str) -> float:
    """Return the relative luminance as WCAG defines it."""
    digits = colour if len(colour) == 6 else "".join(2 * c for c in colour)
    shares = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_follows_the_definition_of_wcag() -> None:
    assert contrast("000", "fff") == pytest.approx(21)
    assert contrast("777777", "ffffff") == pytest.approx(4.48, abs=0.005)  # WebAIM's example


@pytest.mark.parametrize(("sheet", "schemes", "texts", "grounds"), PAGES)
def test_text_has_enough_contrast(
    sheet: str, schemes: int, texts: tuple[str, ...], grounds: tuple[str, ...]
) -> None:
    blocks = re.findall(r":root[^{]*\{([^{}]*--[^{}]*)\}", asset(sheet))
    assert len(blocks) == schemes
    for block in blocks:
        colours = dict(re.findall(r"--([\w-]+): #([0-9a-f]{6}|[0-9a-f]{3});", block))
        ratios = {(t, g): contrast(colours[t], colours[g]) for t in texts for g in grounds}
        assert {pair: r for pair, r in ratios.items() if r < 4.5} == {}
