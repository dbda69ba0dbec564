"""Results as tables for people: measured, compared with published values, conditions below."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from srgan_plugin.errors import UserError

from .reference_results import ReferenceResult, reference_results
from .scoring import Scorer

Results = Mapping[str, Mapping[str, float]]


def format_table(
    results: Results,
    *,
    scorer: Scorer | None,
    lr_origins: Mapping[str, str],
    model: str | None = None,
    missing_images: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Lay out the results of one method on several test sets.

    Args:
        results: For each test set its measures by name (dB for PSNR); each gets a column.
        scorer: What measured them; None for other metrics.
        lr_origins: For each test set, in words, where its LR images come from.
        model: A name that `reference_results` knows; None where there is nothing to compare with.
        missing_images: For each incomplete test set, how many images exist; its averages are not
            compared with published values.

    Returns:
        The measures, the comparison with published values, and under them the conditions, without
        a last newline.

    Raises:
        UserError: There are no results, or no such model was published.
    """
    parts = [
        format_measures(results, scorer),
        format_comparison(results, model, missing_images) if model else "",
        format_conditions(results, scorer, lr_origins, missing_images),
    ]
    return "\n\n".join(filter(None, parts))


def format_measures(results: Results, scorer: Scorer | None = None) -> str:
    """Lay out all measures of all sets; those of `scorer` come first."""
    if not results:
        raise UserError("expected results on at least one test set, got none")
    first = scorer.measures if scorer else ()
    columns = dict.fromkeys([*first, *(m for row in results.values() for m in row)])
    rows = [[name, *(_number(row.get(m)) for m in columns)] for name, row in results.items()]
    return _aligned([["set", *columns], *rows], left=1)


def format_comparison(
    results: Results, model: str, missing_images: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Lay out published values beside what was measured; arguments as of `format_table`.

    Returns:
        For each complete set, PSNR and SSIM: the published value, ours under the protocol that made
        it, the difference, and ours under the protocol that the table ought to have; below, where
        it was published. Empty where nothing was published of these sets.

    Raises:
        UserError: No such model was published.
    """
    known = {
        name: reference_results(model, name) for name in results if not missing_images.get(name)
    }
    entries = [entry for published in known.values() for entry in published.values()]
    if not entries:
        return ""
    table = entries[0].table
    head = ["set", "", "published", f"ours, {table.protocol}", "difference", f"ours, {table.right}"]
    rows = [
        [name, function, *_comparison(results[name], entry)]
        for name, published in known.items()
        for function, entry in published.items()
    ]
    return f"{_aligned([head, *rows], left=2)}\nPublished: {table.source}."


def format_conditions(
    sets: Iterable[str],
    scorer: Scorer | None,
    lr_origins: Mapping[str, str],
    missing_images: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return how and on what was measured, line by line; arguments as of `format_table`."""
    sets = list(sets)
    incomplete = [f"{name} ({missing_images[name]})" for name in sets if missing_images.get(name)]
    lines = [scorer.describe() if scorer else "Protocol: that of the configured metrics."]
    lines.append(f"LR: {_origins(sets, lr_origins)}.")
    if incomplete:
        lines.append(f"Incomplete, so not compared with published values: {', '.join(incomplete)}.")
    return "\n".join(lines)


def _comparison(measured: Mapping[str, float], entry: ReferenceResult) -> list[str]:
    """Return published, measured under the published protocol, difference, and the right one."""
    ours = measured.get(entry.metric) if entry.metric else None
    right = measured.get(entry.right) if entry.right else None
    difference = None if ours is None else ours - entry.value
    return [f"{entry.value:.4f}", _number(ours), _number(difference, sign="+"), _number(right)]


def _number(value: float | None, *, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.4f}"


def _origins(names: Iterable[str], lr_origins: Mapping[str, str]) -> str:
    """Group test sets whose LR was made the same way: 'given (Set5, Set14), … (B100)'."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(lr_origins.get(name, "unknown"), []).append(name)
    return ", ".join(f"{origin} ({', '.join(members)})" for origin, members in groups.items())


def _aligned(rows: Sequence[Sequence[str]], left: int) -> str:
    """Pad cells to columns, the first `left` of them aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
