"""`make table` downloads from a local server, verifies, converts and measures."""

import hashlib
import http.server
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from srgan_plugin.checkpoints import hub
from srgan_plugin.data import benchmark_sets
from srgan_plugin.io.images import read_image
from srgan_plugin.metrics import PROTOCOLS, Scorer
from srgan_plugin.metrics.reference_results import MODELS as REFERENCES
from srgan_plugin.networks import MSRResNet, SRResNet

MODELS = ("msrresnet_x4c64b16_1x16_300k_div2k", "srgan_x4c64b16_1x16_1000k_div2k")
SMALL = {"mid_channels": 4, "num_blocks": 2}


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch, rough):
    """Start a mirror with two files of the published layout; names end with hashes."""
    folder = tmp_path / "server"
    folder.mkdir()
    networks, reference = {}, {}
    for seed, name in enumerate(MODELS):
        networks[name] = rough(MSRResNet, seed, **SMALL)
        state = {f"generator.{k}": w for k, w in networks[name].state_dict().items()}
        content = {"state_dict": state, "optimizer": {}, "meta": {"iter": 1}}
        torch.save(content, folder / "x", _use_new_zipfile_serialization=False)
        digits = hashlib.sha256((folder / "x").read_bytes()).hexdigest()[:8]
        (folder / "x").rename(folder / f"{name}_20200521-{digits}.pth")
        reference[name] = f"https://nowhere.invalid/{name}_20200521-{digits}.pth"
    monkeypatch.setattr(hub, "PUBLISHED", reference)

    def handler(*args):
        return QuietHandler(*args, directory=str(folder))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", folder, networks
        server.shutdown()
        thread.join(timeout=10)


@pytest.fixture
def data(photographs, monkeypatch):
    monkeypatch.setenv("SRGAN_DATA", str(photographs))
    return photographs


def measured_by_hand(network, data, name):
    """Return scikit-image's PSNR over RGB of the rounded image without a border of 4."""
    values = []
    for path in sorted((data / name / "GTmod12").iterdir()):
        lr = torch.from_numpy(read_image(data / name / "LRbicx4" / path.name))
        with torch.inference_mode():
            sr = network(lr.permute(2, 0, 1)[None].float() / 255)[0].permute(1, 2, 0)
        sr = (sr.clamp(0, 1) * 255).round().byte().numpy()
        inside = (slice(4, -4), slice(4, -4))
        values.append(peak_signal_noise_ratio(read_image(path)[inside], sr[inside]))
    return np.mean(values)


def test_both_published_models_are_downloaded_verified_converted_and_measured(
    server, data, tool, capsys, monkeypatch
):
    monkeypatch.setattr(
        benchmark_sets, "SIZES", {}
    )  # these sets are smaller than the published ones
    url, folder, networks = server
    tool("make_table").main(["--mirror", url, "--out", "results"])
    said = capsys.readouterr()
    for name in MODELS:
        scores = json.loads(Path(f"results/{name}.json").read_text())
        assert set(scores) == {"Set5", "Set14"}
        assert set(scores["Set5"]) == {*Scorer(PROTOCOLS).metrics, "images"}
        for each in scores:
            by_hand = measured_by_hand(networks[name], data, each)
            assert scores[each]["PSNR"] == pytest.approx(by_hand, abs=1e-6)
        assert f"{scores['Set5']['PSNR']:.4f}" in said.out
    assert "30.2252" in said.out
    assert "27.9499" in said.out
    assert "28.4300" in said.out  # the paper's bicubic on Y
    assert "B100" in said.err
    for path in folder.iterdir():  # a second time nothing is asked of the server
        path.unlink()
    tool("make_table").main(["--mirror", url, "--out", "results"])


def test_a_file_that_is_not_the_published_one_is_refused(server, data, fails):
    url, folder, _ = server
    path = next(folder.glob("msrresnet*"))
    path.write_bytes(path.read_bytes() + b"x")
    assert ": expected SHA-256" in fails("make_table", "--mirror", url, "--no-bundled")


def test_files_with_the_same_name_from_two_urls_are_distinguished(server, tmp_path):
    url, folder, _ = server
    for place in "ab":
        (folder / place).mkdir()
        (folder / place / "model.safetensors").write_text(f"weights of {place}")
    fetched = [
        hub.local_checkpoint(f"{url}{place}/model.safetensors?download=true", folder=tmp_path)
        for place in "ab"
    ]
    assert [path.read_text() for path in fetched] == ["weights of a", "weights of b"]
    assert {path.name for path in fetched} == {"model.safetensors"}


def test_without_a_network_bicubic_and_local_checkpoints_are_measured(
    data, tool, rough, capsys, tmp_path
):
    network = rough(MSRResNet, **SMALL)
    torch.save({"state_dict": network.state_dict()}, "mine.pth")
    closed = "http://127.0.0.1:9"  # nobody listens
    tool("make_table").main(["--mirror", closed, "--checkpoint", "mine=mine.pth"])
    said = capsys.readouterr()
    assert "expected a complete download" in said.err
    assert said.out.count("not measured: no checkpoint") == len(REFERENCES) - 1  # bicubic
    scores = json.loads((tmp_path / "results/mine.json").read_text())
    by_hand = measured_by_hand(network, data, "Set5")
    assert scores["Set5"]["PSNR"] == pytest.approx(by_hand, abs=1e-6)
    assert (tmp_path / "results/bicubic.json").is_file()


def test_a_refused_checkpoint_is_a_line_of_the_tables_and_the_others_are_measured(
    data, fails, rough, capfd, tmp_path, monkeypatch
):
    network = rough(MSRResNet, **SMALL)
    for name, scale in (("good", 4), ("double", 2)):
        other = rough(MSRResNet, **SMALL, upscale_factor=scale)
        torch.save({"state_dict": (network if scale == 4 else other).state_dict()}, f"{name}.pth")
    Path("bad.pth").write_text("a page")
    given = [f"{name}={name}.pth" for name in ("bad", "double", "good")]
    printed = []
    monkeypatch.setattr("builtins.print", lambda *words, **_: printed.append(str(words[0])))
    said = fails("make_table", "--offline", "--no-bundled", "--checkpoint", *given)
    assert all(word in said for word in ("bad.pth", "double.pth", "x4"))
    tables = "\n".join(printed)
    assert "bad – not measured: " in tables
    assert "double – not measured: " in tables
    scores = json.loads((tmp_path / "results/good.json").read_text())
    assert scores["Set5"]["PSNR"] == pytest.approx(
        measured_by_hand(network, data, "Set5"), abs=1e-6
    )
    assert not (tmp_path / "results/bad.json").exists()


def test_an_srresnet_without_a_recorded_range_is_not_measured_with_a_guess(
    data, tool, fails, rough, tmp_path
):
    torch.save(rough(SRResNet, **SMALL).state_dict(), tmp_path / "x.pth")
    arguments = ("--offline", "--checkpoint", "srresnet=x.pth")
    said = fails("make_table", *arguments)
    assert "x.pth: output_range: expected (0, 1) or (-1, 1)" in said
    assert "--arch-option output_range=" in said
    assert "tools/convert_checkpoint.py" in said
    arch_options = ["--to", "plugin", "--arch-option", "output_range=(-1,1)"]
    tool("convert_checkpoint").main(["x.pth", "y.pth", *arch_options])
    tool("make_table").main(["--offline", "--checkpoint", "srresnet=y.pth"])
