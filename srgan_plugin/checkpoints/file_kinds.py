"""Detect files that are not torch checkpoints, and return hints for the user."""

import difflib
import re
import zipfile
from pathlib import Path

#: Suffixes of checkpoints.
SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".npz", ".h5")
_STATE_DICT = "ask its author for torch.save(model.state_dict(), FILE)"
_UNPACK = "unpack it, and give the file in it"
_TENSORFLOW = (
    "restore it where it was trained and save the weights of its Keras model, "
    "model.save_weights('NEW.h5')"
)
_KERAS = "extract its weights: unzip -p FILE model.weights.h5 > NEW.h5"
_GRAPH = "a graph has no named weights: give the checkpoint from which it was exported"

# Pattern of the first 512 bytes, kind of file, hint.
_STARTS: tuple[tuple[re.Pattern[bytes], str, str], ...] = tuple(
    (re.compile(start, re.S | re.I), kind, hint)
    for start, kind, hint in (
        (
            rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|\?xml)",
            "a web page",
            "the download saved a page instead of the file: download the file itself",
        ),
        (
            rb"version https://git-lfs\.github\.com",
            "a Git LFS pointer instead of the file",
            "run git lfs pull in its repository, or download the file itself",
        ),
        (rb"\x1f\x8b", "compressed by gzip", _UNPACK),
        (rb"BZh\d1AY", "compressed by bzip2", _UNPACK),
        (rb"\xfd7zXZ\x00", "compressed by xz", _UNPACK),
        (rb"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
        (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
        (rb"Rar!\x1a\x07", "a RAR archive", _UNPACK),
        (rb".{257}ustar", "a tar archive", _UNPACK),
        (
            rb"\x89HDF\r\n\x1a\n",
            "an HDF5 file (.h5, Keras or TensorLayer)",
            'pip install "srgan_plugin[keras]", whose h5py reads it',
        ),
        (rb"MATLAB \d", "a MATLAB file (.mat)", _STATE_DICT),
        (rb"\x93NUMPY", "a NumPy array (.npy)", _STATE_DICT),
        (rb"\x12\x01\0{6}", "MXNet parameters (.params)", _STATE_DICT),
        (rb".{4}TFL3", "a TensorFlow Lite model", _GRAPH),
        (rb"GGUF", "a GGUF file", _STATE_DICT),
        (rb"\x08[\x01-\x14]\x12.[a-z_.0-9-]{2}", "an ONNX model", _STATE_DICT),
        (rb"7767517\s", "an ncnn model (.param)", _STATE_DICT),
        (rb"model_checkpoint_path:", "a list of TensorFlow checkpoints", _TENSORFLOW),
        (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF.{4}WEBP|BM.{12}\(", "an image", "give the checkpoint"),
        (rb"%PDF", "a PDF document", "give the checkpoint"),
        (rb"\x7fELF|MZ", "a program", "give the checkpoint"),
        (
            rb"\s*[{\[]",
            "a text (JSON)",
            "the download may have saved an error message: open it in an editor",
        ),
    )
)
# Pattern of the end of the name, kind, hint, for files without a distinct signature.
_NAMES = (
    (r"\.onnx", "an ONNX model", _STATE_DICT),
    (r"\.(data-\d+-of-\d+|index)|ckpt(-\d+)?\.meta", "a TensorFlow checkpoint", _TENSORFLOW),
    (r"saved_model\.pb", "a part of a TensorFlow SavedModel", _TENSORFLOW),
    (r"\.(pb|pbtxt)", "a TensorFlow graph", _GRAPH),
    (r"\.caffemodel", "a Caffe model", _STATE_DICT),
    (r"\.prototxt", "the description of a Caffe model", _STATE_DICT),
    (r"\.distcp|\.metadata", "a part of a PyTorch distributed checkpoint", _STATE_DICT),
    (r"\.t7", "a Lua Torch file", _STATE_DICT),
    (r"\.(engine|trt|plan)", "a TensorRT engine", _STATE_DICT),
    (r"\.mlmodel", "a Core ML model", _STATE_DICT),
)
# Pattern of a file in a zip archive, kind, hint. torch.save writes a folder in the archive.
_ENTRIES = (
    (
        r"[^/]+/(constants\.pkl|code/.*)",
        "a TorchScript archive (torch.jit.save), which is a program",
        "save its weights: torch.save(torch.jit.load(FILE).state_dict(), NEW), if you trust FILE",
    ),
    (
        r"(.*/)?(serialized_exported_program\.(json|pt)|archive_format|models/model\.json)",
        "a PyTorch exported program (.pt2)",
        _STATE_DICT,
    ),
    (r"model\.weights\.h5", "a Keras model (.keras)", _KERAS),
    (r"Manifest\.json", "a Core ML package", _STATE_DICT),
    (r".*\.(pth|pt|ckpt|safetensors)", "a zip archive around a checkpoint", _UNPACK),
)
# Pattern of a file in a folder, kind of folder, hint.
_FOLDERS = (
    ("saved_model.pb", "a TensorFlow SavedModel", _TENSORFLOW),
    ("*.index", "a folder of TensorFlow checkpoints", _TENSORFLOW),
    (
        ".metadata",
        "a PyTorch distributed checkpoint",
        "python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER NEW.pth",
    ),
    ("data.pkl", "an unpacked torch checkpoint", "zip -0 -r NEW.pth FOLDER"),
    *((f"*{end}", "a folder", "give a file in it") for end in SUFFIXES),
)
_TENSORFLOW_INDEX = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # last bytes of an .index file


def explain_missing(path: Path) -> str:
    """Return a message for a path that is not a file.

    Args:
        path: A folder, the common prefix of a TensorFlow checkpoint's files, or a missing path.
    """
    if path.is_dir():
        for pattern, kind, hint in _FOLDERS:
            if found := sorted(path.glob(pattern)):
                which = f", such as {found[0]}" if "give" in hint else ""
                return f"{path}: expected a checkpoint file, got {kind}; {hint}{which}"
        return f"{path}: expected a checkpoint file, got a folder without one; give a file"
    if path.with_name(f"{path.name}.index").is_file():
        kind = "the name of a TensorFlow checkpoint (.index, .data-…)"
        return f"{path}: expected a checkpoint file, got {kind}; {_TENSORFLOW}"
    return f"{path}: expected a checkpoint file, got no such file{_suggest_names(path)}"


def _suggest_names(path: Path) -> str:
    """Return a hint with similar names in the folder of a missing file; '' without any."""
    try:
        names = [other.name for other in path.parent.iterdir() if other.suffix in SUFFIXES]
    except OSError:
        return ""
    stems = {name.rpartition(".")[0]: name for name in names}
    near = difflib.get_close_matches(path.name, names, cutoff=0.8)
    near += [stems[stem] for stem in (path.name, path.stem) if stem in stems]
    return f"; near: {', '.join(dict.fromkeys(near))}" if near else ""


def detect_kind(path: Path) -> str | None:
    """Return the kind of a file and a hint; None if it may be a torch checkpoint.

    Args:
        path: A file that is not empty.
    """
    with path.open("rb") as file:
        start = file.read(512)
        file.seek(-min(8, path.stat().st_size), 2)
        end = file.read()
    if start.startswith(b"PK\x03\x04"):
        return _archive_kind(path)
    found = [(kind, hint) for pattern, kind, hint in _STARTS if pattern.match(start)]
    found += [(kind, hint) for end_, kind, hint in _NAMES if re.search(f"(?:{end_})$", path.name)]
    if end == _TENSORFLOW_INDEX:
        found = [("the index of a TensorFlow checkpoint", _TENSORFLOW)]
    return f"{found[0][0]}: {found[0][1]}" if found else None


def _archive_kind(path: Path) -> str | None:
    """Return the kind of a zip archive and a hint; None if it may be a torch checkpoint."""
    if not zipfile.is_zipfile(path):  # truncated
        return None
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    for pattern, kind, hint in _ENTRIES:
        if any(re.fullmatch(pattern, name) for name in names):
            return f"{kind}: {hint}"
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return f"a zip archive of {', '.join(names[:3]) or 'nothing'}: give the checkpoint"
    return None
