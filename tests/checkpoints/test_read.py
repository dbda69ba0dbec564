"""Checkpoint files are read without running code, refused in one line, and saved atomically."""

import gzip
import io
import math
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from srgan_plugin.checkpoints.pickle_protocol import to_protocol_2
from srgan_plugin.checkpoints.read_write import load_checkpoint_file, save_atomically
from srgan_plugin.checkpoints.safe_unpickle import History

FORMATS = [pytest.param(True, id="zip"), pytest.param(False, id="legacy")]


class Calls:
    """An object that pickles as the call of a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def save(path, obj, *, zipped=True):
    torch.save(obj, path, _use_new_zipfile_serialization=zipped)
    return path


def weights():
    return OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.tensor([1, 2]))


@pytest.mark.parametrize("zipped", FORMATS)
def test_both_formats_of_torch_are_read_with_all_plain_values(tmp_path, zipped):
    saved = {"state_dict": weights(), "iter": 3, "meta": {"names": ["x", (1, 2.5)], "none": None}}
    loaded = load_checkpoint_file(save(tmp_path / "x.pth", saved, zipped=zipped))
    assert loaded["meta"] == saved["meta"]
    assert loaded["iter"] == 3
    assert all(torch.equal(loaded["state_dict"][k], w) for k, w in weights().items())


def test_safetensors_are_read(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(dict(weights()), tmp_path / "x.safetensors")
    loaded = load_checkpoint_file(tmp_path / "x.safetensors")
    assert torch.equal(loaded["a"], weights()["a"])
    (tmp_path / "x.safetensors").write_bytes(b"\x09" * 40)
    with pytest.raises(ValueError, match=r"x\.safetensors.*checkpoint"):
        load_checkpoint_file(tmp_path / "x.safetensors")


def test_equal_weights_and_metadata_give_equal_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    path, contents = tmp_path / "x.safetensors", set()
    meta = {f"key{n}": "ü" * n for n in range(9)}
    for _ in range(20):
        save_atomically({"state_dict": {**weights(), "b": torch.ones(3)}, "meta": meta}, path)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    assert int.from_bytes(contents.pop()[:8], "little") % 8 == 0
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == {**meta, "format": "pt"}
        assert torch.equal(file.get_tensor("a"), weights()["a"])
        assert torch.equal(file.get_tensor("b"), torch.ones(3))


@pytest.mark.parametrize("zipped", FORMATS)
def test_log_histories_of_mmengine_are_read(tmp_path, zipped):
    logging = pytest.importorskip("mmengine.logging")
    buffer = logging.HistoryBuffer([1.0, 3.0], [1, 2])
    saved = {
        "message_hub": {"loss": buffer, "same": buffer},
        "numbers": [np.float64(2.5), np.int32(-7), np.bool_(True), np.arange(6.0).reshape(2, 3).T],
    }
    path = save(tmp_path / "x.pth", saved, zipped=zipped)
    loaded = load_checkpoint_file(path)
    *scalars, array = loaded["numbers"]
    assert scalars == [2.5, -7, True]
    assert [type(s) for s in scalars] == [np.float64, np.int32, np.bool_]
    np.testing.assert_array_equal(array, np.arange(6.0).reshape(2, 3).T)
    curve = loaded["message_hub"]["loss"]
    assert isinstance(curve, History)
    assert curve is loaded["message_hub"]["same"]
    assert (curve.log_history.tolist(), curve.count_history.tolist()) == ([1.0, 3.0], [1, 2])
    resumed = load_checkpoint_file(path, history=logging.HistoryBuffer)["message_hub"]["loss"]
    assert resumed.mean() == buffer.mean()
    assert resumed.current() == 3.0


@pytest.mark.slow
def test_reading_mmengines_types_does_not_load_mmengine(tmp_path):
    logging = pytest.importorskip("mmengine.logging")
    path = save(tmp_path / "x.pth", {"curve": logging.HistoryBuffer([1.0], [1])})
    code = (
        "import sys; from srgan_plugin.checkpoints import load_checkpoint_file as load;"
        f"load({str(path)!r});"
        "sys.exit(any(m in sys.modules for m in ('mmengine', 'mmagic', 'basicsr', 'mmcv')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_safe_globals_that_the_process_registered_change_nothing(tmp_path):
    path = save(tmp_path / "x.pth", {"numbers": np.arange(3), "call": Calls(math.sqrt, 4.0)})
    allowed = [np.dtype, np.ndarray, math.sqrt]
    with torch.serialization.safe_globals(allowed):
        with pytest.raises(ValueError, match=r"math\.sqrt"):
            load_checkpoint_file(path)
        assert set(torch.serialization.get_safe_globals()) >= set(allowed)
    save(path, {"numbers": np.arange(3)})
    with torch.serialization.safe_globals(allowed):
        assert load_checkpoint_file(path)["numbers"].tolist() == [0, 1, 2]
    assert not set(torch.serialization.get_safe_globals()) & set(allowed)


@pytest.mark.parametrize("zipped", FORMATS)
def test_a_call_is_refused_by_name_and_not_run(tmp_path, zipped):
    mark = tmp_path / "mark"
    saved = {"state_dict": weights(), "x": Calls(os.system, f"touch {mark}")}
    path = save(tmp_path / "x.pth", saved, zipped=zipped)
    with pytest.raises(ValueError, match=r"x\.pth.*(posix|nt)\.system") as caught:
        load_checkpoint_file(path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_bare_pickle_is_refused_by_the_name_that_it_calls(tmp_path, protocol):
    mark = tmp_path / "mark"
    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps({"x": Calls(os.system, f"touch {mark}")}, protocol))
    with pytest.raises(ValueError, match=r"(posix|nt)\.system") as caught:
        load_checkpoint_file(path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_getattr_reaches_only_methods_of_the_log_history(tmp_path):
    path = save(tmp_path / "x.pth", {"x": Calls(getattr, torch.Tensor, "numpy")})
    with pytest.raises(ValueError, match="getattr"):
        load_checkpoint_file(path)


def test_numpy_objects_and_forged_types_are_refused(tmp_path):
    """With a dtype of wrong flags, numpy reads bytes as pointers, and the process crashes."""
    path = save(tmp_path / "x.pth", {"x": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="'O8'"):
        load_checkpoint_file(path)

    class Forged:
        def __reduce__(self):
            return np.dtype, ("f8", False, True), (3, "|", None, None, None, -1, -1, 63)

    scalar = np.float64(1).__reduce__()[0]
    save(path, {"x": Calls(scalar, Forged(), b"A" * 8)})
    assert load_checkpoint_file(path)["x"] == np.frombuffer(b"A" * 8)[0]


def test_a_checkpoint_that_contains_itself_is_read(tmp_path):
    saved = {"state_dict": {}}
    saved["state_dict"]["again"] = saved
    loaded = load_checkpoint_file(save(tmp_path / "x.pth", saved))
    assert loaded["state_dict"]["again"] is loaded


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html>", "web page.*download"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS.*git lfs pull"),
        (gzip.compress(b"weights", mtime=0), "gzip.*unpack"),
        (b"MATLAB 5.0 MAT-file, Platform: GLNXA64", r"MATLAB.*state_dict"),
        (b"\x12\x01" + bytes(30), r"MXNet parameters \(\.params\)"),
        (b"\x08\x08\x12\x07pytorch", "an ONNX model"),
        (bytes(50) + bytes.fromhex("57fb808b247547db"), "TensorFlow"),
        (b"\x93NUMPY\x01\x00", "NumPy"),
        (b'{"error": "not found"}', "JSON"),
        (b"\x89PNG\r\n\x1a\n", "an image"),
        (pickle.dumps({"a": 1}), "a plain pickle"),
        (b"nothing of the kind", "torch.save"),
        (b"PK\x03\x04 and so on", "not a zip file"),
    ],
)
def test_files_that_are_not_checkpoints_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "model.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_checkpoint_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("srresnet.caffemodel", "Caffe"),
        ("model.ckpt-500.data-00000-of-00001", "TensorFlow"),
        ("model.onnx", "ONNX"),
    ],
)
def test_files_without_a_signature_are_recognised_by_name(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"\n\x08whatever")
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        load_checkpoint_file(tmp_path / name)


def test_archives_of_other_programs_are_recognised(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, its files are not
        torch.jit.save(torch.jit.script(nn.Conv2d(3, 3, 3)), str(tmp_path / "jit.pth"))
    with zipfile.ZipFile(tmp_path / "release.pth", "w") as archive:
        archive.write(save(tmp_path / "x.pth", weights()), "folder/x.pth")
    for name, said in (
        ("jit.pth", r"TorchScript.*torch\.jit\.load\(FILE\)\.state_dict"),
        ("release.pth", "checkpoint.*unpack"),
    ):
        with pytest.raises(ValueError, match=f"{name}.*{said}"):
            load_checkpoint_file(tmp_path / name)


@pytest.mark.parametrize(
    "name",
    ["code.pth", "code", "constants.pkl.pth", "archive_format.pth", "x.npy.pth", "extra.pth.tar"],
)
def test_the_folder_in_an_archive_does_not_decide_its_kind(tmp_path, name):
    """torch names the folder in its archive after the file."""
    assert torch.equal(load_checkpoint_file(save(tmp_path / name, weights()))["a"], weights()["a"])


def test_a_torchscript_archive_is_refused_under_every_name(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("code.pth", "x.pth.tar"):
            torch.jit.save(torch.jit.script(nn.Conv2d(3, 3, 3)), str(tmp_path / name))
            with pytest.raises(ValueError, match=f"{name}: .*TorchScript"):
                load_checkpoint_file(tmp_path / name)


def test_the_format_is_detected_from_the_content_and_not_the_name(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(dict(weights()), tmp_path / "x.pth")
    save(tmp_path / "x.safetensors", weights())
    for name in ("x.pth", "x.safetensors"):
        assert torch.equal(load_checkpoint_file(tmp_path / name)["a"], weights()["a"])


ODD_VALUES = {
    "numbers": [2**70, -70_000, 2**31, 1.5, True, None, 3 + 4j],
    "text": ["é\ud800", "collections", "OrderedDict", "collections"],
    "bytes": [b"\xff\x00a", bytearray(b"x\xe9")],
    "sets": [set(), {1, 2}, set(range(2500))],
    "torch": [torch.Size([1, 2]), torch.float16, torch.device("cpu")],
    "long": list(range(3000)),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", FORMATS)
def test_every_pickle_protocol_is_read(tmp_path, zipped, protocol):
    state = weights()
    state["view"], state["half"] = state["a"].t(), nn.Parameter(torch.ones(3).half())
    arrays = [np.float64(2.5), np.arange(6.0).reshape(2, 3).T, np.arange(6, dtype=">i4")]
    path, saved = tmp_path / "x.pth", {"state_dict": state, "arrays": arrays, **ODD_VALUES}
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    torch.save(saved, path, **options)
    loaded = load_checkpoint_file(path)
    assert {name: loaded[name] for name in ODD_VALUES} == ODD_VALUES
    assert all(torch.equal(loaded["state_dict"][key], weight) for key, weight in state.items())
    assert loaded["state_dict"]["view"].data_ptr() == loaded["state_dict"]["a"].data_ptr()
    for array, expected in zip(loaded["arrays"], arrays, strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("zipped", FORMATS)
def test_no_pickle_protocol_runs_anything(tmp_path, zipped, protocol):
    mark, path = tmp_path / "mark", tmp_path / "x.pth"
    for call in (Calls(os.system, f"touch {mark}"), Calls(getattr, torch.Tensor, "numpy")):
        options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
        torch.save({"a": torch.ones(2), "x": call}, path, **options)
        with pytest.raises(ValueError, match=r"(posix|nt)\.system|getattr") as error:
            load_checkpoint_file(path)
        assert "\n" not in str(error.value)
        assert not mark.exists()


@pytest.mark.parametrize("protocol", [4, 5])
def test_log_histories_of_every_protocol_are_read(tmp_path, protocol):
    logging = pytest.importorskip("mmengine.logging")
    buffer = logging.HistoryBuffer([1.0, 3.0], [1, 2])
    torch.save({"loss": buffer}, tmp_path / "x.pth", pickle_protocol=protocol)
    loaded = load_checkpoint_file(tmp_path / "x.pth", history=logging.HistoryBuffer)["loss"]
    assert (loaded.mean(), loaded.current()) == (buffer.mean(), 3.0)


def test_a_pickle_that_repeats_a_long_name_does_not_fill_the_memory():
    name = pickle.SHORT_BINUNICODE + b"\xc8" + b"a" * 200 + pickle.MEMOIZE
    bomb = b"\x80\x04" + name * 2 + pickle.STACK_GLOBAL + b"h\x00" * 1_000_000 + pickle.STOP
    with pytest.raises(ValueError, match="repeats"):
        to_protocol_2(io.BytesIO(bomb))


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path):
    for path, what in ((tmp_path / "no.pth", "no such file"), (tmp_path, "a folder")):
        with pytest.raises(FileNotFoundError, match=f"{path}: .*got {what}"):
            load_checkpoint_file(path)


def test_a_checkpoint_that_is_not_a_dict_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.pth.*dict.*list"):
        load_checkpoint_file(save(tmp_path / "x.pth", [torch.ones(2)]))


def test_an_archive_that_unpacks_to_more_than_itself_is_refused(tmp_path):
    path = save(tmp_path / "x.pth", {"a": torch.zeros(200_000)})
    packed = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w") as bomb:
        for entry in source.namelist():
            bomb.writestr(entry, source.read(entry), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"unpacks to \d+"):
        load_checkpoint_file(packed)


@pytest.mark.parametrize("protocol", [2, 4])
def test_damage_to_a_file_neither_crashes_nor_changes_a_weight(tmp_path, protocol):
    draw = random.Random(0)
    buffer = io.BytesIO()
    torch.save({"state_dict": weights()}, buffer, pickle_protocol=protocol)
    whole, path, refused = buffer.getvalue(), tmp_path / "x.pth", 0
    for number in range(300):
        damaged = bytearray(whole)
        if number % 3:
            for _ in range(number % 3):
                damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        else:
            del damaged[draw.randrange(len(whole)) :]
        path.write_bytes(damaged)
        try:
            loaded = load_checkpoint_file(path)["state_dict"]
        except ValueError as error:
            refused += 1
            assert str(path) in str(error)
            assert "\n" not in str(error)
        else:
            assert all(torch.equal(loaded[key], weight) for key, weight in weights().items())
    assert refused > 150


def test_a_saved_file_is_read_again_and_no_temporary_file_remains(tmp_path):
    save_atomically({"a": torch.ones(3)}, tmp_path / "x.pth")
    save_atomically({"a": torch.zeros(3)}, tmp_path / "x.pth")
    assert load_checkpoint_file(tmp_path / "x.pth")["a"].tolist() == [0, 0, 0]
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "x.pth"
    save_atomically({"a": torch.ones(3)}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(OSError, match="unchanged") as caught:
            save_atomically({"a": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.filename == str(path)
    assert load_checkpoint_file(path)["a"].tolist() == [1, 1, 1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.pth"]
