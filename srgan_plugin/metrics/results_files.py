"""Files of results: the scores of each test set, and the number of images they are means of."""

import json
from collections.abc import Mapping
from typing import Any, Final

from srgan_plugin.data.benchmark_sets import missing_images

IMAGES: Final = "images"  # the key beside the scores of a set

Results = dict[str, dict[str, float]]


def results_text(results: Mapping[str, Mapping[str, float]], counts: Mapping[str, int]) -> str:
    """Return the JSON text of a file of results.

    Args:
        results: Scores by test set and metric.
        counts: Number of images by test set; sets without a known number are not in it.
    """
    rows = {
        name: {**scores, IMAGES: counts[name]} if name in counts else scores
        for name, scores in results.items()
    }
    return json.dumps(rows, indent=2) + "\n"


def split_counts(content: Mapping[str, Mapping[str, Any]]) -> tuple[Results, dict[str, int]]:
    """Split the content of a file into scores and numbers of images.

    Args:
        content: Content of the JSON file.

    Returns:
        Scores by test set and metric; number of images by test set, for sets with one in the file.
    """
    scores = {
        name: {key: value for key, value in row.items() if key != IMAGES}
        for name, row in content.items()
    }
    return scores, {name: int(row[IMAGES]) for name, row in content.items() if IMAGES in row}


def incomplete_sets(counts: Mapping[str, int]) -> dict[str, str]:
    """Return the number of measured images by incomplete test set, such as "4 of 5 images"."""
    # `tools/test.py` puts transforms behind the name.
    texts = {name: missing_images(name.split(" (")[0], count) for name, count in counts.items()}
    return {name: text for name, text in texts.items() if text}
