"""Weights that are not plain real tensors are called what they are, with what helps."""

import re
from contextlib import suppress

import pytest
import torch
from torch import nn
from torch.nn.utils import (
    parametrizations,
    parametrize,
    prune,
    remove_spectral_norm,
    remove_weight_norm,
    spectral_norm,
    weight_norm,
)

from srgan_plugin.checkpoints import identify, load_generator_weights, open_network, unwrap
from srgan_plugin.checkpoints.weight_forms import explain_form
from srgan_plugin.checkpoints.wrappers import WeightFormError
from srgan_plugin.networks import ModifiedVGG, MSRResNet

SMALL = {"mid_channels": 4, "num_blocks": 2}
# How a layer gets its form, how plain weights are made of it again, and what the message names.
FORMS = {
    "spectral": (spectral_norm, remove_spectral_norm, "remove_spectral_norm"),
    "weight": (weight_norm, remove_weight_norm, "remove_weight_norm"),
    "pruned": (
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
        lambda layer: prune.remove(layer, "weight"),
        "prune.remove",
    ),
    "parametrised": (
        parametrizations.spectral_norm,
        lambda layer: parametrize.remove_parametrizations(layer, "weight"),
        "parametrize.remove_parametrizations",
    ),
    "parametrised by two": (
        parametrizations.weight_norm,
        lambda layer: parametrize.remove_parametrizations(layer, "weight"),
        "parametrize.remove_parametrizations",
    ),
}
LAYERS = ("conv_first", "trunk_net.1.conv2", "conv_hr")


def refusals(path):
    """Return the messages of opening the file and of loading it into a network."""
    for attempt in (
        lambda: open_network(path),
        lambda: load_generator_weights(MSRResNet(**SMALL), path),
    ):
        with pytest.raises(ValueError, match=path.name) as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert "damaged" not in str(caught.value)
        yield str(caught.value)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("layers", [LAYERS, ("conv_hr",)], ids=["several", "one"])
@pytest.mark.parametrize("form", FORMS)
def test_a_reparametrised_layer_is_named_and_the_remedy_makes_the_file_load(
    tmp_path, rough, form, layers
):
    wrap, remedy, named = FORMS[form]
    network = rough(MSRResNet, **SMALL)
    for layer in layers:
        wrap(network.get_submodule(layer))
    image = torch.rand(1, 3, 8, 8)
    network(image)  # the pre-hooks compute the weights
    path = tmp_path / "x.pth"
    torch.save(network.state_dict(), path)
    for said in refusals(path):
        assert named in said
        assert f"{layers[0]}." in said
    for layer in layers:
        remedy(network.get_submodule(layer))
    torch.save(network.state_dict(), path)
    with torch.inference_mode():
        torch.testing.assert_close(open_network(path)(image), network(image))


def remedy_of(message, layers):
    """Call what a message says for each of the layers to which it applies."""
    assert "for each such layer" in message
    for layer in layers:
        for call in re.findall(r"torch\.nn\.utils\.[\w.]+\(layer, '\w+'\)", message):
            with suppress(ValueError):  # of another form
                eval(call, {"torch": torch, "layer": layer})


@pytest.mark.parametrize(
    ("changes", "firsts"),
    [
        ({"conv_hr": [lambda x: prune.random_unstructured(x, "bias", 0.5)]}, ["conv_hr.bias_orig"]),
        (
            {
                "conv_first": [lambda x: prune.random_unstructured(x, "bias", 0.5)],
                "conv_hr": [lambda x: prune.l1_unstructured(x, "weight", 0.5)],
            },
            ["conv_hr.weight_orig"],
        ),
        (
            {
                "conv_first": [lambda x: prune.l1_unstructured(x, "weight", 0.5)],
                "conv_hr": [spectral_norm],
            },
            ["spectral_norm), first conv_hr.weight_orig", "prune), first conv_first.weight_orig"],
        ),
        (
            {"conv_hr": [lambda x: parametrize.register_parametrization(x, "bias", nn.Tanh())]},
            ["first conv_hr.parametrizations.bias.original"],
        ),
    ],
    ids=["bias", "weight and bias", "two forms", "parametrised bias"],
)
def test_one_message_has_the_remedy_for_all_parameters_and_forms(tmp_path, rough, changes, firsts):
    network = rough(MSRResNet, **SMALL)
    layers = [network.get_submodule(name) for name in changes]
    for layer, wraps in zip(layers, changes.values(), strict=True):
        for wrap in wraps:
            wrap(layer)
    image = torch.rand(1, 3, 8, 8)
    network(image)
    path = tmp_path / "x.pth"
    torch.save(network.state_dict(), path)
    for said in refusals(path):
        assert all(first in said for first in firsts)
    remedy_of(said, layers)
    torch.save(network.state_dict(), path)
    with torch.inference_mode():
        torch.testing.assert_close(open_network(path)(image), network(image))


