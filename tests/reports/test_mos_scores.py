"""Statistics of a study against SciPy and the definitions, and `mos score`."""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srgan_plugin.__main__ import main
from srgan_plugin.cli.mos import add_arguments
from srgan_plugin.metrics.opinion_references import DATASETS, paper_opinions
from srgan_plugin.reports.mos_ratings import read_ratings
from srgan_plugin.reports.mos_scores import (
    agreement,
    bootstrap_means,
    holm,
    score,
    signed_rank_p,
)
from srgan_plugin.reports.mos_study import seal, study_id, unseal

from .conftest import HOSTILE, Made
from .rater_files import data_of, rater_file

RNG = np.random.default_rng(0)
stats = pytest.importorskip("scipy.stats", reason="needs SciPy")
pytest.importorskip("krippendorff", reason="needs krippendorff")


def intended(rater: int, method: str, image: str) -> int:
    """Return the score that a scripted rater gives."""
    levels = {"nearest": 1, "HR": 5, "bicubic": 2, "Mild": 4, HOSTILE: 3}
    return min(5, levels[method] + (rater * 7 + len(method) + int(image) * 3) % 3 // 2)


@pytest.fixture(scope="session")
def files(made: Made, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, paths = tmp_path_factory.mktemp("raters"), []
    for rater in range(6):
        content = rater_file(made.page, f"R{rater}", lambda m, i, r=rater: intended(r, m, i), rater)
        paths.append(folder / f"{rater}.json")
        paths[-1].write_text(json.dumps(content), encoding="utf-8")
    return paths


def test_scores_are_those_that_raters_gave(files: list[Path]) -> None:
    ratings = read_ratings(files)
    expected = [
        [[intended(r, m, i) for i in ratings.images] for m in ratings.methods] for r in range(6)
    ]
    assert ratings.scores.tolist() == expected
    assert ratings.methods == ("nearest", "HR", "bicubic", "Mild", HOSTILE)
    first, second = ratings.repeated[..., 0], ratings.repeated[..., 1]
    assert (second == np.minimum(first + 1, 5)).all()
    scores = score(ratings, resamples=200)
    table = np.array(expected)
    for index, method in enumerate(scores.methods):
        values = table[:, index].ravel()
        assert method.mean == pytest.approx(values.mean())
        assert method.counts == tuple(np.bincount(values, minlength=6)[1:])
        assert method.low <= method.mean <= method.high
    assert scores.raters[0].repeat_difference == np.abs(second - first)[0].mean()


def test_results_do_not_depend_on_the_order_of_files_and_trials(
    files: list[Path], made: Made, tmp_path: Path
) -> None:
    other = rater_file(made.page, "R0", lambda m, i: intended(0, m, i), seed=99)
    (tmp_path / "again.json").write_text(json.dumps(other))
    one = score(read_ratings(files), resamples=100)
    two = score(read_ratings([*files[:0:-1], tmp_path / "again.json"]), resamples=100)
    assert [m.mean for m in one.methods] == [m.mean for m in two.methods]
    assert [c.p for c in one.comparisons] == [c.p for c in two.comparisons]
    assert one.alpha == pytest.approx(two.alpha)


def test_with_one_rater_the_interval_is_that_of_scipy_over_images() -> None:
    scores = RNG.integers(1, 6, (1, 2, 30))
    low, high = np.percentile(bootstrap_means(scores, 20_000, seed=0), (2.5, 97.5), axis=0)
    for method in range(2):
        expected = stats.bootstrap(
            (scores[0, method],), np.mean, n_resamples=20_000, method="percentile", rng=1
        ).confidence_interval
        assert (low[method], high[method]) == pytest.approx(tuple(expected), abs=0.04)


def test_the_bootstrap_has_the_variance_of_sampling_raters_and_images() -> None:
    scores = RNG.integers(1, 6, (5, 1, 6))
    drawn = bootstrap_means(scores, 200_000, seed=0)[:, 0]
    x = scores[:, 0].astype(float)
    raters, images = x.shape
    # Law of total variance: var(E|raters) + E(var|raters).
    of_raters, of_images = x.mean(1).var() / raters, x.mean(0).var() / images
    rest = (x - x.mean(1, keepdims=True) - x.mean(0) + x.mean()).var() / (raters * images)
    assert drawn.mean() == pytest.approx(x.mean(), abs=0.01)
    assert drawn.var() == pytest.approx(of_raters + of_images + rest, rel=0.02)


@pytest.mark.parametrize("count", [1, 4, 9, 26])
def test_the_p_value_is_the_share_of_sign_patterns_at_least_as_extreme(count: int) -> None:
    differences = RNG.integers(1, 40, count) * RNG.choice([-1, 1], count, p=[0.3, 0.7])
    p = signed_rank_p(differences)
    ranks = stats.rankdata(np.abs(differences))
    observed = abs(ranks @ np.sign(differences))
    if count <= 9:  # enumerate all sign patterns
        signs = np.array(list(itertools.product([-1, 1], repeat=count)))
        assert p == pytest.approx(float((np.abs(signs @ ranks) >= observed - 1e-9).mean()))
    signs = RNG.choice([-1, 1], (100_000, count))
    assert p == pytest.approx(float((np.abs(signs @ ranks) >= observed - 1e-9).mean()), abs=0.01)


def test_equal_methods_have_a_p_of_one() -> None:
    assert signed_rank_p(np.zeros(8, np.int64)) == 1.0


def test_holm_equals_the_closed_bonferroni_procedure() -> None:
    for _ in range(20):
        p = RNG.random(4) ** 3
        subsets = [s for n in range(1, 5) for s in itertools.combinations(range(4), n)]
        closed = [
            max(min(1.0, len(s) * min(p[list(s)])) for s in subsets if index in s)
            for index in range(4)
        ]
        assert holm(list(p)) == pytest.approx(closed)
    assert holm([]) == []


def test_agreement_follows_the_definition_of_ordinal_alpha() -> None:
    scores = RNG.integers(1, 6, (4, 3, 5))
    units = scores.reshape(4, -1)
    counts = np.array([(units == value).sum(0) for value in range(1, 6)])  # (5, units)
    total = counts.sum(1)
    # Definition in Krippendorff 2011: coincidences and squared distances of ranks.
    seen = (counts @ counts.T - np.diag(total)) / (len(units) - 1)
    expected = (np.outer(total, total) - np.diag(total)) / (total.sum() - 1)
    ranks = np.cumsum(total) - total / 2
    distances = (ranks[:, None] - ranks) ** 2
    alpha = 1 - (seen * distances).sum() / (expected * distances).sum()
    assert agreement(scores) == pytest.approx(alpha)
    assert agreement(np.repeat(scores[:1], 3, axis=0)) == pytest.approx(1)
    assert agreement(scores[:1]) is None
    assert agreement(np.full((3, 1, 2), 4)) is None


def test_comparisons_exclude_the_anchors_and_pair_raters_or_images(files: list[Path]) -> None:
    ratings = read_ratings(files)
    for over, axis in (("raters", 2), ("images", 0)):
        scores = score(ratings, test_over=over, resamples=100)
        names = [(c.first, c.second) for c in scores.comparisons]
        assert names == [("bicubic", "Mild"), ("bicubic", HOSTILE), ("Mild", HOSTILE)]
        means = ratings.scores.mean(axis=axis)
        means = means if over == "raters" else means.T
        index = ratings.methods.index
        for one in scores.comparisons:
            differences = (means[:, index(one.first)] - means[:, index(one.second)]).round(9)
            assert one.p == pytest.approx(stats.wilcoxon(differences).pvalue)
            assert one.difference == pytest.approx(differences.mean())
        assert [c.p_holm for c in scores.comparisons] == holm([c.p for c in scores.comparisons])


def test_raters_who_fail_the_calibration_are_named_and_excluded_on_request(
    files: list[Path], made: Made, tmp_path: Path
) -> None:
    for name, anchor, value in (("low", "nearest", 3), ("high", "HR", 3)):
        content = rater_file(
            made.page, name, lambda m, i, a=anchor, v=value: v if m == a else intended(1, m, i)
        )
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    ratings = read_ratings([*files, *tmp_path.iterdir()])
    scores = score(ratings, resamples=100)
    assert {r.rater for r in scores.raters if r.failed} == {"low", "high"}
    assert not scores.excluded
    without = score(ratings, resamples=100, exclude_failed=True)
    assert set(without.excluded) == {"low", "high"}
    alone = score(read_ratings(files), resamples=100)
    assert without.methods == alone.methods
    assert without.alpha == alone.alpha
    assert not any(r.failed for r in score(ratings, resamples=100, tolerance=2).raters)


def test_only_complete_sets_are_compared_with_the_paper(files: list[Path]) -> None:
    ratings = read_ratings(files)
    for size, shown in ((5, True), (2, False)):
        options = {**ratings.options, "dataset": "Set5"}
        images = tuple(map(str, range(size)))
        scores = np.resize(ratings.scores, (6, 5, size))
        changed = type(ratings)(
            **{**vars(ratings), "options": options, "images": images, "scores": scores}
        )
        paper = {m.method: m.paper for m in score(changed, resamples=100).methods}
        assert paper["bicubic"] == (1.97 if shown else None)
        assert paper["HR"] == (4.32 if shown else None)
        assert paper["Mild"] is None
    assert paper_opinions("BSD100")[0]["srgan"] == 3.56
    assert paper_opinions("Set14")[0]["srresnet"] == 2.98
    assert paper_opinions("") == ({}, 0)


def test_the_command_offers_the_test_sets_of_the_paper() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = ["make", "A=b", "--hr", "x", "--out", "y", "--dataset"]
    assert [parser.parse_args([*given, name]).dataset for name in DATASETS] == list(DATASETS)


def other_study(made: Made) -> dict[str, Any]:
    key = {**unseal(data_of(made.page)["key"]), "pixels": "others"}
    return rater_file(
        made.page, "X", lambda m, i: 1, changes={"key": seal(key), "study": study_id(key)}
    )


WRONG: dict[str, tuple[Any, str]] = {
    "not JSON": (lambda made: "{", "mos make"),
    "a list": (lambda made: "[]", "mos make"),
    "a deep list": (lambda made: "[" * 100_000, "mos make"),
    "an endless number": (lambda made: "9" * 10_000, "mos make"),
    "another study": (other_study, "study"),
    "a newer version": ({"version": 2}, "version"),
    "no name": ({"rater": " "}, "rater"),
    "the same rater": ({"rater": "R0"}, "R0"),
    "another image": ({"order": ["a"] * 12}, "order"),
    "a score of 6": ({"ratings": [{"rating": 6, "seconds": 1, "magnification": 1}]}, "1 to 5"),
    "a score of true": (
        {"ratings": [{"rating": True, "seconds": 1, "magnification": 1}]},
        "1 to 5",
    ),
    "a time that is not a number": (
        {"ratings": [{"rating": 1, "seconds": float("nan"), "magnification": 1}]},
        "1 to 5",
    ),
    "incomplete": (
        {"ratings": [{"rating": 1, "seconds": 1, "magnification": 1}]},
        "12 scores, got 1; the rater can open the file in the page and finish, or remove the file",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_invalid_file_is_named_in_one_line(
    case: str, made: Made, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, named = WRONG[case]
    content = (
        changes(made)
        if callable(changes)
        else rater_file(made.page, "X", lambda m, i: 1, changes=changes)
    )
    path = tmp_path / "wrong.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(SystemExit) as ended:
        main(["mos", "score", str(files[0]), str(path)])
    lines = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 1
    assert len(lines) == 1
    assert str(path) in lines[0]
    assert named in lines[0]


@pytest.mark.parametrize("key", ["", "AAAA", "eJyrrgUAAXUA+Q==", None])
def test_a_damaged_key_is_named(
    key: str | None, made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text(
        json.dumps(rater_file(made.page, "X", lambda m, i: 1, changes={"key": key}))
    )
    with pytest.raises(SystemExit):
        main(["mos", "score", str(tmp_path / "x.json")])
    assert "key" in capsys.readouterr().err


def test_a_missing_file_and_an_unknown_output_format_are_named(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, named in (
        ([str(tmp_path / "none.json")], "none.json"),
        ([str(files[0]), "--out", str(tmp_path / "scores.txt")], "scores.txt"),
    ):
        with pytest.raises(SystemExit):
            main(["mos", "score", *command])
        assert named in capsys.readouterr().err


def test_all_outputs_agree(
    files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("scores.html", "scores.json"):
        command = [*map(str, files), "--out", str(tmp_path / name), "--resamples", "100"]
        main(["mos", "score", *command])
    text = capsys.readouterr().out
    html = (tmp_path / "scores.html").read_text(encoding="utf-8")
    data = json.loads((tmp_path / "scores.json").read_text())
    assert data == json.loads(json.dumps(score(read_ratings(files), resamples=100).as_json()))
    for method in data["methods"]:
        row = [f"{method['mean']:.2f}", f"{method['low']:.2f} to {method['high']:.2f}"]
        assert all(cell in text and f">{cell}<" in html for cell in row)
    assert all(rater["rater"] in text and rater["rater"] in html for rater in data["raters"])
    assert HOSTILE not in html
    assert "&lt;script&gt;" in html


def test_terminal_control_sequences_in_a_name_are_escaped(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = rater_file(made.page, "\x1b[2JX\ud800", lambda m, i: 1)
    (tmp_path / "x.json").write_text(json.dumps(content))
    out = ["--out", str(tmp_path / "x.html"), "--resamples", "100"]
    main(["mos", "score", str(tmp_path / "x.json"), *out])
    assert "\x1b" not in capsys.readouterr().out
    assert "\x1b" not in (tmp_path / "x.html").read_text(encoding="utf-8")


def test_a_missing_library_is_named_with_the_install_command(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "krippendorff", None)
    with pytest.raises(SystemExit):
        main(["mos", "score", *map(str, files)])
    error = capsys.readouterr().err
    assert "krippendorff" in error
    assert "srgan_plugin[study]" in error
