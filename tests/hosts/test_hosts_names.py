"""Which class a name means, under MMagic's scope and under ours, and what the log says of it."""

import logging
from types import ModuleType
from typing import Any

import pytest
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from srgan_plugin import config_path, networks
from srgan_plugin.registry import MODELS, UnknownNameError

pytestmark = pytest.mark.usefixtures("fresh_mmengine", "mmagic")
GENERATOR = {"type": "MSRResNet", "in_channels": 3, "out_channels": 3, "num_blocks": 1}


def built(scope: str, outer: str) -> Any:
    """A model of ours or MMagic's whose generator is named without a prefix."""
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(
            {"type": outer, "generator": dict(GENERATOR), "pixel_loss": {"type": "L1Loss"}}
        )


@pytest.mark.parametrize("scope", ["mmagic", "srgan_plugin"])
@pytest.mark.parametrize(
    ("outer", "package"),
    [("srgan_plugin.SRModel", "srgan_plugin"), ("mmagic.BaseEditModel", "mmagic")],
)
def test_a_name_without_a_prefix_belongs_to_the_part_it_stands_in(
    mmagic: ModuleType, scope: str, outer: str, package: str
) -> None:
    model = built(scope, outer)
    for part in (model, model.generator, model.pixel_loss, model.data_preprocessor):
        assert type(part).__module__.split(".")[0] in (package, "mmengine")
    assert type(model.generator).__module__.startswith(package)


def test_the_log_says_which_class_was_built(
    mmagic: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    MMLogger.get_instance("names", log_level=logging.INFO)
    built("mmagic", "srgan_plugin.SRModel")
    heard = capsys.readouterr()
    assert "MSRResNet is srgan_plugin.networks.generators.MSRResNet" in heard.out + heard.err


def test_a_name_that_neither_scope_knows_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"'MSRResNte'.*MSRResNet"):
        built_generator = {**GENERATOR, "type": "MSRResNte"}
        MODELS.build({"type": "srgan_plugin.SRModel", "generator": built_generator})


def test_a_config_that_does_not_exist_is_answered_with_those_that_do() -> None:
    with pytest.raises(FileNotFoundError, match=r"'srgna.py'.*srgan_x4c64"):
        config_path("srgna.py")


@pytest.mark.parametrize("name", ["SRResNet", "SRGANDiscriminator"])
def test_a_network_registered_once_is_in_both_toolboxes_registries(
    basicsr: ModuleType, name: str
) -> None:
    from basicsr.archs import build_network

    own = (networks.GENERATORS | networks.DISCRIMINATORS)[name]
    assert type(build_network({"type": f"{name}_srgan_plugin"})) is own
    assert type(MODELS.build({"type": f"srgan_plugin.{name}"})) is own
