"""Format the results of an opinion study as text and as an HTML page."""

from collections.abc import Iterable, Sequence
from html import escape

from srgan_plugin.metrics.opinion_references import SOURCE
from srgan_plugin.metrics.tables import format_number

from .html import asset, page, table
from .mos_scores import MethodScore, Scores

Rows = list[list[str]]


def format_scores(scores: Scores) -> str:
    """Format scores as lines of text, without a trailing newline."""
    blocks = [_title(scores), _align_columns(_method_rows(scores))]
    if scores.comparisons:
        blocks += [f"{_test(scores)}:", _align_columns(_comparison_rows(scores))]
    blocks += [f"{_agreement(scores)}.", _align_columns(_rater_rows(scores))]
    notes = [_interval(scores), _rule(scores), *_list_failed(scores), *_notes(scores)]
    return "\n\n".join([*blocks, "\n".join(f"{note}." for note in notes)])


def scores_page(scores: Scores) -> str:
    """Format scores as one HTML page."""
    parts = [
        f'<main><h1>Mean opinion scores</h1><p class="soft">{escape(_title(scores))}</p>',
        _figure(scores),
        _section("Scores", _method_rows(scores), f"{_interval(scores)}."),
    ]
    if scores.comparisons:
        rows = _comparison_rows(scores)
        parts.append(_section("Differences between methods", rows, f"{_test(scores)}."))
    failed = "".join(f'<p class="alert">{escape(line)}.</p>' for line in _list_failed(scores))
    text = f"{_agreement(scores)}. {_rule(scores)}."
    parts.append(_section("Raters", _rater_rows(scores), text, failed))
    lines = "".join(f"<li>{escape(note)}.</li>" for note in _notes(scores))
    parts.append(f'<h2>Notes</h2><ul class="notes">{lines}</ul>' if lines else "")
    return page("Mean opinion scores", "\n".join(parts) + "</main>", style=asset("mos_scores.css"))


def _section(title: str, rows: Rows, text: str, html: str = "") -> str:
    """Return a heading, a paragraph, additional HTML and a table; its header is `rows[0]`."""
    header, *body = rows
    heading = f'<h2>{escape(title)}</h2><p class="soft">{escape(text)}</p>{html}'
    return heading + table(header, body, title)


def _title(scores: Scores) -> str:
    used = len(scores.raters) - len(scores.excluded)
    without = f" ({', '.join(scores.excluded)} excluded)" if scores.excluded else ""
    return (
        f"Study {scores.study}. Raters: {used}{without}, images: {scores.images}, "
        f"versions of each: {len(scores.methods)}"
    )


def _interval(scores: Scores) -> str:
    return (
        f"95 %: bootstrap over raters and images, {scores.resamples} resamples, seed {scores.seed}"
    )


def _test(scores: Scores) -> str:
    return (
        f"p: Wilcoxon's signed-rank test over {scores.tested_over}, two-sided; Holm: corrected for "
        f"{len(scores.comparisons)} comparisons"
    )


def _agreement(scores: Scores) -> str:
    alpha = "–" if scores.alpha is None else f"{scores.alpha:.3f}"
    return f"Agreement of the raters: Krippendorff's alpha {alpha} (ordinal, without the anchors)"


def _rule(scores: Scores) -> str:
    return (
        f"Passed: mean of nearest at most {1 + scores.tolerance:g} and of HR at least "
        f"{5 - scores.tolerance:g}"
    )


def _list_failed(scores: Scores) -> list[str]:
    failed = [rater.rater for rater in scores.raters if rater.failed]
    return [f"Failed the calibration: {', '.join(failed)}"] if failed else []


def _notes(scores: Scores) -> list[str]:
    paper = any(method.paper is not None for method in scores.methods)
    source = f"Paper: {SOURCE}; the method of the same name on {scores.dataset}"
    return [*([source] if paper else []), *scores.notes]


def _method_rows(scores: Scores) -> Rows:
    paper = any(method.paper is not None for method in scores.methods)
    rows = [["version", "MOS", "95 %", "1", "2", "3", "4", "5", *(["paper"] if paper else [])]]
    for method in scores.methods:
        shares = [f"{share:.0%}".replace("%", " %") for share in _shares(method)]
        row = [method.method, f"{method.mean:.2f}", _range(method.low, method.high), *shares]
        rows.append(row + ([format_number(method.paper, ".2f")] if paper else []))
    return rows


def _comparison_rows(scores: Scores) -> Rows:
    rows = [["difference", "MOS", "95 %", "p", "Holm"]]
    for one in scores.comparisons:
        name = f"{one.first} − {one.second}"
        interval = f"{one.low:+.2f} to {one.high:+.2f}"
        rows.append([name, f"{one.difference:+.2f}", interval, _p(one.p), _p(one.p_holm)])
    return rows


def _rater_rows(scores: Scores) -> Rows:
    rows = [["rater", "nearest", "HR", "twice", "seconds", "zoom", "calibration"]]
    for rater in scores.raters:
        zoom = ", ".join(f"{times}x" for times in rater.magnifications)
        means = [
            f"{rater.nearest:.2f}",
            f"{rater.hr:.2f}",
            format_number(rater.repeat_difference, ".2f"),
        ]
        state = "failed" if rater.failed else "passed"
        rows.append([rater.rater, *means, f"{rater.seconds:.1f}", zoom, state])
    return rows


def _shares(method: MethodScore) -> list[float]:
    return [count / sum(method.counts) for count in method.counts]


def _range(low: float, high: float) -> str:
    return f"{low:.2f} to {high:.2f}"


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _align_columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def _figure(scores: Scores) -> str:
    """Return a chart of means and intervals on a scale from 1 to 5, with histograms."""
    paper = any(method.paper is not None for method in scores.methods)
    caption = "Dot: mean. Band: 95 % interval. Bars: number of scores from 1 to 5."
    caption += " Square: score in the paper." if paper else ""
    ticks = "".join(_mark("", value, str(value)) for value in range(1, 6))
    grades = "".join(f"<i>{value}</i>" for value in range(1, 6))
    axis = (
        f'<div class="row"><span></span><div class="track axis">{ticks}</div>'
        f'<div class="bars axis">{grades}</div></div>'
    )
    rows = "".join(map(_figure_row, scores.methods))
    label = escape("Mean opinion scores; the table below has the numbers", quote=True)
    return (
        f'<figure><div role="img" aria-label="{label}">{rows}{axis}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _figure_row(method: MethodScore) -> str:
    width = (method.high - method.low) / 4
    left = _position(method.low)
    marks: Iterable[str] = (
        f'<i class="band" style="left:{left};width:{width:.2%}"></i>',
        _mark("mean", method.mean),
        _mark("paper", method.paper) if method.paper is not None else "",
    )
    shares = _shares(method)
    bars = "".join(f'<i style="height:{share / max(shares):.0%}"></i>' for share in shares)
    return (
        f'<div class="row"><span>{escape(method.method)}</span>'
        f'<div class="track">{"".join(marks)}</div><div class="bars">{bars}</div></div>'
    )


def _mark(kind: str, value: float, text: str = "") -> str:
    return f'<i class="{kind}" style="left:{_position(value)}">{text}</i>'


def _position(value: float) -> str:
    return f"{(value - 1) / 4:.2%}"
