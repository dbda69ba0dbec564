"""The numbers of a benchmark as a table and as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from .timing import Result

COLUMNS = {
    "name": "{}",
    "ms_per_step": "{:.2f}",
    "ms_min": "{:.2f}",
    "ms_max": "{:.2f}",
    "ms_per_image": "{:.3f}",
    "images_per_s": "{:.1f}",
    "steps_per_s": "{:.1f}",
    "waiting_for_data": "{:.1%}",
    "peak_gib": "{:.2f}",
    "fraction_of_peak": "{:.1%}",
}


def report(results: Sequence[Result], peak_flops: float | None, **facts: Any) -> dict[str, Any]:
    """All numbers of a run, for JSON.

    Args:
        results: Ours first, then theirs, if there are any.
        peak_flops: What the device does in bf16, per second; None where it was not measured.
        facts: What was done, where.

    Returns:
        `facts`, `sides` with medians and spread, `peak_tflops`, and `ratio`: their time over ours.
    """
    sides = [result.summary(peak_flops) for result in results]
    ours, *others = [side["ms_per_image"] for side in sides]
    return {
        **facts,
        "peak_tflops": peak_flops / 1e12 if peak_flops else None,
        "sides": sides,
        "ratio": others[0] / ours if others else None,
    }


def format_report(numbers: Mapping[str, Any]) -> str:
    """Format a report as a Markdown table, without columns for what was not measured."""
    sides = numbers["sides"]
    shown = [name for name in COLUMNS if any(side[name] is not None for side in sides)]
    rows = [
        ["–" if side[name] is None else COLUMNS[name].format(side[name]) for name in shown]
        for side in sides
    ]
    header = [name.replace("_", " ") for name in shown]
    lines = [header, ["---"] * len(shown), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    if numbers["ratio"] is None:
        return table
    return f"{table}\n\nratio ({sides[1]['name']}'s time over ours): {numbers['ratio']:.2f}"
