"""Read checkpoint files without running code, and write them atomically."""

import contextlib
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
from srgan_plugin.io.atomic import atomic_path
from srgan_plugin.io.download import sha256

from .array_files import array_file_reader, require_modest_size
from .file_kinds import detect_kind, explain_missing
from .pickle_protocol import LEGACY_START, open_in_protocol_2, to_protocol_2
from .pickled_modules import explain_pickled_module
from .safe_unpickle import STAND_INS, History, materialize

#: Key in `meta` of the note: a dict of arguments that cannot be inferred from the weights, with the
#: network's name and the number of the note's format (`recorded_args.make_note`).
NOTE_KEY = "srgan_plugin"
_ZIP = b"PK\x03\x04"
_SAFETENSORS = re.compile(rb".{5}\0{3}\{\s*\"", re.S)  # the header's length, then JSON
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_REFUSED_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
_HASH = re.compile(r"-([0-9a-f]{8,64})\.\w+$")
_DATE = re.compile(r"(19|20)\d{6}")


def filename_hash(name: str) -> str:
    """Return the SHA-256 prefix at the end of a published file name; empty if there is none.

    It has 8 to 64 lower-case digits after a hyphen (`NAME-8a3c21f0.pth`). A date is none.
    """
    found = _HASH.search(name)
    return "" if found is None or _DATE.fullmatch(found[1]) else found[1]


