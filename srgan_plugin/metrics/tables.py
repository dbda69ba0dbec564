"""Results as text tables: measured values, published values, and the conditions of both."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from srgan_plugin.errors import UserError, check_option

from .protocols import PROTOCOLS
from .reference_results import MODELS, ReferenceResult, reference_results
from .scoring import Scorer

Results = Mapping[str, Mapping[str, float]]
_BORDER = 4  # of published tables at x4


def format_table(
    results: Results,
    *,
    scorer: Scorer | None,
    lr_origins: Mapping[str, str],
    model: str | None = None,
    missing_images: Mapping[str, str] = MappingProxyType({}),
    changed_by: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Format the results of one method on several test sets.

    Args:
        results: Values by test set and metric; PSNR in dB.
        scorer: Scorer of `results`; None if other metrics measured them.
        lr_origins: Description of the origin of the LR images, by test set.
        model: Model of `reference_results` to compare with; None for no comparison. Values of
            another border than 4, or not rounded, are not compared: their names are the same.
        missing_images: For incomplete test sets, how many images exist ("4 of 5 images"); these
            sets are not compared.
        changed_by: Transforms that changed the images of a test set ("DegradeLR"), which is not
            compared then.

    Returns:
        The values, the comparison with published values and the conditions, without a newline at
        the end.

    Raises:
        UserError: `results` is empty, or `model` is unknown.

    Example:
        >>> from srgan_plugin.metrics import Scorer, format_table
        >>> results, origins = {"Set5": {"PSNR_Y": 28.42}}, {"Set5": "given"}
        >>> print(format_table(results, scorer=Scorer(["paper"]), lr_origins=origins))
        set    PSNR_Y
        Set5  28.4200
        <BLANKLINE>
        Protocols, 4 pixels cut off each edge:
          paper  PSNR of Y (BT.601), its SSIM is not compared, output rounded to uint8
        LR: given (Set5).
    """
    comparison = ""
    if model is not None:
        other = {name: missing_images.get(name) or changed_by.get(name, "") for name in results}
        comparison = format_comparison(_comparable(results, scorer), model, other)
    parts = [
        format_metrics(results, scorer),
        comparison,
        format_conditions(results, scorer, lr_origins, missing_images, changed_by),
    ]
    return "\n\n".join(filter(None, parts))


def _comparable(results: Results, scorer: Scorer | None) -> Results:
    """Return the values measured with the border and the rounding of published tables at x4."""
    published = {
        name: metric
        for protocol in PROTOCOLS.values()
        for name, metric in protocol.metrics(_BORDER).items()
    }
    measured = scorer.metrics if scorer else {}
    same = {name for name, metric in measured.items() if published.get(name) == metric}
    return {
        name: {metric: value for metric, value in row.items() if metric in same}
        for name, row in results.items()
    }


def format_metrics(results: Results, scorer: Scorer | None = None) -> str:
    """Format all metrics of all test sets, those of `scorer` first.

    Raises:
        UserError: `results` is empty.

    Example:
        >>> from srgan_plugin.metrics import format_metrics
        >>> print(format_metrics({"Set5": {"PSNR": 28.42}, "Set14": {"PSNR": 26.0}}))
        set       PSNR
        Set5   28.4200
        Set14  26.0000
    """
    if not results:
        raise UserError("results: expected those of at least one test set, got none")
    first = scorer.metrics if scorer else ()
    columns = dict.fromkeys([*first, *(m for row in results.values() for m in row)])
    rows = [[name, *(format_number(row.get(m)) for m in columns)] for name, row in results.items()]
    return _format_columns([["set", *columns], *rows], left=1)


def format_comparison(
    results: Results, model: str, missing_images: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Format published values beside measured ones.

    Args:
        results: See `format_table`. They must have been measured at x4 with a border of 4 and
            rounding, which the names of metrics do not show.
        model: Model of `reference_results`.
        missing_images: See `format_table`.

    Returns:
        PSNR and SSIM of each complete test set: published, measured under the protocol of the
        table, the difference, measured under its second protocol; then the publication. Empty if
        nothing was published for these test sets.

    Raises:
        UserError: `model` is unknown.

    Example:
        >>> from srgan_plugin.metrics import format_comparison
        >>> print(format_comparison({"Set5": {"PSNR_Y": 28.5}}, "bicubic").splitlines()[1])
        Set5  PSNR    28.4300          28.5000     +0.0700      28.5000
    """
    check_option("reference model", model, MODELS)
    known = {
        name: reference_results(model, name) for name in results if not missing_images.get(name)
    }
    entries = [entry for published in known.values() for entry in published.values()]
    if not entries:
        return ""
    table = entries[0].table
    measured = f"measured, {table.protocol}", f"measured, {table.second_protocol}"
    head = ["set", "", "published", measured[0], "difference", measured[1]]
    rows = [
        [name, kind, *_comparison(results[name], entry)]
        for name, published in known.items()
        for kind, entry in published.items()
    ]
    return f"{_format_columns([head, *rows], left=2)}\nPublished: {table.source}."


def format_conditions(
    sets: Iterable[str],
    scorer: Scorer | None,
    lr_origins: Mapping[str, str],
    missing_images: Mapping[str, str] = MappingProxyType({}),
    changed_by: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Describe the conditions of the results, line by line.

    Args:
        sets: Names of the test sets.
        scorer: See `format_table`.
        lr_origins: See `format_table`.
        missing_images: See `format_table`.
        changed_by: See `format_table`.

    Returns:
        Lines about the protocol, the LR images and incomplete sets, joined by newlines.

    Example:
        >>> from srgan_plugin.metrics import format_conditions
        >>> print(format_conditions(["Set5"], None, {"Set5": "given"}, {"Set5": "4 of 5 images"}))
        Protocol: that of the configured metrics.
        LR: given (Set5).
        Incomplete, so not compared with published values: Set5 (4 of 5 images).
    """
    sets = list(sets)
    incomplete = [f"{name} ({missing_images[name]})" for name in sets if missing_images.get(name)]
    lines = [scorer.describe() if scorer else "Protocol: that of the configured metrics."]
    lines.append(f"LR: {_origins(sets, lr_origins)}.")
    changed = [f"{name} ({changed_by[name]})" for name in sets if changed_by.get(name)]
    if changed:
        lines.append(
            f"Changed by the pipeline, so not compared with published values: {', '.join(changed)}."
        )
    if incomplete:
        lines.append(f"Incomplete, so not compared with published values: {', '.join(incomplete)}.")
    return "\n".join(lines)


def _comparison(measured: Mapping[str, float], entry: ReferenceResult) -> list[str]:
    """Format published, measured, difference, and measured under the table's second protocol."""
    same = measured.get(entry.metric) if entry.metric else None
    second = measured.get(entry.second_metric) if entry.second_metric else None
    difference = None if same is None else same - entry.value
    return [
        f"{entry.value:.4f}",
        format_number(same),
        format_number(difference, "+.4f"),
        format_number(second),
    ]


def format_number(value: float | None, spec: str = ".4f") -> str:
    """Format a number by a format specification; a dash for None."""
    return "–" if value is None else format(value, spec)


def _origins(names: Iterable[str], lr_origins: Mapping[str, str]) -> str:
    """Group test sets by the origin of their LR images: 'given (Set5, Set14), … (B100)'."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(lr_origins.get(name, "unknown"), []).append(name)
    return ", ".join(f"{origin} ({', '.join(members)})" for origin, members in groups.items())


def _format_columns(rows: Sequence[Sequence[str]], left: int) -> str:
    """Format cells as columns, the first `left` of them aligned to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
