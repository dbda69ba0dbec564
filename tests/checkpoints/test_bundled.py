"""The bundled weights exist, are small and good, and their cards are correct."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from srgan_plugin.checkpoints import hub
from srgan_plugin.checkpoints.hub import BUNDLED_MODELS, WEIGHTS, local_checkpoint
from srgan_plugin.data.benchmark_sets import find_benchmark
from srgan_plugin.data.resize import imresize
from srgan_plugin.inference import Upscaler, open_model
from srgan_plugin.io.download import sha256
from srgan_plugin.metrics import Scorer, evaluate
from srgan_plugin.networks import MSRResNet

DOCS = Path(__file__).resolve().parent.parent.parent / "docs/zoo"
RESULTS = DOCS / "results.json"


@pytest.mark.parametrize("name", BUNDLED_MODELS)
def test_bundled_weights_are_half_precision_and_about_three_megabytes(name):
    path = WEIGHTS / f"{name}.safetensors"
    with safe_open(path, "pt") as file:
        kinds = {file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118 - no dict
    assert kinds == {torch.float16}
    assert 2.9e6 < path.stat().st_size < 3.3e6


@pytest.mark.parametrize("name", BUNDLED_MODELS)
def test_bundled_weights_open_by_their_name_as_the_published_network(name):
    network = open_model(name)
    assert isinstance(network, MSRResNet)
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_517_571
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "got others"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:8\n", "Git LFS"),
        (lambda content: b"", "an empty file"),
    ],
)
def test_bundled_weights_that_were_changed_are_refused(tmp_path, monkeypatch, change, said):
    for name in ("msrresnet.safetensors", hub.SUMS):
        shutil.copy(WEIGHTS / name, tmp_path / name)
    monkeypatch.setattr(hub, "WEIGHTS", tmp_path)
    path = tmp_path / "msrresnet.safetensors"
    assert local_checkpoint("msrresnet") == path
    hub._bundled_path.cache_clear()
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"msrresnet\.safetensors: expected .*{said}") as caught:
        open_model("msrresnet")
    assert sha256(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_copy_of_bundled_weights_opens_without_an_assumption_and_other_weights_do_not(
    tmp_path, monkeypatch, caplog, rough
):
    for name in ("bundled", "other"):
        network = rough(MSRResNet, len(name), mid_channels=4, num_blocks=1)
        note = {"srgan_plugin": '{"network": "MSRResNet", "activate_after_shuffle": false}'}
        save_file(network.state_dict(), tmp_path / f"{name}.safetensors", note)
    digest = sha256(tmp_path / "bundled.safetensors")
    (tmp_path / hub.SUMS).write_text(f"{digest}  msrresnet.safetensors\n")
    monkeypatch.setattr(hub, "WEIGHTS", tmp_path)
    open_model(str(tmp_path / "bundled.safetensors"))
    assert caplog.text == ""
    open_model(str(tmp_path / "other.safetensors"))
    assert "activate_after_shuffle" in caplog.text


@pytest.mark.parametrize("name", BUNDLED_MODELS)
def test_inspection_knows_the_function_of_bundled_weights_and_another_one_is_refused(
    name, tool, tmp_path, capsys
):
    copy = tmp_path / "copy.safetensors"
    shutil.copy(WEIGHTS / f"{name}.safetensors", copy)
    for location in (name, str(copy)):
        tool("inspect_checkpoint").main([location])
        shown = capsys.readouterr().out
        assert "activate_after_shuffle=False" in shown
        assert "unrecorded" not in shown
        with pytest.raises(ValueError, match=r"activate_after_shuffle: expected False.*got True"):
            open_model(location, arch_options={"activate_after_shuffle": True})
        open_model(location, arch_options={"activate_after_shuffle": False})


def test_missing_bundled_weights_are_named_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "WEIGHTS", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"srgan\.safetensors: .*, got .*; reinstall"):
        open_model("srgan")


@pytest.mark.parametrize("name", BUNDLED_MODELS)
def test_bundled_weights_are_hashed_once_in_a_process(name, monkeypatch):
    local_checkpoint(name)
    monkeypatch.setattr(hub, "sha256", None)
    assert local_checkpoint(name) == WEIGHTS / f"{name}.safetensors"


def test_the_two_networks_differ_and_a_blend_lies_between_them():
    image = np.random.default_rng(0).integers(0, 256, (24, 20, 3)).astype(np.uint8)
    soft, half, sharp = (
        Upscaler(open_model(blend=share))(image).astype(int) for share in (0, 0.5, 1)
    )
    assert np.array_equal(soft, Upscaler(open_model("msrresnet"))(image))
    assert np.array_equal(sharp, Upscaler(open_model("srgan"))(image))
    far = np.abs(soft - sharp).mean()
    assert far > 0.5
    assert np.abs(half - soft).mean() < far
    assert np.abs(half - sharp).mean() < far


GAIN = 3  # dB, the aim


def test_the_bundled_msrresnet_beats_bicubic_clearly_on_set5(shared_data):
    set5, scorer = find_benchmark("Set5", shared_data / "benchmark"), Scorer(border=4)
    bicubic = evaluate(lambda lr: imresize(lr / 255, 4), set5, scorer)["PSNR"]
    ours = evaluate(Upscaler(open_model("msrresnet")), set5, scorer)["PSNR"]
    assert bicubic == pytest.approx(26.665, abs=1e-3)  # measured apart from this project
    assert ours >= bicubic + GAIN
    recorded = json.loads(RESULTS.read_text())["sets"]["Set5"]["msrresnet"]["PSNR"]
    assert ours == pytest.approx(recorded, abs=0.01)


@pytest.mark.parametrize("name", BUNDLED_MODELS)
def test_a_card_states_the_licence_the_data_and_the_hash_of_its_file(name):
    text = (WEIGHTS / f"{name}.md").read_text()
    digest = sha256(WEIGHTS / f"{name}.safetensors")
    assert digest in text
    assert json.loads(RESULTS.read_text())["weights"][name]["sha256"] == digest
    assert f"{digest}  {name}.safetensors" in (WEIGHTS / "SHA256SUMS").read_text().splitlines()
    for words in ("CC BY-SA 4.0", "CID22", "CLIC 2025", "Unsplash licence", "`LICENSE`"):
        assert words in text
    assert "Neither Set5, Set14, B100, Kodak24" in text
    licence = (WEIGHTS / "LICENSE").read_text()
    assert f"{name}.safetensors" in licence
    assert "https://creativecommons.org/licenses/by-sa/4.0/" in licence


def test_every_image_in_a_card_or_the_readme_exists_and_is_small():
    for name in ("msrresnet.svg", "srgan.svg", "before_after.webp"):
        assert 0 < (DOCS / name).stat().st_size < 400_000
    readme = (DOCS.parent.parent / "README.md").read_text()
    assert "docs/zoo/before_after.webp" in readme
    assert readme.index("before_after.webp") < readme.index("## ")
