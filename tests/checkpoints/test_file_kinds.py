"""Files that are not checkpoints are refused in one line with their kind and a hint."""

import zipfile

import pytest
import torch

from srgan_plugin.checkpoints import load_checkpoint_file
from srgan_plugin.networks import MSRResNet

KERAS = "save_weights"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("checkpoint", b'model_checkpoint_path: "model-200000"\n', f"list.*{KERAS}"),
        ("model-200000.index", bytes(90), f"TensorFlow checkpoint.*{KERAS}"),
        ("model-200000.data-00000-of-00001", b"\x01\x02\x03", f"TensorFlow checkpoint.*{KERAS}"),
        ("model.ckpt-200000.meta", b"\n\xa1whatever", f"TensorFlow checkpoint.*{KERAS}"),
        ("renamed.bin", bytes(50) + bytes.fromhex("57fb808b247547db"), "TensorFlow checkpoint"),
        ("saved_model.pb", b"\x08\x01\x12\xa2", f"SavedModel.*{KERAS}"),
        ("frozen_graph.pb", b"\n\x12\n\x05input", "TensorFlow graph.*the checkpoint"),
        ("srgan-0010.params", b"\x12\x01" + bytes(30), "MXNet"),
        ("srgan.caffemodel", b"\n\x05SRGAN", "Caffe model"),
        ("deploy.prototxt", b'name: "SRGAN"\n', "description of a Caffe model"),
        ("renamed.pth", b"\x1c\0\0\0TFL3\x14\0", "TensorFlow Lite"),
    ],
)
def test_a_file_of_another_framework_is_refused_by_its_name(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: .*{message}") as caught:
        load_checkpoint_file(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_keras_3_model_is_refused_with_the_line_that_unpacks_its_weights(tmp_path):
    path = tmp_path / "generator.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, "{}")
    with pytest.raises(ValueError, match=r"generator\.keras: .*Keras model.*unzip -p FILE"):
        load_checkpoint_file(path)


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        (("saved_model.pb", "variables/variables.index"), f"SavedModel.*{KERAS}"),
        (("checkpoint", "model-1.index", "model-1.data-00000-of-00001"), "TensorFlow"),
        ((".metadata", "__0_0.distcp"), "dcp_to_torch"),
        (("iter_100.pth", "last_checkpoint"), r"give a file in it, such as .*iter_100\.pth"),
        (("readme.txt",), "a folder without one"),
        ((), "a folder without one"),
    ],
)
def test_a_folder_is_refused_with_a_hint_for_its_content(tmp_path, inside, message):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in inside:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=f"model.*{message}") as caught:
        load_checkpoint_file(folder)
    assert "\n" not in str(caught.value)


def test_an_unpacked_checkpoint_opens_again_after_the_command_in_the_message(tmp_path):
    weights = MSRResNet(mid_channels=4, num_blocks=1).state_dict()
    torch.save(weights, tmp_path / "net.pth")
    with zipfile.ZipFile(tmp_path / "net.pth") as archive:
        archive.extractall(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"unpacked torch checkpoint; zip -0 -r NEW\.pth FOLDER"
    ):
        load_checkpoint_file(tmp_path / "net")
    with zipfile.ZipFile(tmp_path / "NEW.pth", "w") as archive:
        for file in sorted((tmp_path / "net").rglob("*")):
            archive.write(file, file.relative_to(tmp_path))
    again = load_checkpoint_file(tmp_path / "NEW.pth")
    assert all(torch.equal(again[key], weight) for key, weight in weights.items())


def test_the_prefix_of_a_tensorflow_checkpoint_is_recognised(tmp_path):
    for end in ("index", "data-00000-of-00001", "meta"):
        (tmp_path / f"model-200000.{end}").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=f"model-200000: .*the name of a Tens.*{KERAS}"):
        load_checkpoint_file(tmp_path / "model-200000")


@pytest.mark.parametrize("typed", ["net_g_40000.pth", "net_g_400000", "net_g_400000.pht"])
def test_files_with_names_similar_to_a_missing_one_are_listed(tmp_path, typed):
    for name in ("net_g_400000.pth", "other.txt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=rf"{typed}: .*; near: net_g_400000\.pth$"):
        load_checkpoint_file(tmp_path / typed)
