"""Our configs by prefix, and what is written about them for others to read."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

import srgan_plugin.registry  # noqa: F401 - what a launcher imports for the prefix
from srgan_plugin.metrics.reference_results import reference_results
from srgan_plugin.registry import resolve_our_prefix

ROOT = Path(__file__).resolve().parent.parent
LEAVES = sorted(path.name for path in (ROOT / "configs").glob("*.py"))


def config_of(folder: Path, text: str) -> Config:
    (folder / "config.py").write_text(text)
    return Config.fromfile(folder / "config.py")


@pytest.mark.parametrize("name", LEAVES)
def test_a_config_by_prefix_by_path_and_itself_are_the_same(tmp_path: Path, name: str) -> None:
    by_prefix = config_of(tmp_path, f"_base_ = 'srgan_plugin::{name}'\n")
    by_path = config_of(tmp_path, f"_base_ = __import__('srgan_plugin').config_path('{name}')\n")
    itself = Config.fromfile(ROOT / "configs" / name)
    assert by_prefix.to_dict() == by_path.to_dict() == itself.to_dict()


def test_mmengine_still_resolves_bases_where_we_listen() -> None:
    """When this fails mmengine has moved the method: only the prefix in `_base_` stops working."""
    assert getattr(Config._get_cfg_path, "knows_our_prefix", False)


def test_other_bases_are_left_to_mmengine(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text("a = 1\n")
    assert config_of(tmp_path, "_base_ = './base.py'\n").a == 1
    with pytest.raises(AssertionError, match="no_such_package"):
        config_of(tmp_path, "_base_ = 'no_such_package::x/y.py'\n")
    before = Config._get_cfg_path
    resolve_our_prefix()
    assert Config._get_cfg_path is before


def test_an_unknown_name_behind_our_prefix_is_answered_by_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'srgan\.py'.*bicubic_x4"):
        config_of(tmp_path, "_base_ = 'srgan_plugin::srgan.py'\n")


def test_without_mmengines_method_the_plugin_still_imports() -> None:
    check = (
        "from mmengine.config import Config\n"
        "del Config._get_cfg_path\n"
        "import srgan_plugin.registry\n"
        "assert not hasattr(Config, '_get_cfg_path')"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_the_metafile_names_configs_that_are_there_with_the_published_values() -> None:
    (imported,) = yaml.safe_load((ROOT / "model-index.yml").read_text())["Import"]
    meta = yaml.safe_load((ROOT / imported).read_text())
    collections = {collection["Name"]: collection for collection in meta["Collections"]}
    assert all((ROOT / collection["README"]).is_file() for collection in collections.values())
    for model in meta["Models"]:
        assert model["In Collection"] in collections
        assert model["Config"] == f"configs/{model['Name']}.py"
        row = Config.fromfile(ROOT / model["Config"]).get("reference_model")
        assert ("Weights" in model) == ("Results" in model) == bool(row)
        if row:
            assert re.fullmatch(rf"https://.*/{row}_\d{{8}}-[0-9a-f]{{8}}\.pth", model["Weights"])
        for result in model.get("Results", ()):
            for measure, value in result["Metrics"].items():
                assert reference_results(row, result["Dataset"])[measure].value == value


def test_the_readme_of_the_configs_names_each_of_them() -> None:
    text = (ROOT / "configs" / "README.md").read_text()
    assert [name for name in LEAVES if f"`{name}`" not in text] == []
