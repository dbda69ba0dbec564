"""spandrel loads our generators as our own loader does, and its own architectures as before."""

import inspect
import logging

import pytest
import torch
from srgan_repositories import CASES, trained_looking

from srgan_plugin.checkpoints import open_network
from srgan_plugin.checkpoints.convert import convert
from srgan_plugin.checkpoints.layouts import LAYOUTS
from srgan_plugin.checkpoints.recorded_args import NOTE_TENSOR
from srgan_plugin.errors import UserError
from srgan_plugin.networks import GENERATORS, MSRResNet, SRResNet

spandrel = pytest.importorskip("spandrel")
ours = pytest.importorskip("srgan_plugin.spandrel")

SMALL = {"mid_channels": 4, "num_blocks": 2}
IDS = [f"srgan_plugin.{name}" for name in GENERATORS]


@pytest.fixture
def loader():
    """A loader of spandrel's own registry with our architectures in it."""
    registry = spandrel.MAIN_REGISTRY.copy()
    ours.install(registry)
    return spandrel.ModelLoader(registry=registry)


def rough(cls, **options):
    torch.manual_seed(0)
    network = cls(**SMALL, **options).eval()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_((torch.rand_like(tensor) - 0.5) * 0.1)
    return network


def wrap(weights, code_base):
    """What the code base's own training saves."""
    if code_base == "mmagic":
        named = {f"generator.{key}": weight for key, weight in weights.items()}
        extra = {"discriminator.conv0_0.weight": torch.zeros(1), "step_counter": torch.zeros(1)}
        return {"meta": {"epoch": 1}, "state_dict": named | extra}
    return {"params": weights, "params_ema": weights} if code_base == "basicsr" else weights


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    "layout", [x for x in LAYOUTS if x.network == "MSRResNet"], ids=lambda layout: layout.origin
)
def test_each_code_base_s_msrresnet_is_loaded_with_its_function(loader, tmp_path, layout, scale):
    activate = bool(layout.assumed_args.get("activate_after_shuffle"))
    network = rough(MSRResNet, upscale_factor=scale, activate_after_shuffle=activate)
    weights = layout.from_plugin_keys(network.state_dict())
    code_base = next(name for name in layout.code_bases if name != "plugin")
    torch.save(wrap(weights, code_base), tmp_path / "x.pth")
    found = loader.load_from_file(tmp_path / "x.pth")
    assert isinstance(found, spandrel.ImageModelDescriptor)
    assert (found.scale, found.input_channels, found.output_channels) == (scale, 3, 3)
    assert (found.architecture.name, found.purpose) == ("MSRResNet", "SR")
    assert found.tags == ["4nf", "2nb"]
    assert found.tiling is spandrel.ModelTiling.SUPPORTED
    assert found.size_requirements.none
    image = torch.rand(1, 3, 7, 9)
    with torch.inference_mode():
        assert torch.equal(found(image), network(image).clamp(0, 1))
        assert torch.equal(found.model(image), open_network(tmp_path / "x.pth")(image))


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_are_those_of_the_network(loader, channels):
    network = rough(MSRResNet, in_channels=channels, out_channels=channels)
    found = loader.load_from_state_dict(network.state_dict())
    assert (found.input_channels, found.output_channels) == (channels, channels)


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (SRResNet, {"output_range": (-1, 1), "upscale_factor": 2}),
        (SRResNet, {"output_range": (0, 1), "prelu": "channel"}),
        (MSRResNet, {"activate_after_shuffle": True}),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_an_exported_file_states_what_its_weights_do_not_show(
    loader, tmp_path, cls, options, suffix
):
    network = rough(cls, **options)
    torch.save(network.state_dict(), tmp_path / "x.pth")
    stated = {
        name: options[name]
        for name in ("output_range", "activate_after_shuffle")
        if name in options
    }
    target = tmp_path / f"y{suffix}"
    convert(tmp_path / "x.pth", target, to="plugin", arguments=stated, note_among_weights=True)
    image = torch.rand(1, 3, 7, 9)
    with torch.inference_mode():
        expected = network(image)
        assert torch.equal(loader.load_from_file(target).model(image), expected)
        assert torch.equal(open_network(target)(image), expected)


def test_an_srresnet_whose_range_nothing_states_is_refused_until_it_is_given(loader):
    network = rough(SRResNet, output_range=(-1, 1))
    with pytest.raises(UserError, match=r"output_range: expected.*got none.*install"):
        loader.load_from_state_dict(network.state_dict())
    ours.install(loader.registry, arguments={"output_range": (-1, 1)})
    assert [arch.architecture.id for arch in loader.registry][-len(IDS) :] == IDS
    image = torch.rand(1, 3, 7, 9)
    with torch.inference_mode():
        assert torch.equal(
            loader.load_from_state_dict(network.state_dict()).model(image), network(image)
        )


