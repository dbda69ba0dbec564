"""The page of runs: what ran, curves, results beside published ones, images, configs."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from srgan_plugin.metrics.reference_results import MODELS, reference_results
from srgan_plugin.metrics.results_files import IMAGES, incomplete_sets

from .charts import charts
from .html import asset, page, table
from .runs import Run, checkpoints, difference

Results = Mapping[str, Mapping[str, float]]

# Facts that a config states: title, the setting of mmengine or of BasicSR.
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


_FOLDED: Final = 30  # rows of settings; more are folded


class Base(NamedTuple):
    """The config that others are compared with."""

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
    """Return the page of runs, one HTML file that loads nothing.

    Args:
        runs: The runs; curves are overlaid.
        title: Plain text.
        base: What the configs are compared with.
        results: More results by title: for each test set, its measures.
        reference: The published model to compare with by a run's name, of all others by "";
            by default what each run's config says.
        images: What `viewer_data` returns.
    """
    measured = dict(_results(runs, reference)) | {
        name: (sets, reference.get("")) for name, sets in (results or {}).items()
    }
    parts = {
        "run": ("What ran", _what_ran(runs) + _checkpoint_table(runs) if runs else ""),
        "curves": ("Curves", asset("curves.html") if any(run.curves for run in runs) else ""),
        "results": ("Results", _result_tables(measured)),
        "viewer": ("Images", asset("viewer.html") if images else ""),
        "config": ("Configuration", _config_section(runs, base)),
    }
    parts = {name: part for name, part in parts.items() if part[1]}
    data: dict[str, object] = {}
    if "curves" in parts:
        data["curves-data"] = {"runs": names_of(runs), "charts": charts(runs)}
    if images:
        data["viewer-data"] = images
    return report_page(title, "Training report" if runs else "Comparison", parts, data)


def report_page(
    title: str, kind: str, parts: Mapping[str, tuple[str, str]], data: Mapping[str, object]
) -> str:
    """Return a page of sections with a list of them at its top.

    Args:
        title: Plain text.
        kind: What the page is, in a word or two.
        parts: By id, title and HTML; an asset's HTML is a section of that id itself.
        data: What the scripts of assets find.
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


def names_of(runs: Sequence[Run]) -> list[str]:
    """Return the names of runs; of those that share one, the folder above is named, too."""
    names = [run.name for run in runs]
    return [
        run.name if names.count(run.name) == 1 else f"{run.folder.resolve().parent.name}/{run.name}"
        for run in runs
    ]


def _what_ran(runs: Sequence[Run]) -> str:
    # What the log says comes before what the config does, which names the last go's checkpoint.
    columns = [{"toolbox": run.toolbox, **run.facts, **_settings(run), **run.facts} for run in runs]
    titles = dict.fromkeys(title for column in columns for title in column if any(column.values()))
    rows = [[title, *(column.get(title, "–") for column in columns)] for title in titles]
    return table(["run", *names_of(runs)], rows, "Runs", kind="words")


def _settings(run: Run) -> dict[str, str]:
    found = {}
    for title, names in _SETTINGS:
        value = next((run.config[name] for name in names if run.config.get(name)), None)
        if title == "weights at the start" and run.config.get("resume"):
            continue  # the config has what the last go resumed from
        if value is not None:
            found[title] = str(value)
    return found


def _checkpoint_table(runs: Sequence[Run]) -> str:
    rows = [
        [name, path, f"{size / 1e6:.1f}", digest]
        for name, run in zip(names_of(runs), runs, strict=True)
        for path, size, digest in checkpoints(run.folder)
    ]
    head = ["run", "file", "MB", "SHA-256"]
    return (
        table(head, rows, "Checkpoints: the last and the best", kind="words hashes") if rows else ""
    )


def _results(
    runs: Sequence[Run], reference: Mapping[str, str]
) -> Iterator[tuple[str, tuple[Results, str | None]]]:
    """Yield a title, the results, and what was published: of tests, else the last validation."""
    for name, run in zip(names_of(runs), runs, strict=True):
        stated = run.config.get("reference_model")
        given = reference.get(name) or reference.get("")
        known = given or (stated if isinstance(stated, str) and stated in MODELS else None)
        for file, sets in run.tests.items():
            yield f"{name}, {file}.json", (sets, known)
        if not run.tests and (found := _last_validation(run)):
            step, sets = found
            yield f"{name}, last validation, iteration {step}", (sets, known)


