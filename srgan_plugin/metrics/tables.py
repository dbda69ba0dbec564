"""Results as a table for people: measured, published, difference, and the protocol below."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from srgan_plugin.errors import UserError

from .protocol import METRIC_FUNCTIONS, EvaluationProtocol, MetricName
from .reference_results import ReferenceResult, reference_result


def format_table(
    results: Mapping[str, Mapping[str, float]],
    *,
    protocol: EvaluationProtocol | None,
    lr_origins: Mapping[str, str],
    model: str | None = None,
    missing_images: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Lays out the results of one method on several test sets.

    Args:
        results: for each test set, its measures (dB for PSNR); others than the protocol's get a
            column each.
        protocol: the conditions they were measured under; None for measures of other makers.
        lr_origins: for each test set, in words, where its LR images come from.
        model: a name `reference_result` knows; None where there is nothing to compare with.
        missing_images: for each test set that is not whole, what it has; its averages are compared
        with
            nothing.

    Returns:
        The lines of the table and under it the protocol and the sources, without a last newline.

    Raises:
        ValueError: there are no results, or nobody has published such a model.
    """
    if not results:
        raise UserError("expected results on at least one test set, got none")
    sources: dict[str, None] = {}
    others = dict.fromkeys(m for row in results.values() for m in row if m not in METRIC_FUNCTIONS)
    columns = [*METRIC_FUNCTIONS, *others]
    rows: list[list[str]] = [["set", "", *columns]]
    for name, measured in results.items():
        rows.append([name, "measured", *(_number(measured.get(m)) for m in columns)])
        whole = not missing_images.get(name)
        known = (
            {m: reference_result(model, name, m) for m in METRIC_FUNCTIONS}
            if model and whole
            else {}
        )
        rows += [row + [""] * len(others) for row in _comparison(measured, known)]
        sources |= {entry.source: None for entry in known.values() if entry}
    conditions = protocol.describe() if protocol else "that of the configured metrics"
    notes = [f"Protocol: {conditions}; LR: {_origins(results, lr_origins)}."]
    notes += [f"Published: {'; '.join(sources)}."] if sources else []
    short = [f"{name} ({missing_images[name]})" for name in results if missing_images.get(name)]
    notes += [f"Not whole, so not comparable: {', '.join(short)}."] if short else []
    return "\n".join([*_aligned(rows), "", *notes])


def _comparison(
    measured: Mapping[str, float], known: Mapping[MetricName, ReferenceResult | None]
) -> list[list[str]]:
    """The two rows under a measured one: what was published, and by how much we are off."""
    pairs = [(m, known.get(m), measured.get(m)) for m in METRIC_FUNCTIONS]
    if not any(entry for _, entry, _ in pairs):
        return []
    values = [_number(entry.value if entry else None) for _, entry, _ in pairs]
    differences = [
        _number(ours - entry.value if entry and ours is not None else None, sign="+")
        for _, entry, ours in pairs
    ]
    return [["", "published", *values], ["", "difference", *differences]]


def _number(value: float | None, *, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.4f}"


def _origins(names: Mapping[str, object], lr_origins: Mapping[str, str]) -> str:
    """Groups test sets whose LR was made the same way: 'given (Set5, Set14), … (B100)'."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(lr_origins.get(name, "unknown"), []).append(name)
    return ", ".join(f"{origin} ({', '.join(members)})" for origin, members in groups.items())


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
