"""Weights are recognised and loaded into generators, all of them or none."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from srgan_plugin.checkpoints import adapt_training_state, describe, load_generator_weights, unwrap
from srgan_plugin.checkpoints.wrappers import WeightFormError, unwrap_with_rest
from srgan_plugin.networks import ModifiedVGG, MSRResNet, SRGANDiscriminator, SRResNet

SMALL = {"mid_channels": 8, "num_blocks": 3}
# Written out once more, regardless of the table: what ours are called elsewhere.
BASICSR = {
    "trunk_net.": "body.",
    "upsample1.upsample_conv.": "upconv1.",
    "upsample2.upsample_conv.": "upconv2.",
}
KAIR = {**BASICSR, "trunk_net.": "recon_trunk.", "conv_hr.": "HRconv."}


def network(seed=0, cls=MSRResNet, **options):
    torch.manual_seed(seed)
    return cls(**{**SMALL, **options})


def renamed(state, names):
    def rename(key):
        return next(
            (new + key[len(old) :] for old, new in names.items() if key[: len(old)] == old), key
        )

    return {rename(key): weight for key, weight in state.items()}


def saved(tmp_path, obj):
    torch.save(obj, tmp_path / "x.pth")
    return tmp_path / "x.pth"


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def prefixed(state, prefix):
    return {prefix + key: weight for key, weight in state.items()}


STATE = network().state_dict()
OTHER = network(1).state_dict()
WRAPPED = {
    "bare": STATE,
    "MMagic": {"state_dict": STATE, "meta": {"iter": 3}},
    "MMEditing": {"state_dict": prefixed(STATE, "generator."), "optimizer": {}},
    "MMagic's training": {
        "state_dict": {
            **prefixed(STATE, "generator."),
            **prefixed(OTHER, "discriminator."),
            "step_counter": torch.tensor(3),
            "data_preprocessor.mean": torch.zeros(3),
        }
    },
    "EMA copy beside the weights": {
        "state_dict": {**prefixed(OTHER, "generator."), **prefixed(STATE, "generator_ema.")}
    },
    "BasicSR": {"params": STATE},
    "BasicSR with EMA": {"params": OTHER, "params_ema": STATE},
    "data parallel": {"state_dict": prefixed(STATE, "module.")},
    "data parallel training": prefixed(STATE, "module.generator."),
    "plain torch": {"model": STATE, "optimizer": {"state": {}}, "epoch": 3},
    "with a preprocessor": {**STATE, "data_preprocessor.mean": torch.zeros(3)},
    "half precision": {k: w.half() for k, w in STATE.items()},
}


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_weights_are_unwrapped_from_every_wrapper(wrapping):
    expected = STATE if wrapping != "half precision" else WRAPPED[wrapping]
    assert same(unwrap(WRAPPED[wrapping]), dict(expected))


AVERAGE = {"n_averaged": torch.tensor(3), **prefixed(OTHER, "module.")}
JUDGE = SRGANDiscriminator(mid_channels=2, input_size=32).state_dict()
WRAPPED_ELSEWHERE = {
    "generator beside discriminator": ({"generator": STATE, "discriminator": JUDGE}, STATE, STATE),
    "netG and netD": ({"netG": STATE, "netD": JUDGE, "epoch": 3}, STATE, STATE),
    "torch's average": ({"state_dict": STATE, "ema_state_dict": AVERAGE}, OTHER, STATE),
    "model_ema": ({"model": STATE, "model_ema": OTHER, "optimizer": {"state": {}}}, OTHER, STATE),
    "generator_ema": ({"G": STATE, "G_ema": OTHER, "D": JUDGE}, OTHER, STATE),
    "averages of both": (
        {"G": STATE, "D": JUDGE, "D_ema": JUDGE, "G_ema": OTHER},
        *(OTHER, STATE),
    ),
    "averages of both, in words": (
        {
            "generator": STATE,
            "discriminator": JUDGE,
            "discriminator_ema": JUDGE,
            "generator_ema": OTHER,
        },
        *(OTHER, STATE),
    ),
    "averages of both, ema first": ({"ema_net_d": JUDGE, "ema_net_g": STATE}, STATE, STATE),
    "the discriminator's average": ({"netG": STATE, "netD_ema": JUDGE}, STATE, STATE),
    "the same twice": (
        {"model": prefixed(STATE, "module."), "params": STATE, "state_dict": dict(STATE)},
        *(STATE, STATE),
    ),
    "in a wrapper": ({"model": {"generator": STATE, "discriminator": JUDGE}}, STATE, STATE),
    "compiled": ({"state_dict": prefixed(STATE, "_orig_mod.module.")}, STATE, STATE),
    "prefix": ({**prefixed(STATE, "netG."), **prefixed(JUDGE, "netD.")}, STATE, STATE),
}


@pytest.mark.parametrize("wrapping", WRAPPED_ELSEWHERE)
def test_the_generator_of_several_networks_is_unwrapped_averaged_or_not(wrapping):
    checkpoint, averaged, trained = WRAPPED_ELSEWHERE[wrapping]
    assert same(unwrap(checkpoint), dict(averaged))
    assert same(unwrap(checkpoint, ema=False), dict(trained))


def average_of_mmengine(trained, averaged):
    """Return a checkpoint of mmengine's EMA hook, which swaps the weights."""
    return {"state_dict": averaged, "ema_state_dict": {"steps": torch.tensor(3), **trained}}


