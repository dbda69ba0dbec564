"""Published checkpoints are downloaded by name, verified, and converted in memory."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from srgan_plugin.checkpoints import hub, open_network
from srgan_plugin.inference import open_model
from srgan_plugin.networks import MSRResNet

NAME = "msrresnet_x4c64b16_1x16_300k_div2k"
OWN_NAME = "msrresnet_x4c64b16_g1_1000k_div2k"
LR = np.random.default_rng(1).integers(0, 256, (11, 13, 3)).astype(np.uint8)
IMAGE = torch.from_numpy(LR).permute(2, 0, 1)[None] / 255


class Handler(BaseHTTPRequestHandler):
    """Handler that serves one file from the requested offset, at most `cut` bytes if set."""

    def do_GET(self):
        server = self.server
        start = int(self.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        server.starts.append(start)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(server.content) - start))
        last = len(server.content) - 1
        self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.content)}")
        self.end_headers()
        self.wfile.write(server.content[start : start + server.cut if server.cut else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch, rough):
    """Start a server with a file of OpenMMLab's layout, whose name ends with its hash."""
    network = rough(MSRResNet, mid_channels=4, num_blocks=2)
    state = {f"generator.{key}": weight for key, weight in network.state_dict().items()}
    torch.save({"state_dict": state, "meta": {"iter": 1}}, tmp_path / "published")
    content = (tmp_path / "published").read_bytes()
    file = f"{NAME}_20200521-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.cut, server.starts, server.network = content, 0, [], network
        server.target = tmp_path / "torch/hub/checkpoints" / file
        url = f"http://127.0.0.1:{server.server_port}/{file}"
        monkeypatch.setattr(hub, "PUBLISHED", {NAME: url})
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(timeout=10)


def gives(network, expected):
    with torch.inference_mode():
        assert torch.equal(network(IMAGE), expected(IMAGE))