def test_entries_of_two_layers_are_no_form_of_one():
    weights = {"a.weight_orig": torch.ones(2, 2), "b.weight_u": torch.ones(2)}
    assert explain_form(weights) is None
    assert "spectral" in explain_form({**weights, "a.weight_u": torch.ones(2)})


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_quantised_weights_of_data_parallel_or_compiled_networks_are_named(rough, prefix):
    state = {
        f"{prefix}generator.{key}": weight
        for key, weight in rough(MSRResNet, **SMALL).state_dict().items()
    }
    key = f"{prefix}generator.conv_first.weight"
    state[key] = quantized(state[key])
    with pytest.raises(WeightFormError, match=r"quantised.*generator\.conv_first\.weight"):
        unwrap(state)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8), "quantised weights (qint8)"),
        (lambda w: torch.quantize_per_tensor(w, 1, 0, torch.qint32), "quantised weights (qint32)"),
        (lambda w: (w * 100).to(torch.int8), "quantised weights (int8)"),
        (lambda w: w.to(torch.complex64), "complex64"),
    ],
)
def test_quantised_and_complex_weights_are_named(tmp_path, rough, change, named):
    state = rough(MSRResNet, **SMALL).state_dict()
    state["conv_hr.weight"] = change(state["conv_hr.weight"])
    torch.save({"state_dict": state}, tmp_path / "x.pth")
    for said in refusals(tmp_path / "x.pth"):
        assert named in said
        assert "conv_hr.weight" in said


def quantized(weight):
    return torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)


def test_quantised_weights_of_another_network_in_the_file_are_no_obstacle(tmp_path, rough):
    network = rough(MSRResNet, **SMALL)
    state = {f"generator.{key}": weight for key, weight in network.state_dict().items()}
    state |= {"teacher.conv.weight": quantized(torch.ones(2, 2)), 0: quantized(torch.ones(2))}
    torch.save({"state_dict": state}, tmp_path / "x.pth")
    opened = open_network(tmp_path / "x.pth").state_dict()
    assert all(torch.equal(opened[key], weight) for key, weight in network.state_dict().items())


def test_no_network_takes_the_place_of_one_that_is_quantised(rough):
    state = {
        f"discriminator.{key}": weight
        for key, weight in rough(ModifiedVGG, in_channels=3, mid_channels=4).state_dict().items()
    }
    state["generator.conv_first.weight"] = quantized(torch.ones(2, 2))
    with pytest.raises(WeightFormError, match=r"quantised.*generator\.conv_first\.weight"):
        unwrap(state)


def test_packed_weights_of_a_quantised_linear_layer_are_named(rough):
    state = dict(rough(ModifiedVGG, in_channels=3, mid_channels=4).state_dict())
    packed = (quantized(state.pop("linear1.weight")), state.pop("linear1.bias"))
    state |= {
        "linear1.scale": torch.tensor(1.0),
        "linear1.zero_point": torch.tensor(0),
        "linear1._packed_params.dtype": torch.qint8,
        "linear1._packed_params._packed_params": packed,
    }
    with pytest.raises(WeightFormError, match=r"quantised.*linear1\._packed_params"):
        identify(state, role="discriminator")