@pytest.mark.parametrize(
    ("checkpoint", "averaged", "trained"),
    [
        (average_of_mmengine(STATE, OTHER), OTHER, STATE),
        ({"checkpoint": average_of_mmengine(STATE, OTHER)}, OTHER, STATE),
        ({"ema_state_dict": {"steps": torch.tensor(3), **OTHER}, "params": STATE}, OTHER, STATE),
        ({"params": STATE, "loss_ema": {"l1": torch.ones(1)}}, STATE, STATE),
        ({"model": STATE, "ema_optimizer": {"momentum": torch.ones(1)}}, STATE, STATE),
        ({"params": STATE, "my_ema": OTHER}, OTHER, STATE),
        ({"checkpoint": {"model": {"net": {"generator": STATE}}}}, STATE, STATE),
    ],
)
def test_averaged_weights_are_recognised_in_wrappers_and_beside_other_averages(
    checkpoint, averaged, trained
):
    for ema, expected in ((True, averaged), (False, trained)):
        found = unwrap_with_rest(checkpoint, ema=ema)
        weights = {key: weight for key, weight in found.weights.items() if key != "steps"}
        assert same(weights, dict(expected))
        assert found.averaged == (averaged is not trained and ema)


def test_what_is_left_of_a_checkpoint_is_named_without_prefixes():
    both = {**prefixed(STATE, "module.generator."), **prefixed(JUDGE, "module.discriminator.")}
    assert unwrap_with_rest(both).rest == ("discriminator",)
    counted = {**prefixed(STATE, "generator."), "generator.step_counter": torch.ones(1)}
    assert unwrap_with_rest(counted).rest == ("step_counter",)
    wrapped = {
        **prefixed(STATE, "generator.module."),
        "generator.module.n_averaged": torch.tensor(1),
    }
    assert same(unwrap(wrapped), dict(STATE))


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"a": np.zeros(2)},
        {"state_dict": {"a": np.zeros(2)}},
        {"a": np.zeros(2), "epoch": 3},
    ],
)
def test_arrays_of_numpy_are_named_with_what_makes_them_tensors(checkpoint):
    with pytest.raises(WeightFormError, match=r"NumPy arrays \(a\); save .*from_numpy"):
        unwrap(checkpoint)


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"state_dict": STATE, "model": OTHER},
        {"params": STATE, "net": OTHER},
        {"params": STATE, "net": dict(list(STATE.items())[:-1])},
        {"params": STATE, "net": {key: weight.double() for key, weight in STATE.items()}},
        {"net": {"params": STATE}, "model": {"params": OTHER}},
        {"params": STATE, "params_ema": OTHER, "slow_ema": STATE},
    ],
)
def test_several_networks_with_ambiguous_names_are_refused(checkpoint):
    with pytest.raises(ValueError, match=r"(state_dict|params|net|model)\S* and \w+.*torch\.save"):
        unwrap(checkpoint)


