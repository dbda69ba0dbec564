"""Format the numbers of a benchmark as a table and as JSON."""

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


def report(
    results: Sequence[Result], peak_flops: float | None, **conditions: Any
) -> dict[str, Any]:
    """Return all numbers of a benchmark, for JSON.

    Args:
        results: Results of this package, then of the other side, if there is one.
        peak_flops: Operations per second of the device in bfloat16; None if not measured.
        conditions: Name of the benchmark, model, other side and machine.

    Returns:
        The conditions, `sides` with medians and ranges, `peak_tflops`, and `ratio`: the time of the
        other side over that of this package.
    """
    sides = [result.summary(peak_flops) for result in results]
    first, *others = [side["ms_per_image"] for side in sides]
    return {
        **conditions,
        "peak_tflops": peak_flops / 1e12 if peak_flops else None,
        "sides": sides,
        "ratio": others[0] / first if others else None,
    }


def format_report(numbers: Mapping[str, Any]) -> str:
    """Format a report as a Markdown table, without columns of missing numbers."""
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
    names = f"time of {sides[1]['name']} over that of {sides[0]['name']}"
    return f"{table}\n\nratio ({names}): {numbers['ratio']:.2f}"
