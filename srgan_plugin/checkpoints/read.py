"""Checkpoint files, read without running what they say."""

import contextlib
import hashlib
import io
import json
import os
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from srgan_plugin.errors import MissingFileError, UserError

from .file_kinds import kind_of
from .pickle_protocols import LEGACY_START, readable_source, to_protocol_2
from .safe_unpickle import STAND_INS, History, materialize

NOTE = "srgan_plugin"  # what we note beside weights, under `meta`
_ZIP = b"PK\x03\x04"
_SAFETENSORS = re.compile(rb".{5}\0{3}\{\s*\"", re.S)  # the header's length, then JSON
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_WANTED = re.compile(r"GLOBAL ([\w.]+)")
_HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
_DATE = re.compile(r"(19|20)\d{6}")


@contextlib.contextmanager
def named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Puts a file's name before the message of a `ValueError` from within."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def filename_hash(name: str) -> str:
    """The first digits of a SHA-256 with which a published name closes; empty if it has none."""
    found = _HASH.search(name)
    return "" if found is None or _DATE.fullmatch(found[1]) else found[1]


def load_checkpoint_file(
    path: str | os.PathLike[str], *, history: Callable[..., object] = History
) -> dict[str, Any]:
    """Reads a checkpoint of torch (either format) or safetensors onto the CPU.

    Tensors, plain containers, numbers, and the numpy numbers and log histories of mmengine's
    checkpoints are read. Whatever else a file asks for is not looked up, let alone run. A file
    whose name closes with the digits of its SHA-256, as published ones do, has to have that hash.

    Args:
        path: the file; its content decides how it is read, not its name.
        history: what to make of mmengine's log histories, called with log_history, count_history
            (arrays) and max_length; give mmengine's `HistoryBuffer` to resume a run.

    Returns:
        What was saved: a state dict, or a dict around one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is empty, damaged, no checkpoint, or wants to run code; one line that
            names the file and the cause.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise MissingFileError(f"expected a checkpoint file, but {path} {what}")
    # A damaged file can fail in any way inside the readers; the user needs its name and one line.
    try:
        loaded = _read(path, history)
    except Exception as error:
        raise UserError(_refusal(path, error)) from error
    if not isinstance(loaded, dict):
        raise UserError(f"expected a dict of weights in {path}, got a {type(loaded).__name__}")
    return loaded


def _read(path: Path, history: Callable[..., object]) -> Any:
    if (stated := filename_hash(path.name)) and not sha256(path).startswith(stated):
        raise UserError("its SHA-256 is not the one that its name closes with")
    start = _start(path, 64)
    if _SAFETENSORS.match(start):
        return _read_safetensors(path)
    if start and (kind := kind_of(path)):
        raise _OtherKindError(kind)
    if start.startswith(_ZIP):
        _check_archive(path)
    elif not LEGACY_START.match(start):
        raise UnpicklingError("it was not written by torch.save")
    # By its content: torch goes by the name where it is given one.
    with _nothing_else_allowed(), readable_source(path) as source:
        return materialize(torch.load(source, map_location="cpu", weights_only=True), history)


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dict
        notes = file.metadata() or {}
    if NOTE not in notes:
        return weights
    try:
        return {"state_dict": weights, "meta": {NOTE: json.loads(notes[NOTE])}}
    except json.JSONDecodeError as error:
        raise _OtherKindError(f"metadata {NOTE} that are not JSON ({error})") from None


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _nothing_else_allowed() -> Iterator[None]:
    """Allows the stand-ins alone, whatever this process may have allowed to torch before."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(STAND_INS)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _check_archive(path: Path) -> None:
    """Finds flipped bits, which torch does not look for, and archives larger than their file."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > path.stat().st_size:
            raise UserError(f"it unpacks to {unpacked} bytes, which torch.save never writes")
        if broken := archive.testzip():
            raise UserError(f"the checksum of its part {broken} does not match")


class _OtherKindError(UserError):
    """The file is of another kind, or has notes of another kind."""


def _refusal(path: Path, error: Exception) -> str:
    """One line on why a file was not read."""
    if not path.stat().st_size:
        return f"{path} is empty, expected a checkpoint: copy or download it again"
    if isinstance(error, _OtherKindError):
        return f"{path}: expected a checkpoint of torch or a safetensors file, got {error}"
    if isinstance(error, UnpicklingError):
        named = _WANTED.search(str(error))
        if wanted := named[1] if named else _first_foreign_name(path):
            return (
                f"{path} wants {wanted}, which is neither weights nor numbers; nothing of it was "
                "run or loaded: ask its author for a state dict"
            )
        if _PICKLE.match(_start(path, 2)) and not LEGACY_START.match(_start(path, 64)):
            return (
                f"{path}: expected a checkpoint of torch or a safetensors file, got a plain pickle "
                "(pickle.dump, joblib, PaddlePaddle): ask its author for torch.save(state_dict, …)"
            )
    cause = " ".join(str(error).split())
    if not cause or len(cause) > 160:  # torch's advice to switch the check off
        cause = f"{type(error).__name__} while reading it"
    return (
        f"expected a whole checkpoint, but {path}, which begins with {_start(path, 12)!r}, is none "
        f"({cause}): copy or download it again"
    )


def _first_foreign_name(path: Path) -> str | None:
    """What a bare pickle wants to call, found without running it."""
    content = path.read_bytes()
    with contextlib.suppress(Exception):
        if b"\x80\x02" < content[:2] <= b"\x80\x05":
            content = to_protocol_2(io.BytesIO(content))
        for opcode, value, _ in pickletools.genops(content):
            name = str(value).replace(" ", ".")
            plain = name.startswith(("torch", "collections", "numpy", "_codecs"))
            if opcode.name == "GLOBAL" and not plain:
                return name
    return None


def _start(path: Path, length: int) -> bytes:
    with path.open("rb") as file:
        return file.read(length)