def _last_validation(run: Run) -> tuple[int, dict[str, dict[str, float]]] | None:
    curves = {name: curve for name, curve in run.curves.items() if "/" in name and name != "it/s"}
    if not any(curves.values()):
        return None
    last = max(max(curve) for curve in curves.values() if curve)
    sets: dict[str, dict[str, float]] = {}
    for name, curve in curves.items():
        dataset, _, measure = name.rpartition("/")
        if last in curve:
            sets.setdefault(dataset, {})[measure] = curve[last]
    for name in sets.keys() & run.image_counts.keys():
        sets[name][IMAGES] = run.image_counts[name]
    return last, sets


def _result_tables(measured: Mapping[str, tuple[Results, str | None]]) -> str:
    if not measured:
        return ""
    rows, columns = (
        [],
        dict.fromkeys(
            m for sets, _ in measured.values() for row in sets.values() for m in row if m != IMAGES
        ),
    )
    for title, (sets, _) in measured.items():
        missing = _incomplete(sets)
        for name, row in sets.items():
            count = missing.get(name) or f"{row[IMAGES]:g}" if IMAGES in row else "–"
            numbers = (_number(row.get(measure)) for measure in columns)
            rows.append([title, name, count.removesuffix(" images"), *numbers])
    html = table(["results", "set", "images", *columns], rows, "Measured", texts=2)
    compared = [row for title, entry in measured.items() for row in _published(title, *entry)]
    if compared:
        head = ["results", "set", "measure", "published"]
        head += ["same protocol", "difference", "proper protocol", "source"]
        html += table(head, compared, "Beside what was published for this network, x4", texts=3)
        html += (
            '<p class="note">“Same protocol” is the measure that made the published value, “proper '
            "protocol” the one that the table says it shows.</p>"
        )
    return html + "".join(f'<p class="note">{escape(note)}</p>' for note in _cautions(measured))


def _incomplete(sets: Results) -> dict[str, str]:
    return incomplete_sets({name: int(row[IMAGES]) for name, row in sets.items() if IMAGES in row})


def _cautions(measured: Mapping[str, tuple[Results, str | None]]) -> Iterator[str]:
    """Yield which sets are not compared, and of which it is not known whether they are complete."""
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
            "Published values are of complete test sets; of how many images these are, their files "
            f"do not say: {', '.join(unknown)}."
        )


def _published(title: str, sets: Results, model: str | None) -> Iterator[list[str]]:
    missing = _incomplete(sets)
    for name, row in sets.items() if model else ():
        if name in missing:
            continue
        for function, entry in reference_results(model or "", name).items():
            same = row.get(entry.metric) if entry.metric else None
            proper = row.get(entry.right) if entry.right else None
            change = None if same is None else same - entry.value
            numbers = [_number(entry.value), _number(same), _number(change, "+"), _number(proper)]
            yield [title, name, function, *numbers, entry.table.source.partition(",")[0]]


def _number(value: float | None, sign: str = "") -> str:
    if value is None:
        return "–"
    return f"{value:{sign}.3f}" if abs(value) >= 2 else f"{value:{sign}.4f}"


def _config_section(runs: Sequence[Run], base: Base | None) -> str:
    html, known = "", list(zip(names_of(runs), runs, strict=True))
    for toolbox in dict.fromkeys(run.toolbox for run in runs):  # whose settings have other names
        configs: dict[str, Mapping[str, object]] = {}
        if base and toolbox == "mmengine":
            configs[base.name] = base.config
        configs |= {n: run.config for n, run in known if run.toolbox == toolbox and run.config}
        if len(configs) > 1:
            html += _difference_table(configs)
    for name, run in zip(names_of(runs), runs, strict=True):
        if run.config_text:
            summary = f"{name}: {run.config_name or 'the whole config'}"
            html += f"<details><summary>{escape(summary)}</summary>"
            html += f'<pre tabindex="0">{escape(run.config_text)}</pre></details>'
    return html


def _difference_table(configs: Mapping[str, Mapping[str, object]]) -> str:
    """Return the settings in which configs differ from the first of them."""
    sides = list(configs.values())
    names = sorted({name for other in sides[1:] for name in difference(sides[0], other)})
    rows = [
        [name, *(repr(side[name]) if name in side else "–" for side in sides)] for name in names
    ]
    first = next(iter(configs))
    caption = f"Settings that differ from {first}" if rows else f"No setting differs from {first}"
    html = table(["setting", *configs], rows, caption, kind="words code")
    if len(rows) <= _FOLDED:
        return html
    summary = f"{len(rows)} settings differ from {escape(first)}"
    return f"<details><summary>{summary}</summary>{html}</details>"