def test_the_discriminator_beside_a_generator_is_unwrapped_on_request():
    for names in (("generator", "discriminator"), ("G", "D"), ("net_g", "net_d")):
        checkpoint = dict(zip(names, (STATE, JUDGE), strict=True))
        assert same(unwrap(checkpoint, role="discriminator"), dict(JUDGE))
    averaged = {"G": STATE, "G_ema": STATE, "D_ema": JUDGE}
    assert same(unwrap(averaged, role="discriminator"), dict(JUDGE))
    trained = {"D": JUDGE, "D_ema": {key: weight + 1 for key, weight in JUDGE.items()}}
    assert same(unwrap(averaged | trained, role="discriminator"), dict(JUDGE))


def test_without_ema_the_trained_weights_are_unwrapped():
    assert same(unwrap(WRAPPED["BasicSR with EMA"], ema=False), dict(OTHER))
    assert same(unwrap(WRAPPED["EMA copy beside the weights"], ema=False), dict(OTHER))


@pytest.mark.parametrize("checkpoint", [{}, {"meta": {"iter": 3}}, {"state_dict": {}, "iter": 3}])
def test_the_message_for_a_checkpoint_without_weights_lists_its_keys(checkpoint):
    with pytest.raises(ValueError, match=", ".join(checkpoint) or "none"):
        unwrap(checkpoint)


def test_wrappers_that_contain_themselves_are_not_followed_forever():
    endless = {"iter": 1}
    endless["model"] = endless
    with pytest.raises(ValueError, match="iter, model"):
        unwrap(endless)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(
    ("names", "origin"), [({}, "MMagic's"), (BASICSR, "BasicSR's"), (KAIR, "KAIR's")]
)
def test_an_msrresnet_is_described_in_each_layout(scale, names, origin):
    state = renamed(network(upscale_factor=scale).state_dict(), names)
    assert describe(state) == f"MSRResNet x{scale} (8 features, 3 blocks) in {origin} keys"


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("prelu", ["shared", "channel"])
def test_an_srresnet_is_described_with_its_prelu(scale, prelu):
    state = network(cls=SRResNet, upscale_factor=scale, prelu=prelu).state_dict()
    expected = f"SRResNet x{scale} (8 features, 3 blocks, PReLU {prelu}) in our own keys"
    assert describe(state) == expected


@pytest.mark.parametrize(
    ("discriminator", "expected"),
    [
        (ModifiedVGG(mid_channels=4), "discriminator ModifiedVGG (4 features, input 128)"),
        (
            ModifiedVGG(mid_channels=4, input_size=256, num_stages=6),
            "discriminator ModifiedVGG (4 features, input 256)",
        ),
        (
            SRGANDiscriminator(mid_channels=4, input_size=96),
            "discriminator SRGANDiscriminator (4 features, input 96)",
        ),
    ],
)
def test_discriminators_are_described_with_their_input_size(discriminator, expected):
    assert describe(discriminator.state_dict()).startswith(expected)