def load_checkpoint_file(
    path: str | os.PathLike[str], *, history: Callable[..., object] = History
) -> dict[str, Any]:
    """Read a checkpoint onto the CPU: torch (zip or legacy format), safetensors, NumPy or HDF5.

    Supported contents are tensors, plain containers, numbers, and the numpy arrays and log
    histories in mmengine's checkpoints. Other globals in a pickle raise an error and are not run.
    If the file name ends with digits of a SHA-256, as in published files, the content is verified.

    Args:
        path: The file. Its format is detected from the content, not from the name.
        history: Class for mmengine's log histories, called with log_history, count_history (arrays)
            and max_length. To resume a run, use mmengine's `HistoryBuffer`.

    Returns:
        A state dict, or a dict that contains one. Metadata of a safetensors file are in it as
        `meta` if they have the note, which is decoded; the others stay text.

    Raises:
        MissingFileError: The file does not exist.
        PermissionError: The file cannot be read.
        UserError: The file is empty, damaged, not a checkpoint, or would run code.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from srgan_plugin.checkpoints import load_checkpoint_file
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"state_dict": {"weight": torch.ones(2)}}, f"{folder}/x.pth")
        ...     load_checkpoint_file(f"{folder}/x.pth")
        {'state_dict': {'weight': tensor([1., 1.])}}
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(explain_missing(path))
    # With a damaged file the readers can raise any exception.
    try:
        loaded = _read(path, history)
    except (PermissionError, MemoryError):
        raise
    except Exception as error:
        raise UserError(_explain_failure(path, error)) from error
    if not isinstance(loaded, dict):
        raise UserError(f"{path}: expected a dict of weights, got a {type(loaded).__name__}")
    return loaded


def _read(path: Path, history: Callable[..., object]) -> Any:
    """Return the content of a file in any supported format."""
    if (digits := filename_hash(path.name)) and not sha256(path).startswith(digits):
        raise UserError(
            f"its SHA-256 does not begin with {digits}, which ends its name; rename it if this is "
            "no hash"
        )
    start = _read_start(path, 64)
    if _SAFETENSORS.match(start):
        return _read_safetensors(path)
    if read_arrays := array_file_reader(path):
        weights, recorded = read_arrays(path)
        # As `recorded_args.make_note` writes it; such files are of SRResNet only.
        note: dict[str, Any] = {"format": 2, "network": "SRResNet", **recorded}
        return {"state_dict": weights, "meta": {NOTE_KEY: note}} if recorded else weights
    if start and (kind := detect_kind(path)):
        raise _OtherKindError(kind)
    if start.startswith(_ZIP):
        _check_archive(path)
    elif not LEGACY_START.match(start):
        raise UnpicklingError("it was not written by torch.save")
    # An open file, because torch.load selects the format by the name of a path; in protocol 2,
    # because its safe loader reads no other.
    with _allow_only_stand_ins(), open_in_protocol_2(path) as source:
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    require_modest_size(_count_tensor_bytes(loaded), path)
    return materialize(loaded, history)


def _count_tensor_bytes(loaded: Any) -> int:
    """Return the size in bytes of all tensors; small files may contain huge expanded tensors."""
    size, items, seen = 0, [loaded], set()
    while items:
        item = items.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            size += item.numel() * item.element_size()
        elif isinstance(item, dict):
            items += item.values()
        elif isinstance(item, list | tuple | set | frozenset):
            items += item
    return size


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        metadata = file.metadata() or {}
    if NOTE_KEY not in metadata:
        return weights
    try:
        note = json.loads(metadata[NOTE_KEY])
    except json.JSONDecodeError as error:
        raise _OtherKindError(f"metadata {NOTE_KEY} that are not JSON ({error})") from None
    return {"state_dict": weights, "meta": {**metadata, NOTE_KEY: note}}


@contextlib.contextmanager
def _allow_only_stand_ins() -> Iterator[None]:
    """Replace the safe globals of torch by the stand-ins, classes that hold but do not run.

    `safe_unpickle` has them, for what mmengine writes beside weights. The globals are those of the
    process, so two threads may not read files at the same time.
    """
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(STAND_INS)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


_FOLDER_BIT = 0x10  # bit of a folder in the DOS attributes


def _check_archive(path: Path) -> None:
    """Check a zip archive for damage that torch does not detect.

    torch ignores checksums, and returns uninitialised memory for parts that are marked as folders
    or have a packed size of 0. If the names of two parts are the same but for case, which torch
    ignores, torch and `zipfile` may read different ones.

    Raises:
        UserError: A checksum, a size or an attribute is wrong, or a name occurs twice.
    """
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if len({part.filename.lower() for part in parts}) < len(parts):
            raise UserError("two of its parts have the same name")
        for part in parts:
            packed = part.compress_type != zipfile.ZIP_STORED and part.file_size > 0
            if (packed and not part.compress_size) or (
                not packed and part.compress_size != part.file_size
            ):
                raise UserError(f"the sizes of its part {part.filename} contradict each other")
            if part.external_attr & _FOLDER_BIT and part.file_size:
                raise UserError(f"its part {part.filename} is marked as a folder")
        unpacked = sum(part.file_size for part in parts)
        if unpacked > path.stat().st_size:
            raise UserError(f"it unpacks to {unpacked} bytes, which torch.save never writes")
        if broken := archive.testzip():
            raise UserError(f"the checksum of its part {broken} does not match")


class _OtherKindError(UserError):
    """Error for a file, or for metadata, of another kind."""


def _explain_failure(path: Path, error: Exception) -> str:
    """Return the message, one line, for a file that could not be read."""
    if not path.stat().st_size:
        return f"{path}: expected a checkpoint, got an empty file; copy or download it again"
    if isinstance(error, _OtherKindError):
        return f"{path}: expected a torch checkpoint or a safetensors file, got {error}"
    if isinstance(error, UnpicklingError):
        found = _REFUSED_GLOBAL.search(str(error))
        if name := found[1] if found else _find_foreign_name(path):
            return explain_pickled_module(path) or (
                f"{path}: expected weights and numbers, got a pickle that calls {name}; nothing "
                "was run or loaded; ask its author for a state dict"
            )
        if _PICKLE.match(_read_start(path, 2)) and not LEGACY_START.match(_read_start(path, 64)):
            return (
                f"{path}: expected a torch checkpoint or a safetensors file, got a plain pickle "
                "(pickle.dump, joblib, PaddlePaddle); ask its author for torch.save(state_dict, …)"
            )
    cause = " ".join(str(error).split())
    if not cause or len(cause) > 160:  # torch advises to disable the check
        cause = f"{type(error).__name__} while reading it"
    return (
        f"{path}: expected a complete checkpoint, got a file that begins with "
        f"{_read_start(path, 12)!r} ({cause}); copy or download it again"
    )


def _find_foreign_name(path: Path) -> str | None:
    """Return the first global outside torch and numpy in a bare pickle, or None."""
    content = path.read_bytes()
    with contextlib.suppress(Exception):
        if b"\x80\x02" < content[:2] <= b"\x80\x05":
            content = to_protocol_2(io.BytesIO(content))
        for opcode, value, _ in pickletools.genops(content):
            name = str(value).replace(" ", ".")
            known = name.startswith(("torch", "collections", "numpy", "_codecs"))
            if opcode.name == "GLOBAL" and not known:
                return name
    return None


def _read_start(path: Path, length: int) -> bytes:
    """Return the first bytes of a file."""
    with path.open("rb") as file:
        return file.read(length)


def save_atomically(
    obj: object,
    path: str | os.PathLike[str],
    *,
    check: Callable[[Path], object] | None = None,
) -> None:
    """Save to a temporary file and rename it, so that `path` is never incomplete.

    Args:
        obj: Object for `torch.save`. For a path that ends in `.safetensors`, a dict of
            `state_dict` (weights) and `meta`, which is written as metadata: strings unchanged,
            other values as JSON.
        path: The file.
        check: Called with the temporary file before it is renamed; if it raises, `path` is
            unchanged.

    Raises:
        OSError: The file cannot be written; an existing file of this name is unchanged.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from srgan_plugin.checkpoints import load_checkpoint_file, save_atomically
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_atomically({"weight": torch.ones(2)}, f"{folder}/x.pth")
        ...     load_checkpoint_file(f"{folder}/x.pth")
        {'weight': tensor([1., 1.])}
    """
    path = Path(path)
    content = _encode(obj, path.suffix)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
        if check is not None:
            check(temporary)


def _encode(obj: Any, suffix: str) -> bytes:
    """Return the content of the file that `save_atomically` writes."""
    if suffix != ".safetensors":
        # In memory, because the errors of torch.save on a full disk do not mention the disk.
        buffer = io.BytesIO()
        torch.save(obj, buffer)
        return buffer.getvalue()
    from safetensors.torch import save

    # Copies, because safetensors rejects weights that share memory, such as a shared PReLU.
    weights = {
        key: weight.detach().clone(memory_format=torch.contiguous_format)
        for key, weight in obj["state_dict"].items()
    }
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in obj["meta"].items()}
    # transformers and other programs require the name of the framework.
    return _with_sorted_metadata(save(weights, metadata={"format": "pt", **texts}))


def _with_sorted_metadata(content: bytes) -> bytes:
    """Return a safetensors file whose metadata are sorted, so that a hash shows equal weights.

    Safetensors writes them in an order that differs from call to call.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the weights are aligned
    return len(text).to_bytes(8, "little") + text + content[end:]