def test_given_arguments_do_not_overrule_what_a_file_states(loader, tmp_path):
    ours.install(loader.registry, arguments={"activate_after_shuffle": True})
    network = rough(MSRResNet)
    layout = next(x for x in LAYOUTS if x.origin == "BasicSR's")
    found = loader.load_from_state_dict(layout.from_plugin_keys(network.state_dict()))
    assert found.model.activate_after_shuffle
    torch.save(network.state_dict(), tmp_path / "x.pth")
    assert loader.load_from_file(tmp_path / "x.pth").model.activate_after_shuffle


def test_a_switch_that_mmagic_s_keys_leave_open_is_warned_of(loader, caplog):
    with caplog.at_level(logging.WARNING):
        loader.load_from_state_dict(rough(MSRResNet).state_dict())
    assert "assuming the default, as in networks with MMagic's keys" in caplog.text
    assert "activate_after_shuffle" in caplog.text


@pytest.mark.parametrize("network", sorted(GENERATORS))
def test_half_precision_and_bfloat16_run(loader, network):
    own = rough(GENERATORS[network])
    ours.install(loader.registry, arguments={"output_range": (0, 1)})
    image = torch.rand(1, 3, 8, 8)
    for dtype, levels in ((torch.float16, 1), (torch.bfloat16, 8)):
        found = loader.load_from_state_dict(own.state_dict()).to(dtype)
        with torch.inference_mode():
            difference = found(image.to(dtype)).float() - own(image).clamp(0, 1)
        assert difference.abs().max() < levels / 255


@pytest.mark.parametrize(
    ("name", "scale"), [(name, case.scales[-1]) for name, case in CASES.items()]
)
def test_each_repository_s_network_is_loaded_with_its_function(loader, name, scale):
    case, image = CASES[name], torch.rand(1, 3, 8, 9)
    network = trained_looking(case.make(scale))
    if case.told:
        with pytest.raises(UserError, match=r"output_range.*install"):
            loader.load_from_state_dict(dict(network.state_dict()))
        ours.install(loader.registry, arguments=case.told)
    found = loader.load_from_state_dict(dict(network.state_dict()))
    assert (found.architecture.name, found.scale) == ("SRResNet", scale)
    torch.testing.assert_close(found(image), case(network, image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("note", [torch.tensor([7, 7]), torch.tensor(1.5), torch.tensor([999])])
def test_a_note_that_is_none_is_refused_by_name(loader, note):
    with pytest.raises(UserError, match=NOTE_TENSOR):
        loader.load_from_state_dict({**rough(MSRResNet).state_dict(), NOTE_TENSOR: note})


def test_damaged_weights_are_refused_by_name(loader):
    weights = dict(rough(MSRResNet).state_dict())
    weights["conv_last.weight"] = weights["conv_last.weight"] * torch.nan
    with pytest.raises(UserError, match="conv_last"):
        loader.load_from_state_dict(weights)


@pytest.mark.parametrize(
    "layout",
    [x for x in LAYOUTS if x.network in GENERATORS and x.code_bases],  # those that are written
    ids=lambda layout: f"{layout.network}-{layout.origin}",
)
def test_none_of_spandrel_s_architectures_takes_our_weights(layout):
    weights = layout.from_plugin_keys(rough(GENERATORS[layout.network]).state_dict())
    state = spandrel.canonicalize_state_dict(weights)
    takers = [a.architecture.id for a in spandrel.MAIN_REGISTRY if a.architecture.id not in IDS]
    assert not [name for name in takers if spandrel.MAIN_REGISTRY[name].detect(state)]


def built_in_networks():
    """One network of each of spandrel's own architectures that has defaults, on the meta device."""
    import spandrel.architectures as package

    for support in spandrel.MAIN_REGISTRY:
        name = support.architecture.id
        module = getattr(package, name, None)
        for cls in vars(module).values() if module else ():
            if inspect.isclass(cls) and issubclass(cls, torch.nn.Module):
                yield name, cls


def test_our_architectures_take_no_weights_of_spandrel_s_own(loader):
    seen = set()
    for name, cls in built_in_networks():
        try:
            with torch.device("meta"):
                state = cls().state_dict()
        except (TypeError, RuntimeError, NotImplementedError):  # no defaults, or not on meta
            continue
        seen.add(name)
        real = {key: torch.zeros(()).expand(weight.shape) for key, weight in state.items()}
        assert not any(loader.registry[own].detect(real) for own in IDS), name
    assert {"ESRGAN", "Compact", "SwiftSRGAN"} <= seen
    assert len(seen) > 20