ZERO = torch.zeros(8, 8, 3, 3)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (
            {f"body.{n}.rdb{m}.conv1.weight": ZERO for n in range(3) for m in (1, 2, 3)},
            "RRDBNet (ESRGAN) (3 blocks)",
        ),
        (
            {f"model.1.sub.{n}.RDB1.conv1.0.weight": ZERO for n in range(4)},
            "RRDBNet (ESRGAN) (4 blocks) in the first",
        ),
        (
            {
                "conv_first.weight": torch.zeros(8, 3, 3, 3),
                "body.0.conv1.weight": ZERO,
                "conv_after_body.weight": ZERO,
                "upsample.0.weight": torch.zeros(32, 8, 3, 3),
                "upsample.2.weight": torch.zeros(32, 8, 3, 3),
            },
            "EDSR x4 (8 features, 1 blocks)",
        ),
        ({f"features.{n}.weight": ZERO for n in (0, 16, 34)}, "VGG-19"),
        ({"a": ZERO, "b": ZERO}, "an unknown network of 2 tensors (a, b, …)"),
        # the keys of an MSRResNet with shapes that none can have
        (
            {k: torch.zeros(()) for k in network().state_dict()},
            "an unknown network of 22 tensors",
        ),
    ],
)
def test_unknown_networks_and_other_tensors_are_distinguished(state, expected):
    assert describe(state).startswith(expected)


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_a_generator_loads_from_every_wrapper(tmp_path, wrapping):
    generator = network(7)
    held = load_generator_weights(generator, saved(tmp_path, WRAPPED[wrapping]))
    assert held == "MSRResNet x4 (8 features, 3 blocks) in MMagic's keys"
    tolerance = 1e-3 if wrapping == "half precision" else 0
    for key, weight in generator.state_dict().items():
        torch.testing.assert_close(weight, STATE[key], rtol=0, atol=tolerance)


@pytest.mark.parametrize("names", [BASICSR, KAIR])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_basicsr_and_kair_weights_load_into_a_network_with_the_activation(tmp_path, names, scale):
    source = network(upscale_factor=scale, activate_after_shuffle=True)
    path = saved(tmp_path, {"params": renamed(source.state_dict(), names)})
    generator = network(5, upscale_factor=scale, activate_after_shuffle=True)
    load_generator_weights(generator, path)
    x = torch.rand(1, 3, 9, 7)
    assert torch.equal(generator(x), source(x))


def refusal(generator, path):
    """Return the line that refuses a checkpoint; the generator must be unchanged."""
    before = copy.deepcopy(generator.state_dict())
    with pytest.raises(ValueError, match="expected") as caught:
        load_generator_weights(generator, path)
    assert same(generator.state_dict(), before)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("names", [BASICSR, KAIR])
def test_basicsr_weights_are_refused_with_the_option_that_they_need(tmp_path, names):
    line = refusal(network(), saved(tmp_path, {"params": renamed(STATE, names)}))
    assert "set activate_after_shuffle=True" in line


def test_other_sizes_of_the_network_are_refused_with_the_options_that_fit_them(tmp_path):
    path = saved(tmp_path, network(num_blocks=5, upscale_factor=2).state_dict())
    assert refusal(network(), path) == (
        "expected MSRResNet x4 (8 features, 3 blocks) in MMagic's keys, "
        f"{path} holds MSRResNet x2 (8 features, 5 blocks) in MMagic's keys: "
        "set num_blocks=5, upscale_factor=2 in the generator's config"
    )


def test_the_message_names_the_prelu_of_the_weights(tmp_path):
    path = saved(tmp_path, network(cls=SRResNet, prelu="channel").state_dict())
    assert "set prelu='channel' in" in refusal(network(cls=SRResNet), path)


def test_another_network_is_refused_by_its_name(tmp_path):
    line = refusal(network(), saved(tmp_path, network(cls=SRResNet).state_dict()))
    assert "holds SRResNet x4 (8 features, 3 blocks, PReLU shared)" in line
    assert "give a checkpoint of that network" in line


