"""Build the report page of runs: times and environment, curves, results, images and configs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from srgan_plugin.metrics.reference_results import MODELS, reference_results
from srgan_plugin.metrics.results_files import IMAGES, incomplete_sets
from srgan_plugin.metrics.tables import format_number

from .charts import charts
from .html import asset, page, table
from .runs import Run, checkpoints, differing_settings

Results = Mapping[str, Mapping[str, float]]

# Settings from the config: title, and names of the setting in mmengine and BasicSR.
_SETTINGS: Final = (
    ("network", ("model.generator.type", "network_g.type")),
    ("discriminator", ("model.discriminator.type", "network_d.type")),
    ("iterations", ("train_cfg.max_iters", "train.total_iter")),
    ("batch on each device", ("train_dataloader.batch_size", "datasets.train.batch_size_per_gpu")),
    (
        "training data",
        (
            "train_dataloader.dataset.gt",
            "train_dataloader.dataset.data_root",
            "datasets.train.dataroot_gt",
        ),
    ),
    ("weights at the start", ("load_from", "path.pretrain_network_g")),
)
_MAX_OPEN_ROWS: Final = 30  # a longer table of settings is collapsed


class Base(NamedTuple):
    """Reference config for the comparison of settings.

    Attributes:
        name: Name shown in the page.
        config: {dotted name: setting}.
    """

    name: str
    config: Mapping[str, object]


def run_page(
    runs: Sequence[Run],
    *,
    title: str,
    base: Base | None = None,
    results: Mapping[str, Results] | None = None,
    reference: Mapping[str, str] = MappingProxyType({}),
    images: Mapping[str, Any] | None = None,
) -> str:
    """Return the report of runs as one HTML page.

    Args:
        runs: Runs; their curves are overlaid.
        title: Title of the page, as plain text.
        base: Reference config for the comparison of settings.
        results: Additional results, {title: {test set: {metric: value}}}.
        reference: {name of a run: published model to compare with}; the key "" is for all other
            runs and results. Default: `reference_model` in the config of a run.
        images: Data of the image viewer, from `viewer_data`.
    """
    measured = dict(_results_of_runs(runs, reference)) | {
        name: (sets, reference.get("")) for name, sets in (results or {}).items()
    }
    parts = {
        "run": ("What ran", _info_table(runs) + _checkpoint_table(runs) if runs else ""),
        "curves": ("Curves", asset("curves.html") if any(run.curves for run in runs) else ""),
        "results": ("Results", _result_tables(measured)),
        "viewer": ("Images", asset("viewer.html") if images else ""),
        "config": ("Configuration", _config_section(runs, base)),
    }
    parts = {name: part for name, part in parts.items() if part[1]}
    data: dict[str, object] = {}
    if "curves" in parts:
        data["curves-data"] = {"runs": unique_names(runs), "charts": charts(runs)}
    if images:
        data["viewer-data"] = images
    return _page_of_sections(title, "Training report" if runs else "Comparison", parts, data)


def _page_of_sections(
    title: str, kind: str, parts: Mapping[str, tuple[str, str]], data: Mapping[str, object]
) -> str:
    """Return a page of sections with links to them at the top.

    Args:
        title: Title of the page, as plain text.
        kind: Kind of the page, shown above the title.
        parts: {id of a section: (title, HTML)}. HTML that begins with `<section` is not wrapped in
            another section.
        data: Data for the scripts, as in `page`.
    """
    links = "".join(f'<li><a href="#{name}">{words}</a></li>' for name, (words, _) in parts.items())
    made = datetime.now(timezone.utc)
    scripts = ["theme.js"]
    scripts += ["uplot.js", "curves.js"] if "curves" in parts else []
    scripts += ["viewer.js"] if "viewer" in parts else []
    body = [
        f'<header class="top"><div class="line"><p class="kind">{kind}</p>',
        f'<button type="button" id="theme">Theme</button></div><h1>{escape(title)}</h1>',
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header><main>',
        *(_section(name, *part) for name, part in parts.items()),
        f"</main><footer>Made by srgan_plugin on {made:%Y-%m-%d %H:%M} UTC. This file loads nothing"
        " from a network.</footer>",
    ]
    if "curves" in parts:
        body.append(f"<!--\nuPlot, which draws the curves:\n{asset('uplot.LICENSE')}-->")
    return page(
        title,
        "\n".join(body),
        style="\n".join(asset(name) for name in ("uplot.css", "report.css")),
        script="\n".join(asset(name) for name in scripts),
        data=data,
    )


def _section(name: str, title: str, html: str) -> str:
    if html.startswith("<section"):
        return html
    heading = f'<h2 id="{name}-title">{escape(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">{heading}{html}</section>'


def unique_names(runs: Sequence[Run]) -> list[str]:
    """Return the names of runs, with as many parent folders as make different names different."""
    names = [run.name for run in runs]
    parents = [run.folder.resolve().parent.parts for run in runs]
    for depth in range(1, max(map(len, parents), default=0) + 1):
        if len(set(names)) == len(names):
            break
        names = [
            "/".join((*parents[index][-depth:], run.name))
            if names.count(names[index]) > 1
            else names[index]
            for index, run in enumerate(runs)
        ]
    return names


def _info_table(runs: Sequence[Run]) -> str:
    # Logged values are first and override the config, because the `load_from` of a resumed run
    # is the checkpoint from which it was resumed.
    columns = [{"toolbox": run.toolbox, **run.info, **_settings(run), **run.info} for run in runs]
    titles = dict.fromkeys(title for column in columns for title in column if any(column.values()))
    rows = [[title, *(column.get(title, "–") for column in columns)] for title in titles]
    return table(["run", *unique_names(runs)], rows, "Runs", classes="words")


def _settings(run: Run) -> dict[str, str]:
    found = {}
    for title, names in _SETTINGS:
        value = next((run.config[name] for name in names if run.config.get(name)), None)
        if title == "weights at the start" and run.config.get("resume"):
            continue  # the checkpoint from which the run was resumed
        if value is not None:
            found[title] = str(value)
    return found


def _checkpoint_table(runs: Sequence[Run]) -> str:
    rows = [
        [name, path, f"{size / 1e6:.1f}", digest]
        for name, run in zip(unique_names(runs), runs, strict=True)
        for path, size, digest in ([] if run.is_single_log else checkpoints(run.folder))
    ]
    if not rows:
        return ""
    head, caption = ["run", "file", "MB", "SHA-256"], "Checkpoints: the last and the best"
    return table(head, rows, caption, classes="words hashes")


def _results_of_runs(
    runs: Sequence[Run], reference: Mapping[str, str]
) -> Iterator[tuple[str, tuple[Results, str | None]]]:
    """Yield the test results of each run; without test results, the last validation.

    Yields:
        (title, (results, published model to compare with)).
    """
    for name, run in zip(unique_names(runs), runs, strict=True):
        recorded = run.config.get("reference_model")
        given = reference.get(name) or reference.get("")
        model = given or (recorded if isinstance(recorded, str) and recorded in MODELS else None)
        # Published values are of x4; the scale of a BasicSR run or of a folder is not known here.
        is_x4 = run.config.get("model.generator.upscale_factor", 4) == 4
        model = model if is_x4 else None
        for file, sets in run.tests.items():
            yield f"{name}, {file}.json", (sets, model)
        if not run.tests and (found := _last_validation(run)):
            step, sets = found
            yield f"{name}, last validation, iteration {step}", (sets, model)


def _last_validation(run: Run) -> tuple[int, dict[str, dict[str, float]]] | None:
    curves = {name: curve for name, curve in run.curves.items() if "/" in name and name != "it/s"}
    if not any(curves.values()):
        return None
    last = max(max(curve) for curve in curves.values() if curve)
    sets: dict[str, dict[str, float]] = {}
    for name, curve in curves.items():
        dataset, _, metric = name.rpartition("/")
        if last in curve:
            sets.setdefault(dataset, {})[metric] = curve[last]
    for name in sets.keys() & run.image_counts.keys():
        sets[name][IMAGES] = run.image_counts[name]
    return last, sets


def _result_tables(measured: Mapping[str, tuple[Results, str | None]]) -> str:
    if not measured:
        return ""
    html = _measured_table([(title, sets) for title, (sets, _) in measured.items()])
    compared = [
        row for title, entry in measured.items() for row in _compare_with_published(title, *entry)
    ]
    if compared:
        head = ["results", "set", "metric", "published"]
        head += ["same protocol", "difference", "second protocol", "source"]
        caption = "Comparison with published values of this network, x4"
        html += table(head, compared, caption, text_columns=3)
        html += (
            '<p class="note">“Same protocol” is the metric with which the published value was '
            "measured, “second protocol” another metric for the same images. They compare at x4, "
            "with a border of 4 and rounding, which results do not show.</p>"
        )
    return html + "".join(f'<p class="note">{escape(note)}</p>' for note in _cautions(measured))


def _measured_table(measured: Sequence[tuple[str, Results]]) -> str:
    rows, metrics = (
        [],
        dict.fromkeys(
            name for _, sets in measured for row in sets.values() for name in row if name != IMAGES
        ),
    )
    for title, sets in measured:
        missing = _incomplete(sets)
        for name, row in sets.items():
            count = missing.get(name) or f"{row[IMAGES]:g}" if IMAGES in row else "–"
            numbers = (_format_metric(row.get(metric)) for metric in metrics)
            rows.append([title, name, count.removesuffix(" images"), *numbers])
    return table(["results", "set", "images", *metrics], rows, "Measured", text_columns=2)


def _incomplete(sets: Results) -> dict[str, str]:
    return incomplete_sets({name: int(row[IMAGES]) for name, row in sets.items() if IMAGES in row})


def _cautions(measured: Mapping[str, tuple[Results, str | None]]) -> Iterator[str]:
    """Yield notes on test sets that are incomplete and on results without image counts."""
    missing = [
        f"{name} ({text}; {title})"
        for title, (sets, _) in measured.items()
        for name, text in _incomplete(sets).items()
    ]
    if missing:
        yield f"Incomplete, so not compared with published values: {', '.join(missing)}."
    unknown = dict.fromkeys(
        title
        for title, (sets, model) in measured.items()
        for name, row in sets.items()
        if model and IMAGES not in row and reference_results(model, name)
    )
    if unknown:
        yield (
            "Published values are means over complete test sets; the number of images is "
            f"unknown for: {', '.join(unknown)}."
        )


def _compare_with_published(title: str, sets: Results, model: str | None) -> Iterator[list[str]]:
    """Yield a row for each published value of the complete test sets."""
    missing = _incomplete(sets)
    for name, row in sets.items():
        if not model or name in missing:
            continue
        for metric, entry in reference_results(model, name).items():
            same = row.get(entry.metric) if entry.metric else None
            second = row.get(entry.second_metric) if entry.second_metric else None
            change = None if same is None else same - entry.value
            numbers = [
                _format_metric(entry.value),
                _format_metric(same),
                _format_metric(change, "+"),
                _format_metric(second),
            ]
            yield [title, name, metric, *numbers, entry.table.source.partition(",")[0]]


def _format_metric(value: float | None, sign: str = "") -> str:
    """Format a value with four significant digits or more, such as a PSNR or an SSIM."""
    digits = 3 if value is not None and abs(value) >= 2 else 4
    return format_number(value, f"{sign}.{digits}f")


def _config_section(runs: Sequence[Run], base: Base | None) -> str:
    html, named = "", list(zip(unique_names(runs), runs, strict=True))
    for toolbox in dict.fromkeys(run.toolbox for run in runs):  # settings have names of a toolbox
        configs: dict[str, Mapping[str, object]] = {}
        if base and toolbox == "mmengine":
            configs[base.name] = base.config
        configs |= {n: run.config for n, run in named if run.toolbox == toolbox and run.config}
        if len(configs) > 1:
            html += _difference_table(configs)
    for name, run in named:
        if run.config_text:
            summary = f"{name}: {run.config_name or 'the whole config'}"
            html += f"<details><summary>{escape(summary)}</summary>"
            html += f'<pre tabindex="0">{escape(run.config_text)}</pre></details>'
    return html


def _difference_table(configs: Mapping[str, Mapping[str, object]]) -> str:
    """Return a table of the settings in which configs differ from the first one."""
    sides = list(configs.values())
    names = sorted(set().union(*(differing_settings(sides[0], other) for other in sides[1:])))
    rows = [
        [name, *(repr(side[name]) if name in side else "–" for side in sides)] for name in names
    ]
    first = next(iter(configs))
    caption = f"Settings that differ from {first}" if rows else f"No setting differs from {first}"
    html = table(["setting", *configs], rows, caption, classes="words code")
    if len(rows) <= _MAX_OPEN_ROWS:
        return html
    summary = f"{len(rows)} settings differ from {escape(first)}"
    return f"<details><summary>{summary}</summary>{html}</details>"
