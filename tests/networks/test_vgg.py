import os
import pickle
from pathlib import Path
from urllib.error import URLError

import cv2
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from srgan_plugin.losses import PerceptualLoss
from srgan_plugin.networks import VGG19Features, random_vgg19_state_dict
from srgan_plugin.networks import vgg as vgg_module

# Where the rescaled file keeps its convolutions: written out, not derived.
RESCALED_KEYS = (2, 5, 9, 12, 16, 19, 22, 25, 29, 32, 35, 38, 42, 45, 48, 51)
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def save(state, path: Path) -> Path:
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def deep_file(tmp_path_factory):
    return save(random_vgg19_state_dict(), tmp_path_factory.mktemp("vgg") / "vgg19.pth")


@pytest.fixture
def shallow_file(tmp_path):
    return save(random_vgg19_state_dict(seed=1, depth="conv2_2"), tmp_path / "vgg19.pth")


@pytest.fixture
def empty_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


def test_every_layer_equals_torchvision_s_by_index_and_by_name(deep_file):
    vgg = pytest.importorskip("torchvision").models.vgg
    oracle = vgg.make_layers(vgg.cfgs["E"])
    state = {key.removeprefix("features."): v for key, v in torch.load(deep_file).items()}
    oracle.load_state_dict(state)
    for module in oracle:
        if isinstance(module, nn.ReLU):
            module.inplace = False
    names = [str(index) for index in range(len(oracle))]
    x = torch.rand(1, 3, 32, 32)
    features = VGG19Features(names, pretrained=deep_file)(x)
    expected = (x - MEAN) / STD
    for name, module in zip(names, oracle, strict=True):
        expected = module(expected)
        torch.testing.assert_close(features[name], expected, rtol=1e-5, atol=1e-5)
    assert 0.01 < features["34"].std() < 10


def test_indices_are_aliases_of_the_names_and_answers_come_in_the_order_asked(deep_file):
    aliases = {"conv5_4": "34", "relu5_4": "35", "pool5": "36", "relu2_2": "8", "conv1_1": "0"}
    asked = [*aliases.values(), *aliases]
    features = VGG19Features(asked, pretrained=deep_file)(torch.rand(1, 3, 32, 32))
    assert list(features) == asked
    for name, alias in aliases.items():
        assert torch.equal(features[name], features[alias])
    assert torch.equal(features["relu5_4"], features["conv5_4"].relu())
    assert not torch.equal(features["relu5_4"], features["conv5_4"])


def test_gradients_reach_the_input_and_equal_those_of_a_plain_network(shallow_file):
    state = torch.load(shallow_file)
    features = VGG19Features(["conv1_2", "relu2_2"], pretrained=shallow_file).double()
    x = torch.rand(2, 3, 8, 10, dtype=torch.float64, requires_grad=True)

    def conv(feat, index):
        weight, bias = (state[f"features.{index}.{kind}"].double() for kind in ("weight", "bias"))
        patches = nn.functional.unfold(feat, 3, padding=1)
        return (weight.flatten(1) @ patches + bias[:, None]).unflatten(2, feat.shape[2:])

    conv1_2 = conv(conv((x - MEAN) / STD, 0).clamp(min=0), 2)
    pooled = conv1_2.clamp(min=0).unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).amax(dim=(3, 5))
    relu2_2 = conv(conv(pooled, 5).clamp(min=0), 7).clamp(min=0)
    ours = features(x)
    torch.testing.assert_close(ours["conv1_2"], conv1_2)
    torch.testing.assert_close(ours["relu2_2"], relu2_2)
    expected = torch.autograd.grad(conv1_2.sin().sum() + relu2_2.sin().sum(), x)
    found = torch.autograd.grad(ours["conv1_2"].sin().sum() + ours["relu2_2"].sin().sum(), x)
    torch.testing.assert_close(found, expected)


