"""Model cards of the Hugging Face hub: front matter in YAML, and a text in Markdown."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from srgan_plugin import __version__
from srgan_plugin.networks import Generator

LIBRARY = "srgan_plugin"
_METRICS = ("psnr", "ssim", "niqe", "lpips", "dists")


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What the card states, none of which a network shows.

    Attributes:
        license: Of the weights, as the hub calls it, such as `cc-by-sa-4.0`.
        name: Of the model.
        datasets: It was trained on, by their names on the hub.
        results: For each test set its measures by name, as `tools/test.py --out` writes them.
        text: Of the card, in Markdown, such as how it was trained.
    """

    license: str
    name: str
    datasets: Sequence[str] = ()
    results: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    text: str = ""


def card_text(network: Generator, card: ModelCard, repo_id: str) -> str:
    """Return the card in Markdown, with its front matter in YAML.

    Args:
        network: One of our generators.
        card: What is stated of it.
        repo_id: Of the repository, for the lines that people copy.
    """
    import huggingface_hub

    scale = network.upscale_factor
    results = [
        huggingface_hub.EvalResult(
            task_type="image-to-image",
            dataset_type=dataset.lower(),
            dataset_name=dataset,
            metric_type=_metric(measure),
            metric_name=measure,
            metric_value=value,
        )
        for dataset, measures in card.results.items()
        for measure, value in measures.items()
        if _metric(measure) and isinstance(value, int | float)
    ]
    data = huggingface_hub.ModelCardData(
        license=card.license,
        library_name=LIBRARY,
        pipeline_tag="image-to-image",
        tags=["super-resolution", "srgan", type(network).__name__.lower(), f"x{scale}"],
        datasets=list(card.datasets) or None,
        metrics=sorted({result.metric_type for result in results}) or None,
        eval_results=results or None,
        model_name=card.name if results else None,
    )
    count = sum(parameter.numel() for parameter in network.parameters())
    lines = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {card.name}\n",
        f"{type(network).__name__}, upscales RGB images {scale} times; {count:,} parameters.\n",
        _USE.replace("OWNER/NAME", repo_id),
        card.text.strip() + "\n" if card.text else "",
        _table(card.results),
        f"License: {card.license}. Written by {LIBRARY} {__version__}; `config.json` has the "
        "SHA-256 of the weights, which is verified on loading.\n",
    ]
    return "\n".join(filter(None, lines))


_USE = """\
```python
from srgan_plugin.checkpoints.huggingface import from_pretrained

network = from_pretrained("OWNER/NAME")     # images: (N, 3, H, W), RGB in [0, 1]
```

or `srgan-plugin upscale lr.png sr.png --model hf://OWNER/NAME`.
"""


def _metric(measure: str) -> str:
    """Return the hub's name of a measure; empty if there is none."""
    found = re.match(r"[A-Za-z]+", measure)
    name = found[0].lower() if found else ""
    return name if name in _METRICS else ""


def _table(results: Mapping[str, Mapping[str, float]]) -> str:
    columns = list(dict.fromkeys(name for measures in results.values() for name in measures))
    if not columns:
        return ""
    rows = [["", *columns], ["---"] * (len(columns) + 1)]
    rows += [
        [dataset, *(_number(measures.get(name)) for name in columns)]
        for dataset, measures in results.items()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "–"
