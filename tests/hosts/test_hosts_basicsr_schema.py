"""The JSON schema of BasicSR's options accepts and refuses what the tools do."""

import json
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from srgan_plugin.errors import UserError
from tests.conftest import ROOT

jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema (requirements/tests.txt)")

SCHEMA = ROOT / "configs/basicsr/options.schema.json"
FILES = sorted((ROOT / "configs/basicsr").glob("*.yml"))
DELETE = object()
# Option, wrong value.
REFUSED: list[tuple[str, Any]] = [
    *[
        (name, DELETE)
        for name in ("name", "model_type", "num_gpu", "datasets", "network_g", "path")
    ],
    *[(f"train.{name}", DELETE) for name in ("total_iter", "optim_g", "scheduler")],
    *[("logger.print_freq", DELETE), ("datasets.train", DELETE), ("network_g.type", DELETE)],
    *[("datasets.train.gt_size", DELETE), ("datasets.val.dataroot_gt", DELETE)],
    *[
        ("scale", "4"),
        ("scale", 2.5),
        ("scale", 0),
        ("train.optim_d.betas", [0.9, 1]),
        ("num_gpu", "all"),
        ("datasets", []),
        ("network_g", None),
    ],
    *[("train.total_iter", "1e5"), ("train.optim_g.lr", "1e-4"), ("train.pixel_opt", "L1Loss")],
    *[("val.metrics.psnr.crop_border", 0.5), ("datasets.train.gt_size", "128")],
    *[("network_g.num_feats", 64), ("network_g.num_feat", "64"), ("network_d.feat", 1)],
    *[("train.gan_opt.loss_weight", "1"), ("train.perceptual_opt.use_input_norm", 1)],
    *[("train.pixel_opt.weigth", 1.0), ("val.metrics.psnr.type", DELETE)],
]
ACCEPTED: list[tuple[str, Any]] = [
    *[("num_gpu", 2), ("manual_seed", None), ("train.total_iter", 4e5), ("val", None)],
    *[("network_g.type", "SRResNet_srgan_plugin"), ("a_key_of_mine", {"x": [1]})],
    *[("train.my_opt_weight", 1), ("logger.wandb", None), ("datasets.val_2", "COPY OF val")],
]


def with_value(opt: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return options with one of them changed or deleted."""
    changed = deepcopy(opt)
    *sections, key = name.split(".")
    node = changed
    for section in sections:
        node = node[section]
    if value is DELETE:
        del node[key]
    else:
        node[key] = deepcopy(opt["datasets"]["val"]) if value == "COPY OF val" else value
    if name == "network_g.type":
        for argument in ("num_in_ch", "num_out_ch", "num_feat", "num_block", "upscale"):
            node.pop(argument, None) if value is not DELETE else None
    return changed


def accepted_by_the_tools(opt: dict[str, Any]) -> bool:
    from srgan_plugin.hosts.basicsr.options import check_options

    try:
        check_options(opt)
    except UserError:
        return False
    return True


def accepted_by_the_schema(opt: dict[str, Any]) -> bool:
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    return bool(validator.is_valid(opt))


@pytest.fixture
def srgan(basicsr: ModuleType) -> dict[str, Any]:
    opt: dict[str, Any] = yaml.safe_load((ROOT / "configs/basicsr/train_srgan_x4.yml").read_text())
    return opt


def without_descriptions(schema: Any) -> Any:
    """Drop what docstrings say, whose wording may change without the file."""
    if isinstance(schema, list):
        return [without_descriptions(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: without_descriptions(value)
        for key, value in schema.items()
        if not (key == "description" and isinstance(value, str))
    }


def test_the_file_is_what_the_code_accepts(basicsr: ModuleType) -> None:
    from srgan_plugin.hosts.basicsr.schema import options_schema

    jsonschema.Draft202012Validator.check_schema(options_schema())
    again = "python -m srgan_plugin.hosts.basicsr.schema > configs/basicsr/options.schema.json"
    stored, generated = json.loads(SCHEMA.read_text()), options_schema()
    assert "description" in json.dumps(stored)
    assert without_descriptions(stored) == without_descriptions(generated), f"run: {again}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_of_options_names_the_schema_and_is_valid(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=options.schema.json\n")
    assert accepted_by_the_schema(yaml.safe_load(text))


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_a_wrong_option_is_refused_by_both(srgan: dict[str, Any], name: str, value: Any) -> None:
    wrong = with_value(srgan, name, value)
    assert (accepted_by_the_tools(wrong), accepted_by_the_schema(wrong)) == (False, False)


@pytest.mark.parametrize(("name", "value"), ACCEPTED)
def test_a_right_option_is_accepted_by_both(srgan: dict[str, Any], name: str, value: Any) -> None:
    right = with_value(srgan, name, value)
    assert (accepted_by_the_tools(right), accepted_by_the_schema(right)) == (True, True)


def test_options_of_a_test_are_not_required_to_train(basicsr: ModuleType) -> None:
    opt = yaml.safe_load((ROOT / "configs/basicsr/test_msrresnet_x4.yml").read_text())
    assert "train" not in opt
    assert (accepted_by_the_tools(opt), accepted_by_the_schema(opt)) == (True, True)