def test_the_weights_are_frozen_and_in_no_state_dict(shallow_file):
    features = VGG19Features(["relu2_2"], pretrained=shallow_file)
    assert not list(features.parameters())
    assert not features.state_dict()
    features.load_state_dict({}, strict=True)
    assert {buffer.dtype for buffer in features.double().buffers()} == {torch.float64}


def test_only_the_layers_that_are_needed_are_kept(deep_file):
    convs = {
        name.removesuffix("_weight")
        for name, _ in VGG19Features(["pool1"], pretrained=deep_file).named_buffers()
        if name.endswith("_weight")
    }
    assert convs == {"conv1_1", "conv1_2"}


def test_without_input_norm_the_image_goes_in_as_it_is(shallow_file):
    x = torch.rand(1, 3, 8, 8)
    plain = VGG19Features(["conv1_1"], pretrained=shallow_file, use_input_norm=False)
    normed = VGG19Features(["conv1_1"], pretrained=shallow_file)
    torch.testing.assert_close(plain((x - MEAN) / STD)["conv1_1"], normed(x)["conv1_1"])


def test_bare_keys_half_precision_and_a_classifier_are_fine(tmp_path, shallow_file):
    state = torch.load(shallow_file)
    bare = {key.removeprefix("features."): nn.Parameter(v.half()) for key, v in state.items()}
    bare_file = save(bare, tmp_path / "bare.pth")
    whole = save({**state, "classifier.0.weight": torch.ones(2, 2)}, tmp_path / "whole.pth")
    x = torch.rand(1, 3, 8, 8)
    expected = VGG19Features(["conv2_2"], pretrained=shallow_file)(x)["conv2_2"]
    for file, tolerance in ((bare_file, 1e-2), (str(whole), 0)):
        found = VGG19Features(["conv2_2"], pretrained=file)(x)["conv2_2"]
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
        assert not found.requires_grad


@pytest.mark.parametrize("use_input_norm", [True, False])
def test_the_rescaled_layout_equals_the_sequential_it_was_saved_from(tmp_path, use_input_norm):
    torchvision_layout = random_vgg19_state_dict(seed=2)
    modules: dict[str, nn.Module] = {"0": nn.Conv2d(3, 3, 1)}
    convs = [w for key, w in torchvision_layout.items() if key.endswith("weight")]
    for index, weight in zip(RESCALED_KEYS, convs, strict=True):
        modules[str(index)] = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
        nn.init.constant_(modules[str(index)].bias, 0.1)
        modules[str(index)].weight.data.copy_(weight)
    file = save(nn.ModuleDict(modules).state_dict(), tmp_path / "rescaled.pth")
    x = torch.rand(1, 3, 32, 32)
    features = VGG19Features(
        ["conv2_2", "relu5_4"], pretrained=file, use_input_norm=use_input_norm
    )(x)
    feat = modules["0"](x) if use_input_norm else x
    for index in RESCALED_KEYS:
        feat = modules[str(index)](feat)
        if index == 12:
            torch.testing.assert_close(features["conv2_2"], feat)
        feat = feat.relu()
        if index in (5, 12, 25, 38):
            feat = nn.functional.max_pool2d(feat, 2)
    torch.testing.assert_close(features["relu5_4"], feat)


def test_the_real_rescaled_weights_give_activations_of_mean_one(shared_data):
    file = shared_data / "weights" / "vgg19_normalised_conv1_1-conv3_1.pth"
    layers = ["relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1"]
    features = VGG19Features(layers, pretrained=file)
    means = []
    for path in sorted((shared_data / "benchmark" / "Set5" / "GTmod12").glob("*.png")):
        bgr = torch.from_numpy(cv2.imread(str(path))[:192, :192]).permute(2, 0, 1)[None] / 255
        means.append([feature.mean() for feature in features(bgr.flip(1)).values()])
    mean = torch.tensor(means).mean(0)
    assert ((mean > 0.9) & (mean < 1.25)).all(), mean  # with red and blue swapped: 1.4
    with pytest.raises(ValueError, match=r"19\.weight.*`pretrained`"):
        VGG19Features(["conv3_2"], pretrained=file)


