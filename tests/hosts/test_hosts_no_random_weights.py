"""No path by which weights load ends with random ones and without a word."""

import copy
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from srgan_plugin.checkpoints import load_generator_weights
from srgan_plugin.checkpoints.layouts import CodeBase, find_layout
from srgan_plugin.errors import UserError
from srgan_plugin.hosts.mmengine.models.sr_model import SRModel
from srgan_plugin.networks import MSRResNet, SRResNet
from srgan_plugin.registry import MODEL_WRAPPERS, MODELS

pytestmark = pytest.mark.usefixtures("fresh_mmengine")
SMALL = {"mid_channels": 4, "num_blocks": 2}
GENERATOR = {"type": "MSRResNet", "in_channels": 3, "out_channels": 3, **SMALL}


def trained(**options: Any) -> MSRResNet:
    """A network whose weights no construction draws."""
    torch.manual_seed(99)
    return MSRResNet(**{**SMALL, **options})


def of_code_base(name: CodeBase, network: nn.Module) -> dict[str, Tensor]:
    layout = find_layout("MSRResNet", name)
    assert layout is not None
    return layout.from_plugin_keys(network.state_dict())


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: weight for key, weight in state.items()}


STATE = trained().state_dict()
# What lies around, all of it the same network.
FILES: dict[str, Any] = {
    "bare": STATE,
    "MMagic's": {"state_dict": prefixed(STATE, "generator."), "meta": {}},
    "of data parallel training": {"state_dict": prefixed(STATE, "module.generator.")},
    "plain torch's": {"model": STATE, "epoch": 3},
    "BasicSR's wrapping": {"params": STATE},
    "averaged": {"state_dict": prefixed(STATE, "generator_ema.")},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("files")
    paths = {name: folder / f"{number}.pth" for number, name in enumerate(FILES)}
    for name, path in paths.items():
        torch.save(FILES[name], path)
    save_file(STATE, folder / "bare.safetensors")
    return {**paths, "safetensors": folder / "bare.safetensors"}


def same(network: nn.Module, state: dict[str, Tensor] = STATE) -> bool:
    own = network.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[key], state[key]) for key in state)


def ours() -> Any:
    return MODELS.build({"type": "srgan_plugin.SRModel", "generator": dict(GENERATOR)})


def theirs_with(generator: str) -> Callable[[], Any]:
    def build() -> Any:
        pixel_loss = {"type": "mmagic.L1Loss"}
        config = {"generator": {**GENERATOR, "type": generator}, "pixel_loss": pixel_loss}
        return MODELS.build({"type": "mmagic.BaseEditModel", **config})

    return build


BUILDS = {
    "our model": ours,
    "MMagic's model": theirs_with("mmagic.MSRResNet"),
    "MMagic's model with our network": theirs_with("srgan_plugin.MSRResNet"),
}


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("name", [*FILES, "safetensors"])
def test_a_model_has_the_weights_of_any_file_that_mmengine_loads_into_it(
    mmagic: ModuleType, files: dict[str, Path], name: str, build: str
) -> None:
    model = BUILDS[build]()
    load_checkpoint(model, str(files[name]), map_location="cpu")
    assert same(model.generator)


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("keys", [[(r"^", "generator.")], [(r"^.*$", r"x.\g<0>")]])
def test_revised_keys_load_whole_or_are_refused(
    mmagic: ModuleType, files: dict[str, Path], build: str, keys: list[tuple[str, str]]
) -> None:
    model = BUILDS[build]()
    if keys[0][1] == "generator.":
        load_checkpoint(model, str(files["bare"]), revise_keys=keys)
        assert same(model.generator)
        return
    with pytest.raises(ValueError, match=r"MSRResNet x4.*x\.conv_first\.weight"):
        load_checkpoint(model, str(files["bare"]), revise_keys=keys)


@pytest.mark.parametrize("build", BUILDS)
def test_weights_of_another_width_are_refused_by_both_values(
    mmagic: ModuleType, tmp_path: Path, build: str
) -> None:
    torch.save(trained(mid_channels=8).state_dict(), tmp_path / "wide.pth")
    with pytest.raises(ValueError, match=r"4 features.*8 features.*mid_channels=8"):
        load_checkpoint(BUILDS[build](), str(tmp_path / "wide.pth"))


