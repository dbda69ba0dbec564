"""JSON schema of the options, generated from the tables that `check_options` goes by.

`python -m srgan_plugin.hosts.basicsr.schema` prints it; `configs/basicsr/options.schema.json` is
its output.
"""

import inspect
import json
import re
import sys
from collections.abc import Iterable
from typing import Any

from basicsr.utils import registry

from srgan_plugin.data.degradation import DegradationParams

from . import options
from .archs import SUFFIX

Schema = dict[str, Any]
_OURS: Schema = {"properties": {"type": {"const": f"PairedImageDataset_{SUFFIX}"}}}


def options_schema() -> Schema:
    """Return the schema of a YAML file of options.

    The schema accepts the options that `check_options` accepts, including unknown ones, which a
    class of the user may read. Known options have a type, and classes with the suffix their
    arguments.
    """
    properties = {name: _kind(name) for name in _names("")}
    for section in filter(None, options.SECTIONS):
        known = {name: _kind(f"{section}.{name}") for name in _names(section)}
        properties[section] = {**_kind(section), "properties": known}
    train, val = properties["train"]["properties"], properties["val"]["properties"]
    for name, needed in (("optim_g", ["type"]), ("optim_d", []), ("scheduler", ["type"])):
        known = {key: _kind(f"train.optim_g.{key}") for key in ("lr", "betas")}
        train[name] |= {"required": needed, "properties": known}
    for name in ("pixel_opt", "perceptual_opt", "gan_opt"):
        train[name] |= _class_schema(registry.LOSS_REGISTRY)
    crop = {
        "type": _type_schema(registry.METRIC_REGISTRY),
        "crop_border": _kind("val.metrics.x.crop_border"),
    }
    val["metrics"]["additionalProperties"] = {
        "type": "object",
        "properties": crop,
        "required": ["type"],
    }
    properties["datasets"] |= _datasets()
    for name in ("network_g", "network_d"):
        properties[name] |= _class_schema(registry.ARCH_REGISTRY)
    properties["model_type"] |= _type_schema(registry.MODEL_REGISTRY)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Options of BasicSR with srgan_plugin",
        "type": "object",
        "required": [*options.REQUIRED],
        "properties": properties,
        "if": {"required": ["train"]},
        "then": _required_to_train(),
        "$defs": {"dataset": _dataset()},
    }


def _names(section: str) -> list[str]:
    return options.SECTIONS[section].split()


def _kind(name: str) -> Schema:
    """Return the schema of an option by its dotted name; empty where any value is accepted."""
    kind = options.expected_kind(name)
    return dict(kind.schema) if kind else {}


def _required_to_train() -> Schema:
    needed = options.REQUIRED_TO_TRAIN
    sections = {name: {"type": "object", "required": [*keys]} for name, keys in needed.items()}
    sections["val"] = {"required": [*options.REQUIRED_TO_VALIDATE]}
    return {"required": [*needed], "properties": sections}


def _datasets() -> Schema:
    training = {"$ref": "#/$defs/dataset", "if": _OURS, "then": {"required": ["gt_size"]}}
    return {
        "patternProperties": {"^train(_|$)": training},
        "additionalProperties": {"$ref": "#/$defs/dataset"},
    }


def _dataset() -> Schema:
    known = {name: _kind(f"datasets.x.{name}") for name in options.DATASET.split()}
    known["type"] = _type_schema(registry.DATASET_REGISTRY)
    degradation = _arguments(DegradationParams)
    del degradation["properties"]["type"]
    return {
        "type": "object",
        "properties": known,
        "required": ["type"],
        "if": _OURS,
        "then": {"required": ["dataroot_gt"], "properties": {"degradation": degradation}},
    }


def _type_schema(classes: Any) -> Schema:
    """Return the schema of a type: the names in a registry, which editors offer, or other text."""
    return {"anyOf": [{"enum": sorted(classes.keys())}, {"type": "string"}]}


def _class_schema(classes: Any) -> Schema:
    """Return the arguments by class, for classes with the suffix and their BasicSR namesakes."""
    ours = [name for name, _ in classes if name.endswith(f"_{SUFFIX}")]
    names = sorted(
        {*ours, *(bare for name in ours if (bare := name.removesuffix(f"_{SUFFIX}")) in classes)}
    )
    return {
        "required": ["type"],
        "properties": {"type": _type_schema(classes)},
        "allOf": [
            {"if": {"properties": {"type": {"const": name}}}, "then": _arguments(classes.get(name))}
            for name in names
        ],
    }


def _arguments(cls: Any) -> Schema:
    """Return the arguments of a class, with their types, defaults and descriptions."""
    parameters = inspect.signature(cls).parameters.values()
    named = [each for each in parameters if each.kind is not each.VAR_KEYWORD]
    texts = _descriptions(inspect.getdoc(cls) or "", (each.name for each in named))
    properties: dict[str, Schema] = {"type": {}}
    for each in named:
        kind = options.argument_kind(each)
        properties[each.name] = {**(kind.schema if kind else {}), **texts.get(each.name, {})}
        if isinstance(each.default, bool | int | float | str):
            properties[each.name]["default"] = each.default
    closed = {} if len(named) < len(parameters) else {"additionalProperties": False}
    return {"properties": properties, **closed}


def _descriptions(docstring: str, names: Iterable[str]) -> dict[str, Schema]:
    """Parse the descriptions of these names in a docstring's `Args`."""
    found = {}
    for name in names:
        text = re.search(rf"^ +{name}(?: \([^)]*\))?: (.+(?:\n {{6,}}\S.*)*)", docstring, re.M)
        if text:
            found[name] = {"description": " ".join(text[1].split())}
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(options_schema(), indent=1) + "\n")
