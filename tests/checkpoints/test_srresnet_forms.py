"""SRResNet without redundant biases, and with one PReLU for all activations."""

import pytest
import torch
import torch.nn.functional as F

from srgan_plugin.checkpoints import load_generator_weights, open_network
from srgan_plugin.networks import SRResNet

SMALL = {"mid_channels": 4, "num_blocks": 3}
RANGE = {"output_range": (0, 1)}


def slowly(state, x, blocks=3):
    """Compute SRResNet step by step, without biases before batch normalisation."""

    def conv(name, y):
        w, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
        return F.conv2d(y, w, bias, padding=w.shape[-1] // 2)

    def norm(name, y):
        mean, var, gain, shift = (
            state[f"{name}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (y - mean) / (var + 1e-5).sqrt() * gain + shift

    def prelu(name, y):
        slope = state.get(f"{name}.weight", state["act_first.weight"])
        return torch.where(y > 0, y, y * slope)

    first = y = prelu("act_first", conv("conv_first", x))
    for block in (f"trunk_net.{n}" for n in range(blocks)):
        z = prelu(f"{block}.act", norm(f"{block}.bn1", conv(f"{block}.conv1", y)))
        y = y + norm(f"{block}.bn2", conv(f"{block}.conv2", z))
    y = first + norm("bn_trunk", conv("conv_trunk", y))
    for name in ("upsample1", "upsample2"):
        y = prelu(f"{name}.act", F.pixel_shuffle(conv(f"{name}.upsample_conv", y), 2))
    return conv("conv_last", y)


def without_biases(state):
    redundant = [f"trunk_net.{n}.conv{m}.bias" for n in range(3) for m in (1, 2)]
    return {k: w for k, w in state.items() if k not in (*redundant, "conv_trunk.bias")}


def with_one_prelu(state):
    """Share one parameter among all activations, as if they were the same module."""
    slope = state["act_first.weight"]
    return {k: slope if "act" in k else w for k, w in state.items()}


def stored_once(state):
    return {k: w for k, w in state.items() if "act" not in k or k == "act_first.weight"}


FORMS = {
    "no biases": without_biases,
    "one PReLU": with_one_prelu,
    "stored once": stored_once,
    "both": lambda state: without_biases(stored_once(state)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", ["x.pth", "x.safetensors"])
def test_the_output_is_the_same_in_every_form_and_after_every_conversion(
    tmp_path, rough, tool, form, target
):
    state = FORMS[form](rough(SRResNet, **SMALL).state_dict())
    torch.save({"state_dict": state}, tmp_path / "given.pth")
    option = ["--arch-option", "output_range=(0,1)"]
    for name in ("convert_checkpoint", "publish_model"):
        tool(name).main(["given.pth", target, "--to", "plugin", *option])
    (final,) = tmp_path.glob("x-????????.*")
    image = torch.rand(1, 3, 9, 11)
    expected = slowly(state, image)
    loaded = SRResNet(**SMALL).eval()
    load_generator_weights(loaded, tmp_path / "given.pth")
    networks = [open_network("given.pth", arguments=RANGE), open_network(target), loaded]
    with torch.inference_mode():
        for network in (*networks, open_network(final)):
            torch.testing.assert_close(network(image), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "lost", ["trunk_net.1.conv2.bias", "upsample2.act.weight", "conv_last.bias"]
)
def test_a_file_without_one_of_the_weights_is_refused(tmp_path, rough, lost):
    state = rough(SRResNet, **SMALL).state_dict()
    del state[lost]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=f"1 .*missing.*{lost}"):
        open_network(tmp_path / "x.pth", arguments=RANGE)