def mutated(change):
    state = dict(STATE)
    change(state)
    return state


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        (mutated(lambda s: s.pop("conv_last.bias")), "1 weights missing, first conv_last.bias"),
        (mutated(lambda s: s.update(z=ZERO)), "1 weights unexpected, first z"),
        (
            mutated(lambda s: s.update({"conv_hr.bias": torch.zeros(9)})),
            "1 weights of another kind, first conv_hr.bias",
        ),
        (
            mutated(lambda s: s.update({"conv_hr.bias": torch.zeros(8, dtype=torch.long)})),
            "1 weights of another kind, first conv_hr.bias",
        ),
        (
            mutated(lambda s: s.update({"conv_hr.bias": torch.zeros(8).to_sparse()})),
            "1 weights missing, first conv_hr.bias",
        ),
        ({"a": ZERO}, "22 weights missing, first conv_first.weight"),
    ],
)
def test_incomplete_and_altered_weights_are_refused_and_load_nothing(tmp_path, state, complaint):
    assert complaint in refusal(network(), saved(tmp_path, state))


def test_another_network_loads_its_own_weights_only(tmp_path):
    torch.manual_seed(0)
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    load_generator_weights(target, saved(tmp_path, {"params": source.state_dict()}))
    assert same(source.state_dict(), target.state_dict())
    assert "3 tensors" not in refusal(target, saved(tmp_path, STATE))


def test_old_batch_normalisation_without_counters_loads(tmp_path):
    state = network(cls=SRResNet).state_dict()
    old = {k: w for k, w in state.items() if not k.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    generator = network(3, cls=SRResNet)
    load_generator_weights(generator, saved(tmp_path, old))
    assert same(generator.state_dict(), state)


class Training(nn.Module):
    """A model in training: a generator, a discriminator, losses."""

    def __init__(self, seed, **options):
        super().__init__()
        self.generator = network(seed, **options)
        self.discriminator = SRGANDiscriminator(mid_channels=2, input_size=32)


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("wrapping", sorted(set(WRAPPED) - {"half precision", "data parallel"}))
def test_a_training_model_loads_its_generator_from_any_layout(prefix, wrapping):
    inner = WRAPPED[wrapping].get("state_dict", WRAPPED[wrapping])
    state = prefixed(inner, prefix)
    if wrapping == "EMA copy beside the weights":
        state = {k: w for k, w in state.items() if "_ema" in k}
    if prefix:
        state["elsewhere"] = torch.ones(1)
    adapt_training_state(state, Training(5), prefix=prefix)
    found = {k: w for k, w in state.items() if k.startswith(f"{prefix}generator.")}
    assert same(found, prefixed(STATE, f"{prefix}generator."))
    others = {k for k in state if k not in found and k != "elsewhere"}
    assert all(key.startswith(f"{prefix}discriminator.") for key in others)
    assert ("elsewhere" in state) == bool(prefix)


def test_a_discriminator_that_mmengine_saved_in_its_wrapper_keeps_its_weights():
    model = Training(5)
    state = {
        key.replace("generator.", "generator.module.").replace("minator.", "minator.module."): w
        for key, w in model.state_dict().items()
    }
    assert any(key.startswith("discriminator.module.") for key in state)
    adapt_training_state(state, model)
    assert same(state, model.state_dict())


def test_a_resumed_run_loads_the_trained_weights_and_not_their_average():
    model = Training(5)
    state = model.state_dict()
    before = dict(state)
    state.update(prefixed(OTHER, "generator_ema."))
    adapt_training_state(state, model)
    assert same(dict(state), before)
    model.load_state_dict(state, strict=True)


def test_training_starts_from_basicsr_weights_only_with_the_activation():
    theirs = {"params": renamed(STATE, BASICSR)}
    state = dict(theirs)
    adapt_training_state(state, Training(5, activate_after_shuffle=True))
    assert same(state, prefixed(STATE, "generator."))
    with pytest.raises(ValueError, match="set activate_after_shuffle=True"):
        adapt_training_state(dict(theirs), Training(5))
