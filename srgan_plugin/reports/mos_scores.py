"""Compute the results of an opinion study: mean scores, intervals, tests, agreement."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from srgan_plugin.errors import UserError, check_at_least, check_count, check_option
from srgan_plugin.metrics.opinion_references import paper_opinions

from .mos_ratings import Ratings
from .mos_study import ANCHORS, HR, NEAREST

Unit = Literal["raters", "images"]
_CHUNK: Final = 500  # resamples per batch, to limit the memory
_PERCENTILES: Final = (2.5, 97.5)  # ends of a 95 % interval


@dataclass(frozen=True)
class MethodScore:
    """Mean opinion score of a method.

    Attributes:
        method: Name of the method.
        mean: Mean over raters and images.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
        counts: Number of scores of 1, 2, 3, 4 and 5.
        paper: Score of the method in the SRGAN paper; None if it is not comparable.
    """

    method: str
    mean: float
    low: float
    high: float
    counts: tuple[int, ...]
    paper: float | None


@dataclass(frozen=True)
class Comparison:
    """Comparison of two methods on the same images by the same raters.

    Attributes:
        first: Name of the first method.
        second: Name of the second method.
        difference: Mean score of `first` minus mean score of `second`.
        low: Lower end of the 95 % interval of the difference.
        high: Upper end of the 95 % interval of the difference.
        p: Two-sided p-value of Wilcoxon's signed-rank test.
        p_holm: p-value corrected for the number of comparisons (Holm 1979).
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class RaterScore:
    """Calibration, consistency and viewing conditions of a rater.

    Attributes:
        rater: Name of the rater.
        nearest: Mean score of the nearest-neighbour versions; calibrated as 1.
        hr: Mean score of the HR images; calibrated as 5.
        failed: Whether `nearest` or `hr` differs from its calibrated score by more than the
            tolerance.
        repeat_difference: Mean absolute difference between the two scores of versions shown twice;
            None without such versions.
        seconds: Median time between display and score.
        magnifications: Widths of an image pixel on the screen, in device pixels.
    """

    rater: str
    nearest: float
    hr: float
    failed: bool
    repeat_difference: float | None
    seconds: float
    magnifications: tuple[int, ...]


