"""Files of results say of how many images their means are."""

import json
from pathlib import Path

from srgan_plugin.cli.options import read_marked_results
from srgan_plugin.data.benchmark_sets import missing_images
from srgan_plugin.metrics.results_files import incomplete_sets, results_text, split_counts

RESULTS = {"Set5": {"PSNR": 30.0}, "mine": {"PSNR": 20.0}, "BSD100": {"PSNR": 25.0}}


def test_counts_stand_beside_measures_and_are_read_apart() -> None:
    counts = {"Set5": 5, "mine": 3}
    content = json.loads(results_text(RESULTS, counts))
    assert content["Set5"] == {"PSNR": 30.0, "images": 5}
    assert "images" not in content["BSD100"]
    assert split_counts(content) == (RESULTS, counts)
    assert split_counts(RESULTS) == (RESULTS, {})  # as files were before


def test_a_set_is_incomplete_by_each_of_its_names_and_an_unknown_one_never() -> None:
    assert incomplete_sets({"Set5": 5, "mine": 3, "BSD100": 7}) == {"BSD100": "7 of 100 images"}
    assert missing_images("bsds100", 100) == ""


def test_what_is_published_of_an_incomplete_set_says_so(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(results_text(RESULTS, {"Set5": 2, "mine": 3, "BSD100": 100}))
    assert read_marked_results(path) == {
        "Set5 (2 of 5 images)": {"PSNR": 30.0},
        "mine": {"PSNR": 20.0},
        "BSD100": {"PSNR": 25.0},
    }