@pytest.mark.parametrize("cls", [MSRResNet, SRResNet])
@pytest.mark.parametrize("name", ["MMagic's", "BasicSR's wrapping", "of data parallel training"])
def test_a_bare_network_refuses_a_file_of_which_nothing_would_reach_it(
    files: dict[str, Path], name: str, cls: type[nn.Module]
) -> None:
    with pytest.raises(ValueError, match=rf"{cls.__name__}.* 0 "):
        load_checkpoint(cls(**SMALL), str(files[name]))


@pytest.mark.parametrize("name", ["basicsr", "kair"])
def test_a_bare_network_refuses_other_keys_of_which_some_are_its_own(
    tmp_path: Path, name: str
) -> None:
    torch.save(of_code_base(name, trained()), tmp_path / "x.pth")
    network = MSRResNet(**SMALL, activate_after_shuffle=True)
    with pytest.raises(ValueError, match="load_generator_weights"):
        load_checkpoint(network, str(tmp_path / "x.pth"))
    load_generator_weights(network, tmp_path / "x.pth")  # as the message says
    assert same(network)


def test_a_start_from_another_scale_stays_possible_where_the_user_asks_for_it() -> None:
    """As in BasicSR's own options for x2 and x3: `strict_load_g: false`."""
    source = trained(num_blocks=16, upscale_factor=4)
    for scale in (2, 3):
        network = MSRResNet(mid_channels=4, num_blocks=16, upscale_factor=scale)
        own = network.state_dict()
        fit = {k: w for k, w in source.state_dict().items() if k in own and w.shape == own[k].shape}
        network.load_state_dict(fit, strict=False)
        assert torch.equal(network.trunk_net[0].conv1.weight, source.trunk_net[0].conv1.weight)


def test_the_guard_outlives_copies_and_pickles() -> None:
    network = trained()
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        other.load_state_dict(STATE)
        with pytest.raises(ValueError, match=r"MSRResNet.* 0 .*\bx\b"):
            other.load_state_dict({"x": torch.ones(1)}, strict=False)


@pytest.mark.parametrize("part", ["conv_last.", "lora_", "no generator"])
def test_a_part_that_fits_loads_with_a_warning_of_how_much_it_is(part: str) -> None:
    source, model = nn.ModuleDict({"g": trained()}), nn.ModuleDict({"g": MSRResNet(**SMALL)})
    for network in (source.g, model.g):
        network.conv_hr.register_parameter("lora_a", nn.Parameter(torch.rand(2)))
    state = {key: weight for key, weight in source.state_dict().items() if part in key}
    own = len(source.state_dict())
    with pytest.warns(UserWarning, match=rf"\b{own}\b.*\b{len(state)}\b"):
        model.load_state_dict({**state, "d.weight": torch.ones(1)}, strict=False)
    assert all(torch.equal(model.state_dict()[key], state[key]) for key in state)


@pytest.mark.parametrize("prefix", [None, "generator"])
def test_pretrained_of_init_cfg_is_what_training_begins_with(
    files: dict[str, Path], prefix: str | None
) -> None:
    checkpoint = str(files["MMagic's" if prefix else "bare"])
    init = {"type": "Pretrained", "checkpoint": checkpoint, "prefix": prefix}
    model = MODELS.build(
        {
            "type": "srgan_plugin.SRModel",
            "generator": dict(GENERATOR),
            "init_cfg": init,
            "ema": {"decay": 0.9},
        }
    )
    model.init_weights()
    assert same(model.generator)
    assert same(model.generator_ema)


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    logger = MMLogger.get_instance("random weights", log_level=logging.INFO)
    logger.addHandler(caplog.handler)
    return caplog


def predict(model: Any) -> None:
    model.eval().test_step({"inputs": [torch.zeros(3, 8, 8, dtype=torch.uint8)]})


def test_a_prediction_from_random_weights_is_said_once(heard: pytest.LogCaptureFixture) -> None:
    model = ours()
    predict(model)
    predict(model)
    assert heard.text.count("RANDOM weights") == 1


@pytest.mark.parametrize("how", ["model", "generator", "module", "trained", "bicubic"])
def test_nothing_is_said_of_weights_that_came_from_somewhere(
    files: dict[str, Path], heard: pytest.LogCaptureFixture, how: str
) -> None:
    model = ours()
    if how == "model":
        load_checkpoint(model, str(files["bare"]))
    elif how == "generator":
        load_generator_weights(model.generator, files["bare"])
    elif how == "module":
        model = SRModel(trained())  # type: ignore[arg-type]
    elif how == "trained":
        model.init_weights()
    else:
        model = SRModel({"type": "Bicubic"})
    predict(model)
    assert "RANDOM" not in heard.text


