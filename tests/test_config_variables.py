"""A variable of a base config that is assigned again without effect is named in a warning."""

import warnings
from pathlib import Path

import pytest

from srgan_plugin import config_path
from srgan_plugin.cli.config_variables import warn_of_unused_variables
from srgan_plugin.errors import PluginWarning

ROOT = Path(__file__).resolve().parent.parent
FINETUNE = "zoo_msrresnet_x4c64b16_cpu_finetune.py"


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "base",
    [f"'srgan_plugin::{FINETUNE}'", f"['{config_path(FINETUNE)}']", "'./between.py'"],
)
def test_each_variable_that_only_the_base_config_reads_is_named(tmp_path: Path, base: str) -> None:
    (tmp_path / "between.py").write_text(f"_base_ = '{config_path(FINETUNE)}'\n")
    text = f"_base_ = {base}\nmax_iters = 5\ntrain_pipeline = []\nlr = 1\nload_from = None\n"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warn_of_unused_variables(write(tmp_path, text))
    assert [one.category for one in seen] == [PluginWarning] * 2
    for one, name in zip(seen, ("max_iters", "train_pipeline"), strict=True):
        assert f"mine.py: {name} has no effect" in str(one.message)


def test_a_base_config_in_yaml_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("max_iters: 5\nnames: [a\n  , b]\n")
    warn_of_unused_variables(write(tmp_path, "_base_ = './base.yaml'\nmax_iters = 6\n"))


def test_variables_that_the_file_reads_itself_are_not_named(tmp_path: Path) -> None:
    text = "max_iters = 5\ntrain_cfg = dict(max_iters=max_iters)\n"
    path = write(tmp_path, f"_base_ = 'srgan_plugin::{FINETUNE}'\n{text}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_unused_variables(path)
        warn_of_unused_variables(write(tmp_path, f"_base_ = str('no_such.py')\n{text}"))


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "configs").glob("*.py")))
def test_no_config_of_this_package_has_one(name: str) -> None:
    path = ROOT / "configs" / name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_unused_variables(path)
