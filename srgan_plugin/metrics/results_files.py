"""Results as files: for each test set its measures, and of how many images they are the means."""

import json
from collections.abc import Mapping
from typing import Any, Final

from srgan_plugin.data.benchmark_sets import missing_images

IMAGES: Final = "images"  # the key beside the measures of a set

Results = dict[str, dict[str, float]]


def results_text(results: Mapping[str, Mapping[str, float]], counts: Mapping[str, int]) -> str:
    """Return the text of a file of results.

    Args:
        results: For each test set its measures by name.
        counts: How many images each set has, where that is known.
    """
    rows = {
        name: {**measures, IMAGES: counts[name]} if name in counts else measures
        for name, measures in results.items()
    }
    return json.dumps(rows, indent=2) + "\n"


def split_counts(content: Mapping[str, Mapping[str, Any]]) -> tuple[Results, dict[str, int]]:
    """Return the measures of a file's test sets, and of how many images they are.

    Returns:
        The measures by set, and the counts of those sets for which the file has one.
    """
    measures = {
        name: {key: value for key, value in row.items() if key != IMAGES}
        for name, row in content.items()
    }
    return measures, {name: int(row[IMAGES]) for name, row in content.items() if IMAGES in row}


def incomplete_sets(counts: Mapping[str, int]) -> dict[str, str]:
    """Return for each incomplete test set how many of its images were measured, in words."""
    words = {name: missing_images(name, count) for name, count in counts.items()}
    return {name: text for name, text in words.items() if text}
