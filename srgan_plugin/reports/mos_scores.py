"""Compute the results of an opinion study: mean scores, intervals, tests, agreement."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from srgan_plugin.errors import UserError, check_at_least, check_option
from srgan_plugin.metrics.opinion_references import paper_opinions

from .mos_ratings import Ratings
from .mos_study import ANCHORS, HR, NEAREST

Unit = Literal["raters", "images"]
_CHUNK: Final = 500  # resamples computed at a time, which limits memory
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
        paper: Score of the method with this name in the SRGAN paper; None if not comparable.
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
        first: Name of a method.
        second: Name of another method.
        difference: Mean of the first minus mean of the second.
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
    """Scores of the anchors by a rater, consistency, and viewing conditions.

    Attributes:
        rater: Name of the rater.
        nearest: Mean score of the nearest-neighbour versions, which were calibrated as 1.
        hr: Mean score of the HR images, which were calibrated as 5.
        failed: Whether `nearest` or `hr` is further from its score than the tolerance.
        repeat_difference: Mean absolute difference between the two scores of versions shown twice;
            None if there are none.
        seconds: Median time for a score.
        magnifications: Widths in device pixels at which an image pixel was shown.
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
        dataset: Name of the test set; empty if not stated.
        crop: Height and width that were shown; None for whole images.
        tested_over: Unit of the paired tests, "raters" or "images".
        tolerance: Largest distance of the mean of an anchor from its score.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
        excluded: Names of the raters who were excluded.
        alpha: Krippendorff's alpha of the raters; None if undefined.
        methods: Score of each method, anchors first.
        comparisons: Comparison of each pair of methods, without the anchors.
        raters: Results of each rater, including those excluded.
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
        test_over: Unit of the paired tests: means of each rater, or means of each image.
        tolerance: Largest distance of a rater's mean of an anchor from its score, 1 or 5.
        exclude_failed: Whether to exclude raters who exceed the tolerance.
        resamples: Number of bootstrap resamples, at least 100.
        seed: Seed of the bootstrap.

    Raises:
        UserError: SciPy or krippendorff is not installed, or a value is out of range.
    """
    check_option("test_over", test_over, ("raters", "images"))
    check_at_least(100, resamples=resamples)
    check_at_least(0, tolerance=tolerance, seed=seed)
    raters = _raters(ratings, tolerance)
    failed = tuple(rater.rater for rater in raters if rater.failed)
    excluded = failed if exclude_failed else ()
    used = ratings.without(excluded)
    means = bootstrap_means(used.scores, resamples, seed)
    paper, notes = _paper(used)
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
        methods=tuple(_methods(used, means, paper)),
        comparisons=tuple(_comparisons(used, means, test_over)),
        raters=raters,
        notes=(*notes, *_warnings(used, test_over)),
    )


def bootstrap_means(scores: NDArray[np.int64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Return the mean scores of bootstrap samples of raters and images.

    Raters and images are both sampled with replacement (the pigeonhole bootstrap of Owen 2007,
    which is mildly conservative), so intervals apply to other raters and other images.

    Args:
        scores: Scores of shape (raters, methods, images).
        resamples: Number of samples.
        seed: Seed of the generator.

    Returns:
        Means of shape (resamples, methods).
    """
    raters, methods, images = scores.shape
    rng, parts = np.random.default_rng(seed), []
    for start in range(0, resamples, _CHUNK):
        size = min(_CHUNK, resamples - start)
        of_raters = rng.multinomial(raters, np.full(raters, 1 / raters), size)
        of_images = rng.multinomial(images, np.full(images, 1 / images), size)
        sums = (of_raters @ scores.reshape(raters, -1)).reshape(size, methods, images)
        parts.append(np.einsum("bmi,bi->bm", sums, of_images))
    total: NDArray[np.float64] = np.concatenate(parts) / (raters * images)
    return total


def signed_rank_p(differences: NDArray[np.int64]) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test; 1 if all differences are 0."""
    return float(_library("scipy.stats").wilcoxon(differences).pvalue) if differences.any() else 1.0


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
        scores: Scores of shape (raters, methods, images).

    Returns:
        Alpha, or None if there is one rater only or all scores are equal.
    """
    units = scores.reshape(len(scores), -1)
    if len(units) < 2 or np.unique(units).size < 2:
        return None
    return float(
        _library("krippendorff").alpha(
            reliability_data=units, level_of_measurement="ordinal", value_domain=[1, 2, 3, 4, 5]
        )
    )


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"mos score: expected {error.name} to be installed, got no such module; run: "
            'pip install "srgan_plugin[study]"'
        ) from None


def _methods(
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


def _comparisons(ratings: Ratings, means: NDArray[np.float64], over: Unit) -> list[Comparison]:
    """Compare all pairs of methods except the anchors, whose scores raters were given."""
    pairs = list(combinations(range(len(ANCHORS), len(ratings.methods)), 2))
    # Sums instead of means: integers that are equal tie exactly, floats may differ by rounding.
    sums = ratings.scores.sum(axis=2 if over == "raters" else 0)
    sums = sums if over == "raters" else sums.T  # (raters or images, methods)
    p = [signed_rank_p(sums[:, a] - sums[:, b]) for a, b in pairs]
    found = []
    for (a, b), one, corrected in zip(pairs, p, holm(p), strict=True):
        low, high = np.percentile(means[:, a] - means[:, b], _PERCENTILES)
        difference = float(ratings.scores[:, a].mean() - ratings.scores[:, b].mean())
        names = ratings.methods[a], ratings.methods[b]
        found.append(Comparison(*names, difference, float(low), float(high), one, corrected))
    return found


def _raters(ratings: Ratings, tolerance: float) -> tuple[RaterScore, ...]:
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


def _paper(ratings: Ratings) -> tuple[dict[str, float], list[str]]:
    """Return the paper's scores of the test set, and notes on differences from the paper."""
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
