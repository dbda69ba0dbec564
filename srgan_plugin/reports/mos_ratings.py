"""Read and validate the untrusted files of raters."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from srgan_plugin.errors import MissingFileError, UserError

from .mos_page import FORMAT, VERSION
from .mos_study import ANCHORS, study_id, unseal

_MAX_FILE_BYTES: Final = 2**25
_SCORES: Final = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Ratings:
    """Scores of all raters of a study.

    Attributes:
        study: Id of the study.
        methods: Names of the methods, anchors first.
        images: Keys of the images.
        options: Options with which the study was made.
        raters: Names of the raters.
        scores: Scores from 1 to 5, (raters, methods, images). For versions that were shown twice,
            the first score.
        repeated: First and second score of versions that were shown twice, (raters, repeats, 2).
        seconds: Time between display and score, (raters, trials).
        magnifications: Widths of an image pixel on the screen, in device pixels, per rater.
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
            UserError: No rater remains.
        """
        excluded = set(raters)
        kept = [i for i, rater in enumerate(self.raters) if rater not in excluded]
        if not kept:
            raise UserError("expected at least one rater who passed the calibration, got none")
        return replace(
            self,
            raters=tuple(self.raters[i] for i in kept),
            scores=self.scores[kept],
            repeated=self.repeated[kept],
            seconds=self.seconds[kept],
            magnifications=tuple(self.magnifications[i] for i in kept),
        )


def read_ratings(files: Iterable[str | Path]) -> Ratings:
    """Read the files of all raters of a study.

    Raises:
        MissingFileError: A file does not exist.
        UserError: A file is damaged, incomplete or from another study, or two files have the same
            rater.
    """
    contents = [(Path(file), _read(Path(file))) for file in files]
    if not contents:
        raise UserError("expected the file of at least one rater, got none")
    first, content = contents[0]
    study, key = content.get("study"), _read_key(first, content)
    _check_same_study(contents, study, first)
    raters = _read_raters(contents)
    trials = [_read_trials(path, content, key) for path, content in contents]
    entries = [[entry for _, entry in trial] for trial in trials]
    by_code = [_group_by_code(trial) for trial in trials]
    repeated = [[given[code][:2] for code in key["repeats"]] for given in by_code]
    return Ratings(
        study=str(study),
        methods=tuple(map(_escape_unprintable, key["methods"])),
        images=tuple(key["images"]),
        options=key["options"],
        raters=tuple(raters),
        scores=np.array([_arrange_scores(given, key) for given in by_code]),
        repeated=np.array(repeated, np.int64).reshape(len(raters), len(key["repeats"]), 2),
        seconds=np.array([[entry["seconds"] for entry in each] for each in entries], float),
        magnifications=tuple(
            tuple(sorted({entry["magnification"] for entry in each})) for each in entries
        ),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        small = path.stat().st_size <= _MAX_FILE_BYTES
        content = json.loads(path.read_text(encoding="utf-8")) if small else None
    except FileNotFoundError:
        raise MissingFileError(f"{path}: expected a rater's file, got no such file") from None
    except (ValueError, RecursionError):  # includes errors of Unicode and JSON
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(
            f"{path}: expected a file saved by a page of `mos make`, got another file; remove it "
            "from the command"
        )
    if content.get("version") != VERSION:
        raise UserError(
            f"{path}: expected version {VERSION} of the format, got {content.get('version')!r}; "
            "use the release of srgan_plugin that made the page"
        )
    return content


def _check_same_study(
    contents: Iterable[tuple[Path, dict[str, Any]]], study: object, first: Path
) -> None:
    for path, content in contents:
        if content.get("study") != study:
            raise UserError(
                f"{path}: expected study {study}, as in {first}, got {content.get('study')!r}; "
                "score each study separately"
            )


def _read_raters(contents: Iterable[tuple[Path, dict[str, Any]]]) -> list[str]:
    """Return the name of the rater in each file."""
    files: dict[str, Path] = {}
    for path, content in contents:
        rater = content.get("rater")
        if not isinstance(rater, str) or not rater.strip():
            raise UserError(f"{path}: expected the name of a rater, got {rater!r}")
        name = _escape_unprintable(rater)
        if name in files:
            raise UserError(
                f"{path}: expected one file of rater {name!r}, got {files[name]} as well; remove "
                'one, or change "rater" in one'
            )
        files[name] = path
    return list(files)


def _read_key(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Return the key of the study, which maps codes to methods and images."""
    try:
        key = unseal(str(content.get("key")))
    except ValueError:
        key = {}
    if not _is_key(key) or study_id(key) != content.get("study"):
        raise UserError(
            f"{path}: expected the key of study {content.get('study')!r}, got another key or a "
            "damaged one; ask the rater for the file again"
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


def _escape_unprintable(text: str) -> str:
    """Escape unprintable characters, such as terminal control sequences."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _read_trials(
    path: Path, content: dict[str, Any], key: dict[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """Return the code and the rating of each trial, in the order shown."""
    order, entries = content.get("order"), content.get("ratings")
    expected = sorted([*key["items"], *key["repeats"]])
    if not isinstance(order, list) or sorted(map(str, order)) != expected:
        raise UserError(
            f"{path}: expected the codes of the study in 'order', got others; remove the file from "
            "the command"
        )
    if (
        not isinstance(entries, list)
        or len(entries) > len(order)
        or not all(map(_is_entry, entries))
    ):
        raise UserError(
            f"{path}: expected whole scores from 1 to 5 in 'ratings', got others; remove the file "
            "from the command"
        )
    if len(entries) < len(order):
        raise UserError(
            f"{path}: expected {len(order)} scores, got {len(entries)}; the rater can open the "
            "file in the page and finish, or remove the file from the command"
        )
    return list(zip(order, entries, strict=True))


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


def _group_by_code(trials: list[tuple[str, dict[str, Any]]]) -> dict[str, list[int]]:
    """Return {code: its one or two scores in the order shown}."""
    given: dict[str, list[int]] = {}
    for code, entry in trials:
        given.setdefault(code, []).append(entry["rating"])
    return given


def _arrange_scores(given: dict[str, list[int]], key: dict[str, Any]) -> list[list[int]]:
    """Return the first score of each version, as a list per method with a score per image."""
    by_cell = {tuple(cell): given[code][0] for code, cell in key["items"].items()}
    return [[by_cell[method, image] for image in key["images"]] for method in key["methods"]]
