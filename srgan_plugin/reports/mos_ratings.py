"""Read and check the files that raters save; they come from strangers and may hold anything."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from srgan_plugin.errors import MissingFileError, UserError

from .mos_page import FORMAT, VERSION
from .mos_study import ANCHORS, study_id, unseal

_LARGEST_FILE: Final = 2**25  # bytes
_SCORES: Final = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Ratings:
    """The scores of all raters of a study.

    Attributes:
        study: The study's id.
        methods: Their names, anchors first.
        images: Keys of the images.
        options: What the study was made with.
        raters: Their names, as in their files.
        scores: (raters, methods, images), 1 to 5; of what was shown twice the first score.
        repeated: (raters, repeats, 2), first and second score of what was shown twice.
        seconds: (raters, trials), from an image's appearance to its score.
        magnifications: For each rater, device pixels to a side of an image's pixel.
    """

    study: str
    methods: tuple[str, ...]
    images: tuple[str, ...]
    options: dict[str, Any]
    raters: tuple[str, ...]
    scores: NDArray[np.int64]
    repeated: NDArray[np.int64]
    seconds: NDArray[np.float64]
    magnifications: tuple[tuple[int, ...], ...]

    def without(self, raters: Iterable[str]) -> "Ratings":
        """Return the ratings of all other raters.

        Raises:
            UserError: No rater is left.
        """
        excluded = set(raters)
        kept = [i for i, rater in enumerate(self.raters) if rater not in excluded]
        if not kept:
            raise UserError("expected at least one rater who passed the calibration, got none")
        return Ratings(
            study=self.study,
            methods=self.methods,
            images=self.images,
            options=self.options,
            raters=tuple(self.raters[i] for i in kept),
            scores=self.scores[kept],
            repeated=self.repeated[kept],
            seconds=self.seconds[kept],
            magnifications=tuple(self.magnifications[i] for i in kept),
        )


def read_ratings(files: Iterable[str | Path]) -> Ratings:
    """Read the files of all raters of a study.

    Raises:
        MissingFileError: One does not exist.
        UserError: One is damaged, incomplete or of another study, or two are of one rater.
    """
    paths = [Path(file) for file in files]
    if not paths:
        raise UserError("expected the file of at least one rater, got none")
    contents = [_read(path) for path in paths]
    first, key = contents[0], _key_of(paths[0], contents[0])
    for path, content in zip(paths, contents, strict=True):
        if content.get("study") != first["study"]:
            raise UserError(
                f"{path}: expected study {first['study']} as {paths[0]} has, got "
                f"{content.get('study')!r}; score each study by itself"
            )
    raters = [_rater(path, content) for path, content in zip(paths, contents, strict=True)]
    for i, rater in enumerate(raters):
        if rater in raters[:i]:
            raise UserError(
                f"{paths[i]}: expected one file of rater {rater!r}, got "
                f"{paths[raters.index(rater)]} as well; keep the right one, or rename one inside"
            )
    both = [_trials(path, content, key) for path, content in zip(paths, contents, strict=True)]
    trials = [_by_code(order, entries) for order, entries in both]
    scores = np.array([_grid(given, key) for given in trials])
    repeated = [[given[code][:2] for code in key["repeats"]] for given in trials]
    return Ratings(
        study=first["study"],
        methods=tuple(map(_printable, key["methods"])),
        images=tuple(key["images"]),
        options=key["options"],
        raters=tuple(raters),
        scores=scores,
        repeated=np.array(repeated, np.int64).reshape(len(paths), len(key["repeats"]), 2),
        seconds=np.array([[entry["seconds"] for entry in entries] for _, entries in both], float),
        magnifications=tuple(
            tuple(sorted({entry["magnification"] for entry in entries})) for _, entries in both
        ),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        small = path.stat().st_size <= _LARGEST_FILE
        content = json.loads(path.read_text(encoding="utf-8")) if small else None
    except FileNotFoundError:
        raise MissingFileError(f"{path}: expected a rater's file, got no such file") from None
    except (ValueError, RecursionError):  # of which Unicode's and JSON's errors are
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(
            f"{path}: expected a file that a page of `mos make` saved, got something else; "
            "leave it out"
        )
    if content.get("version") != VERSION:
        raise UserError(
            f"{path}: expected version {VERSION} of the format, got {content.get('version')!r}; "
            "use the release of srgan_plugin that made the page"
        )
    return content


def _key_of(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return what the codes of a study mean."""
    try:
        key = unseal(str(content.get("key")))
    except ValueError:
        key = {}
    if not _is_key(key) or study_id(key) != content.get("study"):
        raise UserError(
            f"{path}: expected the key of study {content.get('study')!r}, got another or a damaged "
            "one; ask the rater for the file again"
        )
    return key


def _is_key(key: dict[str, Any]) -> bool:
    lists = [key.get(name) for name in ("methods", "images", "repeats")]
    texts = all(isinstance(x, list) and all(isinstance(y, str) for y in x) for x in lists)
    if (
        not texts
        or not isinstance(key.get("items"), dict)
        or not isinstance(key.get("options"), dict)
    ):
        return False
    cells = sorted([method, image] for method in key["methods"] for image in key["images"])
    return (
        bool(cells)
        and key["methods"][: len(ANCHORS)] == list(ANCHORS)
        and set(key["repeats"]) <= set(key["items"])
        and len(set(key["repeats"])) == len(key["repeats"])
        and all(isinstance(cell, list) and len(cell) == 2 for cell in key["items"].values())
        and sorted(map(str, key["items"].values())) == sorted(map(str, cells))
    )


def _rater(path: Path, content: dict[str, Any]) -> str:
    rater = content.get("rater")
    if not isinstance(rater, str) or not rater.strip():
        raise UserError(f"{path}: expected the name of a rater, got {rater!r}")
    return _printable(rater)


def _printable(text: str) -> str:
    """Write out what is not text, such as commands of a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _trials(
    path: Path, content: dict[str, Any], key: dict[str, Any]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the codes in the order shown, and what was given for each."""
    order, entries = content.get("order"), content.get("ratings")
    wanted = sorted([*key["items"], *key["repeats"]])
    if not isinstance(order, list) or sorted(map(str, order)) != wanted:
        raise UserError(f"{path}: expected the study's images in 'order', got others; leave it out")
    if (
        not isinstance(entries, list)
        or len(entries) > len(order)
        or not all(map(_is_entry, entries))
    ):
        raise UserError(
            f"{path}: expected whole scores from 1 to 5 in 'ratings', got others; leave it out"
        )
    if len(entries) < len(order):
        raise UserError(
            f"{path}: expected {len(order)} scores, got {len(entries)}; let the rater open it in "
            "the page and finish, or leave it out"
        )
    return order, entries


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    rating: Any = entry.get("rating")
    seconds: Any = entry.get("seconds")
    magnification: Any = entry.get("magnification")
    return (
        type(rating) is int
        and rating in _SCORES
        and type(seconds) in (int, float)
        and 0 <= seconds < 1e9
        and type(magnification) is int
        and 0 < magnification < 100
    )


def _by_code(order: list[str], entries: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Return the one or two scores of each code, in the order they were given."""
    given: dict[str, list[int]] = {}
    for code, entry in zip(order, entries, strict=True):
        given.setdefault(code, []).append(entry["rating"])
    return given


def _grid(given: dict[str, list[int]], key: dict[str, Any]) -> list[list[int]]:
    """Return the first score of each method and image."""
    by_cell = {tuple(cell): given[code][0] for code, cell in key["items"].items()}
    return [[by_cell[method, image] for image in key["images"]] for method in key["methods"]]
