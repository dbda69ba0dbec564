"""Files made to exhaust memory or time are refused in one line."""

import os
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from srgan_plugin.checkpoints.detect import identify
from srgan_plugin.checkpoints.read_write import load_checkpoint_file
from srgan_plugin.errors import UserError
from srgan_plugin.networks import MSRResNet

SOAK = Path(__file__).resolve().parents[1] / "soak/hostile_checkpoints.py"


class Call:
    """An object that pickles as the call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def archive_of(content: Any, path: Path, protocol: int) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol))
        archive.writestr("archive/version", "3\n")
    return path


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_call_of_bytearray_allocates_no_memory(
    tmp_path: Path, protocol: int, legacy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, path = {"a": Call(bytearray, 6 * 10**9)}, tmp_path / "x.pth"
    if legacy:
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    else:
        archive_of(content, path, protocol)
    with pytest.raises(UserError, match=r"x\.pth.*bytearray"):
        load_checkpoint_file(path)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_bytearrays_that_were_saved_are_read(tmp_path: Path, protocol: int) -> None:
    content = {"a": bytearray(b"\0\xffab"), "b": bytearray(), "c": [bytearray(b"ab")] * 2}
    loaded = load_checkpoint_file(archive_of(content, tmp_path / "x.pth", protocol))
    assert loaded == content
    assert {type(loaded[key]) for key in "ab"} == {bytearray}


@pytest.mark.parametrize(
    "claim",
    [
        torch.zeros(1).expand(8192, 8192),
        torch.empty(2**28, device="meta"),
        torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), [1.0], (10**5, 10**5)),
    ],
    ids=["expanded", "meta", "sparse"],
)
def test_tensors_that_claim_far_more_than_their_file_holds_are_refused(
    tmp_path: Path, claim: torch.Tensor
) -> None:
    torch.save({"state_dict": {"a": claim}}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth.*bytes"):
        load_checkpoint_file(tmp_path / "x.pth")


def test_views_and_shared_tensors_of_a_modest_size_are_read(tmp_path: Path) -> None:
    weight = torch.ones(1000)
    content = {"a": weight, "b": weight, "c": torch.zeros(1).expand(100, 100)}
    torch.save(content, tmp_path / "x.pth")
    loaded = load_checkpoint_file(tmp_path / "x.pth")
    assert all(torch.equal(loaded[key], value) for key, value in content.items())


def test_an_absurd_number_of_blocks_is_refused_before_they_are_built() -> None:
    state = MSRResNet(mid_channels=1, num_blocks=1).state_dict()
    state |= {f"trunk_net.{n}.conv1.weight": torch.ones(1, 1, 3, 3) for n in range(20_000)}
    with pytest.raises(UserError, match=r"num_blocks.*1000.*20000"):
        identify(state)


@pytest.mark.parametrize("damage", ["a folder", "empty", "two of a name", "two but for case"])
def test_parts_that_torch_would_leave_uninitialised_are_refused(
    tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.arange(4.0)}, path)
    with zipfile.ZipFile(path, "a") as archive:
        part = archive.getinfo("x/data/0")
        archive._didModify = True  # type: ignore[attr-defined]
        if damage == "a folder":  # one flipped bit
            part.external_attr |= 0x10
        elif damage == "empty":
            part.compress_size = part.CRC = 0
        else:
            name = "x/data/0" if damage == "two of a name" else "x/DATA/0"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                archive.writestr(name, struct.pack("4f", 9, 9, 9, 9))
    with pytest.raises(UserError, match=r"x\.pth.*part"):
        load_checkpoint_file(path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_sample_of_hostile_files_does_no_harm() -> None:
    """Run a short form of `make soak`."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SOAK), "--count", "10", "--seed", "5"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
