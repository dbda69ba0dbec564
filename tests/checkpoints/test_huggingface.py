"""Generators are pushed to and loaded from a stand-in for the Hugging Face hub."""

import importlib
import json
import re
import shutil
import types
from hashlib import sha256
from pathlib import Path

import pytest
import torch
import yaml
from hub_stand_in import TOKEN, hub_stand_in

from srgan_plugin.checkpoints import huggingface, open_network, save_atomically
from srgan_plugin.checkpoints.convert import convert
from srgan_plugin.checkpoints.hub import local_checkpoint
from srgan_plugin.checkpoints.model_card import ModelCard
from srgan_plugin.errors import FileError, UserError
from srgan_plugin.networks import ModifiedVGG, MSRResNet, SRResNet

hub_library = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")

SMALL = {"mid_channels": 4, "num_blocks": 2}
REPO = "someone/tiny"
RESULTS = {"Set5": {"PSNR": 29.69, "SSIM": 0.8566}, "Set14": {"PSNR": 26.46, "seconds": 1.0}}
CARD = ModelCard(
    license="cc-by-4.0",
    name="Tiny",
    datasets=["eugenesiow/Div2k"],
    results=RESULTS,
    text="Trained.",
)


@pytest.fixture(scope="module")
def hub():
    with hub_stand_in() as running:
        yield running