def test_an_average_without_weights_is_said_to_predict_from_random_ones(
    files: dict[str, Path], heard: pytest.LogCaptureFixture
) -> None:
    config = {**GENERATOR, "type": "srgan_plugin.MSRResNet"}
    model = SRModel(config, ema={"decay": 0.9})
    load_generator_weights(model.generator, files["bare"])
    predict(model)
    assert heard.text.count("RANDOM weights") == 1
    model = SRModel(config, ema={"decay": 0.9})
    for network in (model.generator, model.generator_ema):
        load_generator_weights(network, files["bare"])
    predict(model)
    assert heard.text.count("RANDOM weights") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"ema": 0.999}, "model.ema: expected dict"),
        ({"ema": {"decay": "0.9"}}, "model.ema: expected dict"),
        ({"ema": {"decay": None}}, "model.ema: expected dict"),
        ({"compile": "default"}, "model.compile: expected True, False or dict"),
        ({"compile": None}, "model.compile: expected True, False or dict"),
        ({"generator": {}}, "model.generator: expected dict"),
    ],
)
def test_an_argument_of_another_form_is_named(arguments: dict[str, Any], said: str) -> None:
    generator = {**GENERATOR, "type": "srgan_plugin.MSRResNet"}
    with pytest.raises(UserError, match=said):
        SRModel(**{"generator": generator, **arguments})
    with pytest.raises(UserError, match=r"mode: expected .*loss.*'Loss'"):
        ours()(torch.zeros(1, 3, 8, 8), mode="Loss")


def gan(scope: str, **discriminator: Any) -> Any:
    networks = {
        "generator": {**GENERATOR, "type": "srgan_plugin.MSRResNet"},
        "discriminator": {
            "type": "srgan_plugin.ModifiedVGG",
            "in_channels": 3,
            "mid_channels": 2,
            **discriminator,
        },
    }
    losses = {"pixel_loss": {"type": "srgan_plugin.L1Loss"}, "gan_loss": None}
    return MODELS.build({"type": f"{scope}.SRGAN", **networks, **losses})


def test_a_discriminator_of_another_kind_is_named_with_both(
    tmp_path: Path, heard: pytest.LogCaptureFixture
) -> None:
    torch.save({"state_dict": gan("srgan_plugin").state_dict()}, tmp_path / "x.pth")
    model = gan("srgan_plugin", mid_channels=4)
    before = copy.deepcopy(model.discriminator.state_dict())
    load_checkpoint(model, str(tmp_path / "x.pth"))
    assert "expected discriminator ModifiedVGG (4 features, input 128)" in heard.text
    assert "the checkpoint holds discriminator ModifiedVGG (2 features, input 128)" in heard.text
    assert same(model.discriminator, before)


@pytest.mark.parametrize("scope", ["mmagic", "srgan_plugin"])
def test_both_networks_of_a_gan_load_where_each_has_a_wrapper_for_several_processes(
    mmagic: ModuleType, tmp_path: Path, scope: str
) -> None:
    source = gan(scope)
    torch.save({"state_dict": source.state_dict()}, tmp_path / "x.pth")
    model = gan(scope)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        MODEL_WRAPPERS.build({"type": "MMSeparateDistributedDataParallel", "module": model})
        load_checkpoint(model, str(tmp_path / "x.pth"))
        for name in ("generator", "discriminator"):
            loaded, saved = getattr(model, name).module, getattr(source, name)
            assert same(loaded, saved.state_dict()), name
    finally:
        torch.distributed.destroy_process_group()


def test_the_mend_of_mmagics_models_leaves_other_networks_alone(mmagic: ModuleType) -> None:
    from mmagic.models.base_models import BaseEditModel

    @MODELS.register_module(name="OneLayer", force=True)
    class OneLayer(BaseModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)

    with DefaultScope.overwrite_default_scope("mmagic"):
        model = BaseEditModel({"type": "srgan_plugin.OneLayer"}, {"type": "L1Loss"})
    model.load_state_dict({"generator.layer.weight": torch.ones(1, 1)}, strict=False)
    assert model.generator.layer.weight == 1