def test_memory_format_and_autocast_change_nothing_but_rounding(shallow_file):
    features, x = VGG19Features(["relu2_2"], pretrained=shallow_file), torch.rand(1, 3, 16, 16)
    expected = features(x)["relu2_2"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = features(x)["relu2_2"].float()
    torch.testing.assert_close(half, expected, rtol=0.05, atol=0.05)
    features = features.to(memory_format=torch.channels_last)
    last = features(x.to(memory_format=torch.channels_last))["relu2_2"]
    torch.testing.assert_close(last, expected, rtol=1e-5, atol=1e-5)


class Casts(TorchDispatchMode):
    """Count casts to half precision."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        self.count += func._schema.name == "aten::_to_copy" and result.dtype == torch.bfloat16
        return result


def test_under_autocast_weights_are_cast_once_to_what_autocast_makes_of_them(shallow_file):
    features = VGG19Features(["relu2_2"], pretrained=shallow_file)
    x = torch.rand(1, 3, 16, 16, requires_grad=True)

    def gradient():
        with torch.autocast("cpu", dtype=torch.bfloat16), Casts() as casts:
            result = features(x)["relu2_2"]
        found = torch.autograd.grad(result.float().square().mean(), x)[0]
        return casts.count, result, found

    with pytest.MonkeyPatch.context() as patch:  # as autocast alone does it
        patch.setattr(vgg_module, "autocast_dtype", lambda _: None)
        count, *expected = gradient()
    counts, results, gradients = zip(*(gradient() for _ in range(3)), strict=True)
    assert counts == (count, 1, 1)  # the image is new each time
    for result, found in zip(results, gradients, strict=True):
        assert torch.equal(result, expected[0])
        assert torch.equal(found, expected[1])
    assert features.conv1_1_weight.dtype == torch.float32


def test_cast_weights_follow_a_network_that_is_moved(shallow_file):
    features, x = VGG19Features(["relu2_2"], pretrained=shallow_file), torch.rand(1, 3, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features(x)
        moved = features.to(memory_format=torch.channels_last)
        assert moved(x)["relu2_2"].is_contiguous(memory_format=torch.channels_last)
    assert features(x)["relu2_2"].dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features.double()(x.double())
    features = features.float()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        features(x)
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features(x)["relu2_2"].float().mean().backward()
    assert x.grad.any()


def test_autocast_does_not_quantise_the_rescaled_input(tmp_path):
    state = {"0.weight": torch.eye(3).flip(0).view(3, 3, 1, 1) * 255, "0.bias": -torch.ones(3)}
    state |= {"2.weight": torch.rand(64, 3, 3, 3), "2.bias": torch.rand(64)}
    features = VGG19Features(["conv1_1"], pretrained=save(state, tmp_path / "rescaled.pth"))
    x = torch.rand(1, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(features.input_norm(x), x.flip(1) * 255 - 1)


def test_features_and_losses_have_their_shapes_on_the_meta_device(tmp_path):
    state = {"0.weight": torch.rand(3, 3, 1, 1), "0.bias": torch.rand(3)}
    state |= {"2.weight": torch.rand(64, 3, 3, 3), "2.bias": torch.rand(64)}
    file = save(state, tmp_path / "rescaled.pth")
    loss = PerceptualLoss({"conv1_1": 1.0}, pretrained=file).to("meta")
    x = torch.rand(1, 3, 8, 8, device="meta")
    assert [term.shape for term in loss(x, x)] == [(), ()]


def test_features_compile_into_one_graph(shallow_file):
    features, x = VGG19Features(["relu2_2"], pretrained=shallow_file), torch.rand(1, 3, 8, 8)
    compiled = torch.compile(features, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), features(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compiled(x), features(x))
        torch.testing.assert_close(compiled(x), features(x))


def test_random_weights_follow_from_the_seed_and_end_at_the_depth():
    first, again = (random_vgg19_state_dict(seed=3, depth="pool1") for _ in range(2))
    other = random_vgg19_state_dict(seed=4, depth="pool1")
    assert list(first) == [f"features.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")]
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])


@pytest.mark.parametrize(
    ("layer", "hint"),
    [("conv5-4", "conv5_4"), ("relu54", "relu5_4"), ("pool6", "pool5"), ("37", "'0' to '36'")],
)
def test_an_unknown_layer_gets_the_nearest_names(layer, hint):
    with pytest.raises(ValueError, match=f"'{layer}'") as error:
        VGG19Features([layer], pretrained="never read")
    assert hint in str(error.value)
    assert "\n" not in str(error.value)


def test_no_layer_at_all_is_refused():
    with pytest.raises(ValueError, match="layer"):
        VGG19Features([], pretrained="never read")


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harmed",)


def test_a_file_of_any_other_content_gets_one_line(tmp_path, monkeypatch, shallow_file):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("not weights")
    (tmp_path / "empty").touch()
    (tmp_path / "harmful").write_bytes(pickle.dumps(Harmful(), protocol=2))
    (tmp_path / "truncated").write_bytes(shallow_file.read_bytes()[:5000])
    save([1, 2], tmp_path / "list")
    save({"conv_first.weight": torch.ones(2)}, tmp_path / "other")
    save({"0.weight": torch.ones(64, 3, 7, 7)}, tmp_path / "resnet")
    save({"0.weight": "text"}, tmp_path / "strings")
    vgg16 = {**torch.load(shallow_file), "features.5.weight": torch.ones(128, 128, 3, 3)}
    save(vgg16, tmp_path / "shapes")
    for name in sorted(path.name for path in tmp_path.iterdir() if path != shallow_file):
        with pytest.raises(ValueError, match=f"{name}.*(VGG-19|weight file)") as e:
            VGG19Features(["relu2_2"], pretrained=tmp_path / name)
        assert "\n" not in str(e.value)
    assert not (tmp_path / "harmed").exists()


def test_a_layer_deeper_than_the_file_is_refused(shallow_file):
    with pytest.raises(ValueError, match=r"10\.weight"):
        VGG19Features(["relu3_1"], pretrained=shallow_file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"absent\.pth.*`pretrained`.*'torchvision://vgg19'"
    ):
        VGG19Features(["conv1_1"], pretrained=tmp_path / "absent.pth")


def test_torchvision_s_file_is_taken_from_the_hub_s_folder_without_a_download(empty_hub):
    empty_hub.mkdir(parents=True)
    save(random_vgg19_state_dict(depth="conv1_1"), empty_hub / "vgg19-dcbb9e9d.pth")
    x = torch.rand(1, 3, 8, 8)
    found = VGG19Features(["0"])(x)["0"]
    weight = random_vgg19_state_dict(depth="conv1_1")["features.0.weight"]
    torch.testing.assert_close(found, nn.functional.conv2d((x - MEAN) / STD, weight, padding=1))


def test_the_address_is_torchvision_s():
    torchvision = pytest.importorskip("torchvision")
    assert torchvision.models.VGG19_Weights.IMAGENET1K_V1.url == vgg_module.URL


def test_without_a_network_the_error_says_what_to_fetch_and_where_to_put_it(empty_hub, monkeypatch):
    def no_network(*_args, **_kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(FileNotFoundError) as error:
        VGG19Features(["conv5_4"])
    message = str(error.value)
    for part in (
        "vgg19-dcbb9e9d.pth",
        "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        str(empty_hub),
        "`pretrained`",
        "no route to host",
    ):
        assert part in message
    assert "\n" not in message


def test_a_download_with_another_hash_is_refused_and_leaves_nothing(
    empty_hub, monkeypatch, shallow_file
):
    named = shallow_file.with_name("vgg19-dcbb9e9d.pth")
    shallow_file.rename(named)
    monkeypatch.setattr(vgg_module, "URL", named.as_uri())
    with pytest.raises(FileNotFoundError, match="invalid hash"):
        VGG19Features(["conv2_2"])
    assert not list(empty_hub.iterdir())
