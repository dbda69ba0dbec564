"""Files with a pickled module: the advice on them is run as a user would, and nothing else is."""

import argparse
import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from srgan_plugin.checkpoints import load_checkpoint_file
from srgan_plugin.checkpoints.pickled_modules import explain_pickled_module
from srgan_plugin.checkpoints.wrappers import unwrap
from srgan_plugin.errors import UserError

NETWORK = """
from torch import nn


class Net(nn.Module):
    class Nested:
        pass

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 2, 3)


class Settings:
    def __init__(self, network=None):
        self.network = network
"""


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Return the module `their_models`; the current folder has its file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "their_models.py").write_text(NETWORK)
    monkeypatch.delitem(sys.modules, "their_models", raising=False)
    yield importlib.import_module("their_models")
    sys.modules.pop("their_models", None)


def beside_its_optimizer(network):  # as sgrvinod's scripts save it
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    network.conv1(torch.ones(1, 3, 4, 4)).sum().backward()
    optimizer.step()
    args = argparse.Namespace(lr=1e-4)
    return {"args": args, "optimizer": optimizer, "schedule": schedule, "model": network}


def beside_tensors_and_arrays(network):
    dtypes = (torch.bfloat16, torch.bool, torch.int32, torch.uint8, torch.complex64)
    return {
        "tensors": [torch.ones(2).to(dtype) for dtype in dtypes],
        "values": (np.float64(3), np.zeros(3), bytearray(b"x"), {1, 2}, torch.Size([1])),
        "devices": [torch.device("cpu"), torch.float16],
        "model": network,
    }


CONTENTS = {
    "alone": lambda net, _: net,
    "under a key": lambda net, _: {"epoch": 1, "generator": net},
    "under a key that was a value before": lambda net, _: {"arch": "model", "n": 1, "model": net},
    "under the key module": lambda net, _: {"module": net},
    "in nested dicts": lambda net, _: {"nets": {"G": net}},
    "in a list": lambda net, _: ["x", net],
    "under a number": lambda net, _: {0: net},
    "in an object": lambda net, theirs: {"trainer": theirs.Settings(net)},
    "parallel": lambda net, _: nn.DataParallel(net),
    "after a loss": lambda net, _: {"criterion": nn.L1Loss(), "model": net},
    "after settings": lambda net, theirs: {"cfg": theirs.Settings(), "model": net},
    "beside its optimiser": lambda net, _: beside_its_optimizer(net),
    "beside tensors and arrays": lambda net, _: beside_tensors_and_arrays(net),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", CONTENTS)
def test_a_pickled_module_is_refused_with_the_line_that_saves_its_state_dict(
    theirs, monkeypatch, zipped, protocol, name
):
    network = theirs.Net()
    expected = {key: weight.clone() for key, weight in network.state_dict().items()}
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    torch.save(CONTENTS[name](network, theirs), "it is.pth", **options)
    if name == "beside its optimiser":
        expected = {key: weight.clone() for key, weight in network.state_dict().items()}
    monkeypatch.delitem(sys.modules, "their_models")
    with pytest.raises(UserError, match=r"a pickled module, their_models\.Net;") as caught:
        load_checkpoint_file("it is.pth")
    assert "their_models" not in sys.modules
    said = str(caught.value)
    assert "\n" not in said
    assert "it is.pth" in said
    _, _, line, *_ = shlex.split(said.partition("of its code: ")[2])
    exec(line, {})
    weights = unwrap(load_checkpoint_file("NEW.pth"))
    assert {key.removeprefix("module.") for key in weights} == expected.keys()
    for key, weight in weights.items():
        torch.testing.assert_close(weight, expected[key.removeprefix("module.")], rtol=0, atol=0)


def test_several_modules_are_all_named_and_those_without_weights_last(theirs):
    content = {"criterion": nn.L1Loss(), "G": theirs.Net(), "D": nn.Sequential(nn.Linear(2, 2))}
    torch.save(content, "x.pth")
    said = explain_pickled_module(Path("x.pth"))
    assert '["G"].state_dict()' in said
    assert said.endswith('(or another module in it: ["D"], ["criterion"])')


def test_the_line_can_be_run_in_another_folder_than_that_of_the_file(theirs, tmp_path):
    (tmp_path / "weights").mkdir()
    torch.save(theirs.Net(), "weights/x.pth")
    os.chdir("weights")
    said = explain_pickled_module(Path("x.pth"))
    os.chdir("..")
    _, _, line = shlex.split(said.partition("of its code: ")[2])
    subprocess.run([sys.executable, "-c", line], check=True)
    assert Path("NEW.pth").is_file()


class Call:
    """Pickled as a call."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


def dotted(network, module, name):
    """Replace a global of as many letters in the pickle of a network."""
    torch.save(network, "x.pth", _use_new_zipfile_serialization=False, pickle_protocol=4)
    data = Path("x.pth").read_bytes()
    old = b"\x8c\x0ctheir_models\x94\x8c\x03Net\x94\x93"
    assert old in data
    new = b"".join(
        b"\x8c" + bytes([len(text)]) + text.encode() + b"\x94" for text in (module, name)
    )
    Path("x.pth").write_bytes(data.replace(old, new + b"\x93"))


def test_a_file_that_may_run_other_code_gets_no_line_that_would_run_it(theirs):
    for call in (
        Call(os.getpid),
        Call(torch.hub.list, "x/y"),
        Call(torch._utils._import_dotted_name, "os.getpid"),
        Call(torch.storage._load_from_bytes, b""),
        Call(np.load, "x"),
    ):
        torch.save({"more": call, "model": theirs.Net()}, "x.pth")
        assert explain_pickled_module(Path("x.pth")) is None, call.made
    torch.save(theirs.Net(), "x.pth")
    assert explain_pickled_module(Path("x.pth")) is not None
    for module, name in (
        ("torch.nn.init", "warnings.sys.exit"),
        ("their_models", "os.system"),
        ("os", "system"),
        ("torch.nn.init", "xavier"),
    ):
        dotted(theirs.Net(), module, name)
        assert explain_pickled_module(Path("x.pth")) is None, name


def test_a_memo_number_for_which_python_would_allocate_gigabytes_is_not_unpickled(theirs):
    torch.save(theirs.Net(), "x.pth", _use_new_zipfile_serialization=False, pickle_protocol=2)
    data = Path("x.pth").read_bytes()
    start = data.index(b"ctheir_models\nNet\n")
    end = start + len(b"ctheir_models\nNet\n")
    Path("x.pth").write_bytes(data[:end] + b"r\xff\xff\xff\x7f" + data[end:])
    assert explain_pickled_module(Path("x.pth")) is None


def test_files_without_a_module_are_not_explained(theirs, tmp_path):
    contents = (theirs.Net().state_dict(), [1, "x"], {"_parameters": 1, "_modules": 2})
    for content in contents:
        torch.save(content, "x.pth")
        assert explain_pickled_module(Path("x.pth")) is None
    Path("x.pth").write_bytes(b"no pickle")
    assert explain_pickled_module(Path("x.pth")) is None