def test_every_tool_takes_a_published_name_and_downloads_it_once(server, tool, capfd, caplog):
    cv2.imwrite("lr.png", LR[..., ::-1])
    tool("upscale").main(["lr.png", "sr.png", "--model", NAME, "--device", "cpu"])
    assert "downloading http://127.0.0.1" in caplog.text
    assert "activate_after_shuffle" not in caplog.text  # known of what OpenMMLab published
    with torch.inference_mode():
        expected = server.network(IMAGE)[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255
    assert np.abs(cv2.imread("sr.png")[..., ::-1] - expected).max() <= 0.51
    tool("inspect_checkpoint").main([NAME])
    said = capfd.readouterr().out
    assert "MSRResNet x4 (4 features, 2 blocks)" in said
    assert "as in its name" in said
    tool("convert_checkpoint").main([NAME, "own.safetensors", "--to", "plugin"])
    gives(open_network("own.safetensors"), server.network)
    assert server.starts == [0]
    assert server.target.is_file()  # where torch.hub and mmengine look as well


def test_test_py_and_training_take_a_published_name(
    server, tool, photographs, monkeypatch, fresh_mmengine
):
    monkeypatch.setenv("SRGAN_DATA", str(photographs))
    config = str(Path(__file__).parents[2] / f"configs/{OWN_NAME}.py")
    for checkpoint, out in ((NAME, "a.json"), (str(server.target), "b.json")):
        tool("test").main([config, checkpoint, "--work-dir", "w", "--out", out])
    scores = [json.loads(Path(name).read_text()) for name in ("a.json", "b.json")]
    assert scores[0] == scores[1]
    assert set(scores[0]) == {"Set5", "Set14"}
    from mmengine.config import Config

    cfg = Config.fromfile(config)
    cfg.merge_from_dict({"load_from": NAME, "work_dir": "w"})
    tool("train").set_start_checkpoint(cfg, None)
    assert cfg.load_from == str(server.target)
    assert server.starts == [0]


@pytest.mark.parametrize(
    "name",
    [
        OWN_NAME,  # MMEditing 0.x, and this package's config
        "msrresnet_x4c64b16_1xb16-1000k_div2k",  # MMagic 1.x
    ],
)
def test_names_in_other_versions_are_aliases_of_the_same_file(server, name):
    gives(open_model(name), server.network)


def test_the_name_of_the_file_is_an_alias(server):
    gives(open_model(server.target.stem), server.network)


@pytest.mark.parametrize("kind", ["name", "alias", "file name", "URL"])
def test_nothing_is_assumed_of_a_published_network_however_it_is_named(server, kind, caplog):
    named = {"name": NAME, "alias": OWN_NAME, "file name": server.target.stem}
    open_model((named | {"URL": hub.PUBLISHED[NAME]})[kind])
    assert "downloading" in caplog.text
    assert "activate_after_shuffle" not in caplog.text


def test_a_local_file_with_a_published_name_is_not_read_as_the_published_network(
    server, tmp_path, monkeypatch, rough, caplog
):
    monkeypatch.chdir(tmp_path)
    torch.save(rough(MSRResNet, 1, mid_channels=4, num_blocks=2).state_dict(), NAME)
    open_model(NAME)
    assert "activate_after_shuffle" in caplog.text


def test_names_of_other_publishers_imply_no_arguments():
    known = [*hub.BUNDLED_MODELS, *hub.PUBLISHED]
    assert [hub.published_arguments(name) for name in known] == [hub.BUNDLED_ARGUMENTS] * 5
    others = [*hub._KAIR, *hub._KAIR.values(), *hub._BASICSR, "hf://owner/name", "unknown"]
    assert [hub.published_arguments(name) for name in others] == [{}] * len(others)


def test_a_local_file_of_that_name_has_priority_over_the_published_one(
    server, tmp_path, monkeypatch, rough
):
    monkeypatch.chdir(tmp_path)
    own = rough(MSRResNet, 1, mid_channels=4, num_blocks=2)
    torch.save(own.state_dict(), NAME)
    gives(open_model(NAME), own)
    assert server.starts == []


def test_an_interrupted_download_resumes(server):
    server.cut = len(server.content) // 3
    gives(open_model(NAME), server.network)
    assert server.starts == [n * server.cut for n in range(len(server.starts))]
    assert len(server.starts) > 2


def test_a_download_that_differs_from_the_published_file_is_refused_and_deleted(server):
    server.content = server.content[:-1] + b"x"
    with pytest.raises(ValueError, match=": expected SHA-256") as caught:
        open_model(NAME)
    assert not server.target.exists()
    assert "\n" not in str(caught.value)


def test_without_a_network_the_message_says_where_the_file_goes(tmp_path, monkeypatch, fails):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    url = f"http://127.0.0.1:9/{NAME}_20200521-61556be5.pth"  # nobody listens
    monkeypatch.setattr(hub, "PUBLISHED", {NAME: url})
    said = fails("inspect_checkpoint", NAME)
    target = tmp_path / "torch/hub/checkpoints" / Path(url).name
    assert f"{url}: expected a complete download" in said
    assert said.endswith(f"by other means to {target}")


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("msrresnet_x4c64b16_1x16_300k_div2", NAME),
        ("MSRResNet", "msrresnet"),
        ("msrresnet_x4c64b16_1x16_300k_div2k.pth", NAME),
        ("msrresnet_x4_pnsr", "msrresnet_x4_psnr"),
        ("quite another", "msrresnet, srgan"),
    ],
)
def test_the_message_for_an_unknown_name_lists_similar_ones(fails, typed, near):
    said = fails("inspect_checkpoint", typed)
    assert f"{typed}: expected a checkpoint file" in said
    assert "; models by name: " in said
    assert near in said


def test_a_path_is_not_compared_with_names(fails):
    assert "models by name" not in fails("inspect_checkpoint", "weights/msrresnet_x4_pnsr")


def test_checkpoints_that_only_a_browser_can_download_are_refused_with_their_page(fails):
    said = fails("inspect_checkpoint", "001_MSRResNet_x4_f64b16_DIV2K_1000k_B16G1_wandb")
    assert "ModelZoo.md and give its path" in said