@dataclass(frozen=True)
class Scores:
    """Results of a study; `docs/opinion-study.md` explains the statistics.

    Attributes:
        study: Id of the study.
        images: Number of images.
        dataset: Name of the test set; empty if unknown.
        crop: Height and width of the displayed part; None for whole images.
        tested_over: Unit of the paired tests, "raters" or "images".
        tolerance: Maximum difference between the mean score of an anchor and its calibrated score.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
        excluded: Names of the excluded raters.
        alpha: Krippendorff's alpha of the raters; None if undefined.
        methods: Score of each method, anchors first.
        comparisons: Comparison of each pair of methods, without the anchors.
        raters: Results of all raters, including excluded ones.
        notes: Notes on limits of the study.
    """

    study: str
    images: int
    dataset: str
    crop: int | None
    tested_over: Unit
    tolerance: float
    resamples: int
    seed: int
    excluded: tuple[str, ...]
    alpha: float | None
    methods: tuple[MethodScore, ...]
    comparisons: tuple[Comparison, ...]
    raters: tuple[RaterScore, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the attributes as nested dictionaries."""
        return asdict(self)


def score(
    ratings: Ratings,
    *,
    test_over: Unit = "raters",
    tolerance: float = 1.0,
    exclude_failed: bool = False,
    resamples: int = 10_000,
    seed: int = 0,
) -> Scores:
    """Compute the results of a study.

    Args:
        ratings: Ratings of all raters.
        test_over: Unit of the paired tests: "raters" or "images".
        tolerance: Maximum difference between a rater's mean score of an anchor and its calibrated
            score, 1 or 5.
        exclude_failed: Whether to exclude raters who exceed the tolerance.
        resamples: Number of bootstrap resamples, at least 100.
        seed: Seed of the bootstrap.

    Returns:
        Scores of methods, their paired comparisons, and results of all raters.

    Raises:
        UserError: SciPy or krippendorff is not installed, or a value is out of range.
    """
    check_option("test_over", test_over, ("raters", "images"))
    check_count(100, resamples=resamples)
    check_count(0, seed=seed)
    check_at_least(0, tolerance=tolerance)
    raters = _score_raters(ratings, tolerance)
    failed = tuple(rater.rater for rater in raters if rater.failed)
    excluded = failed if exclude_failed else ()
    used = ratings.without(excluded)
    means = bootstrap_means(used.scores, resamples, seed)
    paper, notes = _read_paper(used)
    return Scores(
        study=used.study,
        images=len(used.images),
        dataset=str(used.options.get("dataset", "")),
        crop=used.options.get("crop"),
        tested_over=test_over,
        tolerance=tolerance,
        resamples=resamples,
        seed=seed,
        excluded=excluded,
        alpha=agreement(used.scores[:, len(ANCHORS) :]),
        methods=tuple(_score_methods(used, means, paper)),
        comparisons=tuple(_compare_methods(used, means, test_over)),
        raters=raters,
        notes=(*notes, *_warnings(used, test_over)),
    )


def bootstrap_means(scores: NDArray[np.int64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Return the mean scores of bootstrap samples of raters and images.

    Raters and images are both sampled with replacement (the pigeonhole bootstrap of Owen 2007,
    which is mildly conservative), so intervals apply to other raters and other images.

    Args:
        scores: Scores, (raters, methods, images).
        resamples: Number of samples.
        seed: Seed of the random generator.

    Returns:
        Means, (resamples, methods).
    """
    raters, methods, images = scores.shape
    rng, parts = np.random.default_rng(seed), []
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        rater_counts = rng.multinomial(raters, np.full(raters, 1 / raters), size)
        image_counts = rng.multinomial(images, np.full(images, 1 / images), size)
        sums = (rater_counts @ scores.reshape(raters, -1)).reshape(size, methods, images)
        parts.append(np.einsum("bmi,bi->bm", sums, image_counts))
    total: NDArray[np.float64] = np.concatenate(parts) / (raters * images)
    return total


def signed_rank_p(differences: NDArray[np.int64]) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test; 1 if all differences are 0."""
    return (
        float(_import_library("scipy.stats").wilcoxon(differences).pvalue)
        if differences.any()
        else 1.0
    )


def holm(p: Sequence[float]) -> list[float]:
    """Correct p-values for multiple comparisons by Holm's step-down method (1979)."""
    corrected, largest = [1.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return corrected


def agreement(scores: NDArray[np.int64]) -> float | None:
    """Return Krippendorff's alpha for ordinal data: 1 is full agreement, 0 agreement by chance.

    Args:
        scores: Scores, (raters, methods, images).

    Returns:
        Alpha; None if there is only one rater or all scores are equal.
    """
    units = scores.reshape(len(scores), -1)
    if len(units) < 2 or np.unique(units).size < 2:
        return None
    return float(
        _import_library("krippendorff").alpha(
            reliability_data=units, level_of_measurement="ordinal", value_domain=[1, 2, 3, 4, 5]
        )
    )


def _import_library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"mos score: expected {error.name} to be installed, got no such module; run: "
            'pip install "srgan_plugin[study]"'
        ) from None


def _score_methods(
    ratings: Ratings, means: NDArray[np.float64], paper: dict[str, float]
) -> list[MethodScore]:
    low, high = np.percentile(means, _PERCENTILES, axis=0)
    return [
        MethodScore(
            method=name,
            mean=float(ratings.scores[:, i].mean()),
            low=float(low[i]),
            high=float(high[i]),
            counts=tuple(int((ratings.scores[:, i] == value).sum()) for value in range(1, 6)),
            paper=paper.get(name.lower()),
        )
        for i, name in enumerate(ratings.methods)
    ]


def _compare_methods(ratings: Ratings, means: NDArray[np.float64], over: Unit) -> list[Comparison]:
    """Compare all pairs of methods, without the anchors, which were calibrated."""
    pairs = list(combinations(range(len(ANCHORS), len(ratings.methods)), 2))
    # Sums instead of means, because equal means can differ by rounding.
    sums = ratings.scores.sum(axis=2 if over == "raters" else 0)
    sums = sums if over == "raters" else sums.T  # (raters or images, methods)
    p = [signed_rank_p(sums[:, a] - sums[:, b]) for a, b in pairs]
    found = []
    for (a, b), one, corrected in zip(pairs, p, holm(p), strict=True):
        low, high = np.percentile(means[:, a] - means[:, b], _PERCENTILES)
        difference = float(ratings.scores[:, a].mean() - ratings.scores[:, b].mean())
        found.append(
            Comparison(
                first=ratings.methods[a],
                second=ratings.methods[b],
                difference=difference,
                low=float(low),
                high=float(high),
                p=one,
                p_holm=corrected,
            )
        )
    return found


def _score_raters(ratings: Ratings, tolerance: float) -> tuple[RaterScore, ...]:
    low, high = (ratings.methods.index(name) for name in (NEAREST, HR))
    found = []
    for i, rater in enumerate(ratings.raters):
        nearest, hr = (float(ratings.scores[i, m].mean()) for m in (low, high))
        repeated = ratings.repeated[i]
        found.append(
            RaterScore(
                rater=rater,
                nearest=nearest,
                hr=hr,
                failed=nearest > ANCHORS[NEAREST] + tolerance or hr < ANCHORS[HR] - tolerance,
                repeat_difference=float(np.abs(np.diff(repeated)).mean())
                if len(repeated)
                else None,
                seconds=float(np.median(ratings.seconds[i])),
                magnifications=ratings.magnifications[i],
            )
        )
    return tuple(found)


def _read_paper(ratings: Ratings) -> tuple[dict[str, float], list[str]]:
    """Return {method: score in the paper} for the test set, and notes on differences."""
    dataset, crop = str(ratings.options.get("dataset", "")), ratings.options.get("crop")
    opinions, size = paper_opinions(dataset)
    if not opinions:
        return {}, []
    if len(ratings.images) != size:
        return {}, [
            f"{dataset}: {len(ratings.images)} of {size} images, so not compared with the paper"
        ]
    notes = ["The paper's raters, screens, and other methods in the study were different"]
    if crop:
        notes.append(f"Cropped to {crop}x{crop}; the paper does not mention a crop")
    return opinions, notes


def _warnings(ratings: Ratings, over: Unit) -> list[str]:
    raters, methods, images = ratings.scores.shape
    notes, count = [], raters if over == "raters" else images
    tests = math.comb(methods - len(ANCHORS), 2)
    if tests and (least := tests * 2.0 ** (1 - count)) > 0.05:
        notes.append(
            f"Tests of {count} {over} cannot show a difference: with {tests} comparisons no "
            f"corrected p is below {min(least, 1):.2g}"
        )
    if raters < 2 or images < 2:
        notes.append("One rater or one image: the intervals do not apply to others")
    return notes