@pytest.fixture
def api(hub, tmp_path, monkeypatch):
    """Return huggingface_hub's client for the stand-in, with an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    # As HF_ENDPOINT does, which is read once: 0.25 takes some URLs from there whatever the client.
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    download = importlib.import_module("huggingface_hub.file_download")
    monkeypatch.setattr(download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    hub.commits.clear()
    hub.requests.clear()
    client = hub_library.HfApi(endpoint=hub.url, token=TOKEN)
    monkeypatch.setattr(hub_library, "HfApi", lambda **_: client)
    return client


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (MSRResNet, {"activate_after_shuffle": True, "upscale_factor": 3}),
        (SRResNet, {"output_range": (-1, 1), "prelu": "channel"}),
        (
            SRResNet,
            {"act": "swish", "first_act": "prelu", "norm_eps": 1e-3, "upsample_norm": True}
            | {"input_range": "imagenet", "output_range": "imagenet", "last_act": "tanh"}
            | {"end_kernels": (9, 3), "shuffles": (4,), "depthwise": True},
        ),
        (SRResNet, {"act": "leaky_relu", "norm": "instance_affine", "trunk_end": "act"}),
        (SRResNet, {"norm": "instance", "upscale_factor": 3}),
    ],
)
def test_a_pushed_network_is_loaded_as_the_same_network(hub, api, rough, cls, options):
    network = rough(cls, **SMALL, **options)
    url = huggingface.push_to_hub(network, REPO, CARD)
    assert url == f"{hub.url}/{REPO}/commit/{hub.sha(REPO, 0)}"
    again = huggingface.from_pretrained(REPO)
    assert type(again) is cls
    assert not again.training
    image = torch.rand(1, 3, 6, 7)
    with torch.inference_mode():
        assert torch.equal(again(image), network(image))
        assert torch.equal(open_network(local_checkpoint(f"hf://{REPO}"))(image), network(image))


def test_the_front_matter_of_the_card_has_the_fields_that_the_hub_searches(hub, api, rough):
    huggingface.push_to_hub(rough(MSRResNet, **SMALL), REPO, CARD)
    files = hub.commits[REPO][-1]
    assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
    _, front, text = files["README.md"].decode().split("---\n", 2)
    data = yaml.safe_load(front)
    assert data["license"] == "cc-by-4.0"
    assert data["library_name"] == "srgan_plugin"
    assert data["pipeline_tag"] == "image-to-image"
    assert data["datasets"] == ["eugenesiow/Div2k"]
    assert data["metrics"] == ["psnr", "ssim"]
    assert {"super-resolution", "srgan", "msrresnet", "x4"} <= set(data["tags"])
    assert {
        (result["dataset"]["name"], metric["name"], metric["value"])
        for result in data["model-index"][0]["results"]
        for metric in result["metrics"]
    } == {("Set5", "PSNR", 29.69), ("Set5", "SSIM", 0.8566), ("Set14", "PSNR", 26.46)}
    for line in ("Trained.", f'from_pretrained("{REPO}")', f"hf://{REPO}", "| Set5 | 29.6900 |"):
        assert line in text
    config = json.loads(files["config.json"])
    assert config["architectures"] == ["MSRResNet"]
    assert config["arguments"]["upscale_factor"] == 4
    assert config["sha256"] == sha256(files["model.safetensors"]).hexdigest()


def test_an_older_revision_is_unchanged_and_the_cache_works_without_a_hub(hub, api, rough):
    networks = [rough(MSRResNet, **SMALL, seed=seed) for seed in (0, 1)]
    for network in networks:
        huggingface.push_to_hub(network, REPO, CARD)
    image = torch.rand(1, 3, 6, 7)
    first = huggingface.from_pretrained(REPO, revision=hub.sha(REPO, 0))
    latest = huggingface.from_pretrained(REPO)
    hub.requests.clear()
    offline = huggingface.from_pretrained(REPO, local_files_only=True)
    assert hub.requests == []
    with torch.inference_mode():
        assert torch.equal(first(image), networks[0](image))
        assert torch.equal(latest(image), networks[1](image))
        assert torch.equal(offline(image), networks[1](image))


def spoiled_weights(files):
    files["model.safetensors"] = files["model.safetensors"][:-1] + b"\x7f"


def other_arguments(files):
    config = json.loads(files["config.json"])
    config["arguments"]["activate_after_shuffle"] = True
    files["config.json"] = json.dumps(config).encode()


def foreign_config(files):
    files["config.json"] = b'{"model_type": "bert", "architectures": ["BertModel"]}'


def no_config(files):
    del files["config.json"]


def changed(**fields):
    def spoil(files):
        files["config.json"] = json.dumps(json.loads(files["config.json"]) | fields).encode()

    return spoil


def no_json(files):
    files["config.json"] = b"<html>"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoiled_weights, "SHA-256"),
        (other_arguments, "config.json"),
        (foreign_config, "arguments"),
        (no_config, "config.json"),
        (no_json, "JSON"),
        (changed(architectures="MSRResNet"), r"architectures \(list\).* got architectures='MSRR"),
        (changed(sha256=1), "got sha256=1"),
        (changed(architectures=["SRResNet"]), "expected SRResNet, as in its config.json, got MSRR"),
    ],
)
def test_a_repository_that_contradicts_its_config_is_refused(hub, api, rough, spoil, said):
    huggingface.push_to_hub(rough(MSRResNet, **SMALL), REPO, CARD)
    spoil(hub.commits[REPO][-1])
    with pytest.raises(UserError, match=said):
        huggingface.from_pretrained(REPO)


def test_after_removing_the_folder_in_the_message_a_damaged_download_is_replaced(hub, api, rough):
    huggingface.push_to_hub(rough(MSRResNet, **SMALL), REPO, CARD)
    cached = local_checkpoint(f"hf://{REPO}").resolve()
    cached.write_bytes(cached.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(UserError, match="remove the folder") as refusal:
        huggingface.from_pretrained(REPO)
    (folder,) = re.findall(r"remove the folder (\S+)", str(refusal.value))
    shutil.rmtree(folder)
    huggingface.from_pretrained(REPO)


def test_a_damaged_local_folder_is_not_to_be_removed(rough, tmp_path):
    huggingface.save_pretrained(rough(MSRResNet, **SMALL), tmp_path, CARD)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(UserError, match="SHA-256") as refusal:
        huggingface.from_pretrained(tmp_path)
    assert "remove" not in str(refusal.value)


def test_a_local_folder_takes_precedence_over_the_repository_of_its_name(
    hub, api, rough, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    huggingface.save_pretrained(network := rough(MSRResNet, **SMALL), REPO, CARD)
    image = torch.rand(1, 3, 6, 7)
    with torch.inference_mode():
        assert torch.equal(huggingface.from_pretrained(REPO)(image), network(image))
    assert hub.requests == []


def test_a_pickle_named_as_the_weights_runs_nothing(hub, api, rough, tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    huggingface.push_to_hub(rough(MSRResNet, **SMALL), REPO, CARD)
    files = hub.commits[REPO][-1]
    files["model.safetensors"] = pickle.dumps(Evil(), protocol=2)
    config = json.loads(files["config.json"])
    config["sha256"] = sha256(files["model.safetensors"]).hexdigest()
    files["config.json"] = json.dumps(config).encode()
    with pytest.raises(UserError, match="a pickle that calls") as refusal:
        huggingface.from_pretrained(REPO)
    assert str(refusal.value).count("model.safetensors") == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("repo", ["someone/missing", "a/b/c"])
def test_a_repository_that_does_not_exist_is_refused_in_one_line(api, repo):
    with pytest.raises(UserError, match=repo) as refusal:
        huggingface.from_pretrained(repo)
    assert "\n" not in str(refusal.value)


def test_a_push_that_the_hub_refuses_ends_in_one_line(hub, api, rough, monkeypatch):
    nobody = hub_library.HfApi().__class__(endpoint=hub.url, token="hf_other")
    with pytest.raises(UserError, match=REPO) as refusal:
        huggingface.push_to_hub(rough(MSRResNet, **SMALL), REPO, CARD, api=nobody)
    assert "401" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert REPO not in hub.commits


def test_an_interrupted_upload_ends_in_one_line(hub, api, rough):
    hub.refuses_uploads = True
    try:
        with pytest.raises(UserError, match=REPO):
            huggingface.push_to_hub(rough(MSRResNet, **SMALL), REPO, CARD)
    finally:
        hub.refuses_uploads = False
    assert hub.commits[REPO] == []


def test_a_discriminator_is_not_pushed(hub, api, rough):
    with pytest.raises(UserError, match="ModifiedVGG"):
        huggingface.push_to_hub(rough(ModifiedVGG, mid_channels=2), REPO, CARD)
    assert hub.requests == []


def test_the_tool_pushes_a_checkpoint_and_writes_a_folder(hub, api, rough, tool, fails, tmp_path):
    torch.save(rough(MSRResNet, **SMALL).state_dict(), "x.pth")
    Path("r.json").write_text(json.dumps(RESULTS))
    assert "--license" in fails("push_to_hub", "x.pth", REPO)
    tool("push_to_hub").main(["x.pth", REPO, "--license", "mit", "--results", "r.json"])
    tool("push_to_hub").main(["x.pth", REPO, "--license", "mit", "--folder", "written"])
    assert len(hub.commits[REPO]) == 1
    image = torch.rand(1, 3, 6, 7)
    with torch.inference_mode():
        pushed, written = huggingface.from_pretrained(REPO), huggingface.from_pretrained("written")
        assert torch.equal(pushed(image), written(image))


def test_the_bundled_weights_are_pushed_under_their_own_licence(hub, api, tool):
    tool("push_to_hub").main(["srgan", REPO, "--folder", "written"])
    assert "license: cc-by-sa-4.0" in Path("written/README.md").read_text()


def test_a_config_of_an_older_release_may_lack_an_argument(hub, api, rough):
    network = rough(SRResNet, **SMALL, norm="instance")
    huggingface.push_to_hub(network, REPO, CARD)
    files = hub.commits[REPO][-1]
    arguments = json.loads(files["config.json"])["arguments"]
    del arguments["norm"]
    changed(arguments=arguments)(files)
    assert huggingface.from_pretrained(REPO).norm == "instance"


def test_a_discriminator_in_a_repository_is_refused(rough, tmp_path):
    save_atomically(rough(ModifiedVGG, mid_channels=2).state_dict(), tmp_path / "d.pth")
    convert(tmp_path / "d.pth", weights := tmp_path / "model.safetensors", to="plugin")
    digest = sha256(weights.read_bytes()).hexdigest()
    config = {"architectures": ["ModifiedVGG"], "arguments": {}, "sha256": digest}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"expected one of .*MSRResNet.*, got .*ModifiedVGG"):
        huggingface.from_pretrained(tmp_path)


def test_a_file_is_refused_without_asking_the_hub(hub, api, tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match=r"expected a folder or a repository.*open_network"):
        huggingface.from_pretrained(tmp_path / "model.safetensors")
    assert hub.requests == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda network: network.half(), "expected float32 on the CPU, got torch.float16"),
        (lambda network: network.to("meta"), "expected float32 on the CPU, got .* on meta"),
        (lambda network: network.train(), "expected evaluation mode"),
    ],
)
def test_a_network_that_cannot_be_compared_is_refused_unchanged(rough, tmp_path, change, said):
    network = change(rough(SRResNet, **SMALL))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(UserError, match=said):
        huggingface.save_pretrained(network, tmp_path, CARD)
    if said == "expected evaluation mode":
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not (tmp_path / "model.safetensors").exists()


def test_the_visibility_is_sent_only_if_it_is_given(hub, api, rough, monkeypatch):
    sent = []
    create = api.create_repo
    monkeypatch.setattr(api, "create_repo", lambda *a, **k: (sent.append(k), create(*a, **k))[1])
    for private in (None, True):
        huggingface.push_to_hub(rough(MSRResNet, **SMALL), REPO, CARD, private=private)
    assert [options.get("private", "not sent") for options in sent] == ["not sent", True]


@pytest.mark.parametrize("error", [RuntimeError, KeyError])
def test_an_error_of_the_compiled_client_is_one_line_and_a_bug_is_not(api, monkeypatch, error):
    # huggingface_hub's `xet_get` calls `hf_xet.download_files`, whose errors have no frame of it.
    message = "Data processing error: CAS service error : Reqwest Error: connection reset"

    def xet_get(*args, **kwargs):
        raise error(message)

    calling = importlib.import_module("huggingface_hub.file_download").__dict__
    in_hub = types.FunctionType(xet_get.__code__, calling, None, None, xet_get.__closure__)
    monkeypatch.setattr(api, "snapshot_download", in_hub)
    with pytest.raises(FileError if error is RuntimeError else error, match="CAS service error"):
        huggingface.from_pretrained(REPO)
    monkeypatch.setattr(api, "snapshot_download", xet_get)
    with pytest.raises(error) as raised:  # elsewhere it is a bug
        huggingface.from_pretrained(REPO)
    assert not isinstance(raised.value, UserError)
