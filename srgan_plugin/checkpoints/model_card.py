"""Write model cards of the Hugging Face hub: front matter in YAML, text in Markdown."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from srgan_plugin import __version__
from srgan_plugin.networks import Generator

LIBRARY = "srgan_plugin"
_METRICS = ("psnr", "ssim", "niqe", "lpips", "dists")


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Content of a card that cannot be read from the network.

    Attributes:
        license: Licence of the weights, by its identifier on the hub, such as `cc-by-sa-4.0`.
        name: Name of the model.
        datasets: Identifiers of the training datasets on the hub.
        results: {test set: {metric: value}}, as `tools/test.py --out` writes them.
        text: Additional text in Markdown, such as how the model was trained.
    """

    license: str
    name: str
    datasets: Sequence[str] = ()
    results: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    text: str = ""


def card_text(network: Generator, card: ModelCard, repo_id: str) -> str:
    """Return the model card: front matter in YAML and text in Markdown.

    Args:
        network: A generator of this package.
        card: Content of the model card.
        repo_id: `OWNER/NAME`, shown in the commands of the model card.
    """
    scale = network.upscale_factor
    count = sum(parameter.numel() for parameter in network.parameters())
    lines = [
        f"---\n{_front_matter(network, card)}\n---\n",
        f"# {card.name}\n",
        f"{type(network).__name__}, upscales RGB images {scale} times; {count:,} parameters.\n",
        _USE.replace("OWNER/NAME", repo_id),
        card.text.strip() + "\n" if card.text else "",
        _table(card.results),
        f"License: {card.license}. Written by {LIBRARY} {__version__}; `config.json` has the "
        "SHA-256 of the weights, which is verified on loading.\n",
    ]
    return "\n".join(filter(None, lines))


def _front_matter(network: Generator, card: ModelCard) -> str:
    import huggingface_hub

    results = [
        huggingface_hub.EvalResult(
            task_type="image-to-image",
            dataset_type=dataset.lower(),
            dataset_name=dataset,
            metric_type=_metric_type(metric),
            metric_name=metric,
            metric_value=value,
        )
        for dataset, metrics in card.results.items()
        for metric, value in metrics.items()
        if _metric_type(metric) and isinstance(value, int | float)
    ]
    kind, scale = type(network).__name__.lower(), network.upscale_factor
    data = huggingface_hub.ModelCardData(
        license=card.license,
        library_name=LIBRARY,
        pipeline_tag="image-to-image",
        tags=["super-resolution", "srgan", kind, f"x{scale}"],
        datasets=list(card.datasets) or None,
        metrics=sorted({result.metric_type for result in results}) or None,
        eval_results=results or None,
        model_name=card.name if results else None,
    )
    return str(data.to_yaml())


_USE = """\
```python
from srgan_plugin.checkpoints.huggingface import from_pretrained

network = from_pretrained("OWNER/NAME")     # images: (N, 3, H, W), RGB in [0, 1]
```

or `srgan-plugin upscale lr.png sr.png --model hf://OWNER/NAME`.
"""


def _metric_type(metric: str) -> str:
    """Return the identifier of a metric on the hub, such as "psnr" for PSNR_Y; '' if unknown."""
    found = re.match(r"[A-Za-z]+", metric)
    name = found[0].lower() if found else ""
    return name if name in _METRICS else ""


def _table(results: Mapping[str, Mapping[str, float]]) -> str:
    """Return the results as a table in Markdown with one row per test set."""
    columns = list(dict.fromkeys(name for metrics in results.values() for name in metrics))
    if not columns:
        return ""
    rows = [["", *columns], ["---"] * (len(columns) + 1)]
    rows += [
        [dataset, *(_format_number(metrics.get(name)) for name in columns)]
        for dataset, metrics in results.items()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _format_number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "–"
