"""Checkpoints made ready for others."""

import dataclasses
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from srgan_plugin.zoo.conversion import Conversion, convert


def publish(
    source: str | os.PathLike[str], target: str | os.PathLike[str], **options: Any
) -> Conversion:
    """Writes one network alone, under a name that closes with the digits of the file's SHA-256.

    Args:
        source: a checkpoint of any layout.
        target: `NAME.pth` or `NAME.safetensors`; the file becomes `NAME-xxxxxxxx.pth`.
        options: as for `convert`.

    Raises:
        FileNotFoundError: as for `convert`.
        ValueError: as for `convert`.
        OSError: as for `convert`.
    """
    target = Path(target)
    # Not to `target` itself: that may well be the source.
    unnamed = target.with_name(f".{target.stem}.{uuid.uuid4().hex}{target.suffix}")
    try:
        done = convert(source, unnamed, **options)
        path = target.with_name(f"{target.stem}-{done.sha256[:8]}{target.suffix}")
        return dataclasses.replace(done, path=unnamed.replace(path))
    finally:
        unnamed.unlink(missing_ok=True)


def metafile_entry(
    done: Conversion,
    *,
    name: str,
    config: str | None = None,
    results: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Describes a published file as a model of OpenMMLab's `metafile.yml`.

    Args:
        done: what `publish` returned.
        name: the model's.
        config: the config that trained it.
        results: measures by test set, as `tools/test.py --out` writes them.
    """
    arguments = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in done.source.arguments.items()
    }
    count = sum(parameter.numel() for parameter in done.source.build(assume=True).parameters())
    entry: dict[str, Any] = {
        "Name": name,
        "In Collection": "SRGAN",
        "Config": config,
        "Metadata": {
            "Architecture": [done.source.layout.network],
            "Arguments": arguments,
            "Parameters": count,
            "SHA-256": done.sha256,
        },
        "Results": [
            {"Task": "Image Super-Resolution", "Dataset": dataset, "Metrics": dict(measures)}
            for dataset, measures in (results or {}).items()
        ],
        "Weights": done.path.name,
    }
    return {key: value for key, value in entry.items() if value}
