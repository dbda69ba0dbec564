"""Save, upload and load generators as repositories of the Hugging Face hub.

A repository has three files: weights, config and model card.
"""

import contextlib
import importlib.util
import json
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from srgan_plugin import __version__
from srgan_plugin.errors import FileError, MissingFileError, UserError, prefix_errors
from srgan_plugin.io.atomic import write_text
from srgan_plugin.io.download import sha256
from srgan_plugin.io.text_files import read_json
from srgan_plugin.networks import GENERATORS, Generator

from .convert import require_same_output
from .detect import DetectedNetwork, identify
from .metadata import export_metadata
from .model_card import LIBRARY, ModelCard, card_text
from .read_write import NOTE_KEY, load_checkpoint_file, save_atomically
from .recorded_args import make_note, non_inferable_names, same_argument

if TYPE_CHECKING:
    from huggingface_hub import HfApi

#: File names in a repository.
CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"
CARD_NAME = "README.md"
# Fields of the config and their types.
_FIELDS = {"architectures": list, "arguments": dict, "sha256": str}
_FIELD_TYPES = ", ".join(f"{name} ({kind.__name__})" for name, kind in _FIELDS.items())
# Packages whose exceptions `_hub_errors_as_file_error` converts: the hub's library (0.25 to 2.4),
# and its clients requests (0.x), httpx (1.0) or httpx2 (2.4) for HTTP and hf_xet for transfers.
_REMOTE = {"huggingface_hub", "hf_xet", "requests", "urllib3"}
_REMOTE |= {"httpx", "httpx2", "httpcore", "httpcore2"}


def save_pretrained(
    network: nn.Module, folder: str | Path, card: ModelCard, *, repo_id: str = "OWNER/NAME"
) -> None:
    """Write the files of a repository: weights, config and model card.

    The written weights are read, and the outputs of both networks are compared on the probe image
    (tolerance 1e-5), before the temporary file is renamed. If a later step fails, the folder has
    the new weights with the old config, which `from_pretrained` refuses.

    Args:
        network: A generator of this package, float32, on the CPU, in evaluation mode.
        folder: Output folder; other files in it are kept.
        card: Content of the model card.
        repo_id: `OWNER/NAME`, shown in the model card.

    Raises:
        UserError: `network` is not such a generator, its weights give no such network or another
            output, or `huggingface_hub` is missing.
        OSError: A file cannot be written.
    """
    _require_hub()
    network = _require_savable(network)
    kind = type(network).__name__
    note = make_note(kind, {name: getattr(network, name) for name in non_inferable_names(kind)})
    meta = {NOTE_KEY: note, **export_metadata(network, name=card.name, license=card.license)}
    content = {"state_dict": network.state_dict(), "meta": meta}
    path = Path(folder) / WEIGHTS_NAME
    save_atomically(content, path, check=lambda written: require_same_output(written, network))
    config = {
        "architectures": [kind],
        "library_name": LIBRARY,
        "library_version": __version__,
        "arguments": dict(identify(load_checkpoint_file(path)).arguments),
        "sha256": sha256(path),
    }
    write_text(json.dumps(config, indent=2) + "\n", path.with_name(CONFIG_NAME))
    write_text(card_text(network, card, repo_id), path.with_name(CARD_NAME))


def _require_savable(network: nn.Module) -> Generator:
    """Return a network; raise `UserError` unless it is as `from_pretrained` returns it."""
    kind = type(network).__name__
    if kind not in GENERATORS or not isinstance(network, Generator):
        raise UserError(f"network: expected one of {', '.join(GENERATORS)}, got {kind}")
    for name, tensor in network.state_dict().items():
        is_float32 = tensor.dtype == torch.float32 or not tensor.is_floating_point()
        if not is_float32 or tensor.device.type != "cpu":
            raise UserError(
                f"network: expected float32 on the CPU, got {tensor.dtype} on {tensor.device} "
                f"({name}); call network.float().cpu() before"
            )
    if network.training:
        raise UserError(
            "network: expected evaluation mode, got training mode; call network.eval() before"
        )
    return network


def push_to_hub(
    network: nn.Module,
    repo_id: str,
    card: ModelCard,
    *,
    private: bool | None = None,
    revision: str | None = None,
    message: str = "Upload weights, config and card",
    api: "HfApi | None" = None,
) -> str:
    """Upload a generator to the hub in one commit, creating the repository if needed.

    Args:
        network: See `save_pretrained`.
        repo_id: Name of the repository, `OWNER/NAME`.
        card: Content of the model card.
        private: Visibility of a new repository; None: the owner's default.
        revision: Existing branch; default: `main`.
        message: Commit message.
        api: Client; default: the public hub with the token of `hf auth login` or `HF_TOKEN`.

    Returns:
        URL of the commit.

    Raises:
        UserError: See `save_pretrained`.
        FileError: The hub rejects the upload or cannot be reached.
    """
    api = api or _require_hub().HfApi(library_name=LIBRARY, library_version=__version__)
    with TemporaryDirectory() as folder:
        save_pretrained(network, folder, card, repo_id=repo_id)
        with _hub_errors_as_file_error(repo_id):
            # Version 0.25 would send None as a value.
            visibility = {} if private is None else {"private": private}
            api.create_repo(repo_id, exist_ok=True, **visibility)
            done = api.upload_folder(
                repo_id=repo_id, folder_path=folder, revision=revision, commit_message=message
            )
    return str(done.commit_url)


def from_pretrained(
    repo_id: str | Path,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    api: "HfApi | None" = None,
) -> Generator:
    """Load a generator from the hub or from a local folder.

    A local folder named `OWNER/NAME` takes precedence over the repository with that name.

    Args:
        repo_id: Name of the repository, `OWNER/NAME`, or path of a folder that `save_pretrained`
            wrote.
        revision: Branch, tag or commit; ignored for a folder.
        local_files_only: Use the local cache only.
        api: See `push_to_hub`.

    Returns:
        The network, float32, on the CPU, in evaluation mode; ranges as in `open_model`.

    Raises:
        UserError: The repository was not written by `push_to_hub`, or its weights do not fit its
            config, or `repo_id` is a file.
        MissingFileError: The config or the weights are missing.
        FileError: The repository does not exist, or the hub cannot be reached, and the cache has no
            copy.
    """
    folder = Path(repo_id)
    if folder.is_file():
        raise UserError(
            f"{folder}: expected a folder or a repository, OWNER/NAME, got a file; open_network "
            "opens it"
        )
    cached = not folder.is_dir()
    if cached:
        folder = _download(str(repo_id), revision, api, local_files_only=local_files_only)
    config = _read_repository_config(folder / CONFIG_NAME)
    path = folder / WEIGHTS_NAME
    verify_weights(path, config, cached=cached)
    checkpoint = load_checkpoint_file(path)
    with prefix_errors(path):
        detected = identify(checkpoint)
        _require_configured(detected, config)
        network = detected.build()
    assert isinstance(network, Generator)
    return network


def _require_configured(detected: DetectedNetwork, config: Mapping[str, Any]) -> None:
    """Raise `UserError` for weights of another network or other arguments than in their config."""
    kind = detected.layout.network
    if kind not in GENERATORS:
        raise UserError(f"expected one of {', '.join(GENERATORS)}, got {detected}")
    if config["architectures"] != [kind]:
        expected = ", ".join(map(str, config["architectures"]))
        raise UserError(f"expected {expected}, as in its {CONFIG_NAME}, got {detected}")
    # Not the reverse: a later release may infer more arguments than the one that wrote the config.
    for name, value in config["arguments"].items():
        if not same_argument(got := detected.arguments.get(name), value):
            raise UserError(f"expected {name}={value!r}, as in its {CONFIG_NAME}, got {got!r}")


def local_weights(repo_id: str, *, revision: str | None = None, api: "HfApi | None" = None) -> Path:
    """Return the path of the weights of a repository, downloading them if missing.

    Their SHA-256 is verified; whoever opens them finds the network, so that of the config is not
    read.

    Args:
        repo_id: Name of the repository, `OWNER/NAME`.
        revision: Branch, tag or commit.
        api: See `push_to_hub`.

    Raises:
        UserError: The repository was not written by `push_to_hub`, or its weights are damaged.
        MissingFileError: See `from_pretrained`.
        FileError: See `from_pretrained`.
    """
    folder = _download(repo_id, revision, api)
    verify_weights(
        folder / WEIGHTS_NAME, _read_repository_config(folder / CONFIG_NAME), cached=True
    )
    return folder / WEIGHTS_NAME


def verify_weights(path: Path, config: Mapping[str, Any], *, cached: bool) -> None:
    """Check that the SHA-256 of weights is the one in their config.

    Args:
        path: The weights.
        config: Content of the config.
        cached: Whether `path` was downloaded to the local cache of the hub, as
            `REPOSITORY/snapshots/COMMIT/FILE`.

    Raises:
        UserError: The SHA-256 differs.
        MissingFileError: The weights are missing.
    """
    if not path.is_file():
        raise MissingFileError(
            f"{path}: expected the weights that push_to_hub writes, got no such file; download the "
            "repository again"
        )
    if (digest := sha256(path)) != config["sha256"]:
        # The file is a link into REPOSITORY/blobs, which the hub's client does not download again.
        remove = f"remove the folder {path.parents[2]} and " if cached else ""
        raise UserError(
            f"{path}: expected SHA-256 {config['sha256']}, as in {CONFIG_NAME} beside it, got "
            f"{digest}; {remove}download the repository again"
        )


def _download(
    repo_id: str, revision: str | None, api: "HfApi | None", *, local_files_only: bool = False
) -> Path:
    """Return the local folder of a repository, with config and weights of the same commit.

    Args:
        repo_id: See `from_pretrained`.
        revision: See `from_pretrained`.
        api: See `from_pretrained`.
        local_files_only: See `from_pretrained`.

    Raises:
        FileError: See `from_pretrained`.
    """
    api = api or _require_hub().HfApi(library_name=LIBRARY, library_version=__version__)
    with _hub_errors_as_file_error(repo_id):
        folder = api.snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=[CONFIG_NAME, WEIGHTS_NAME],
            local_files_only=local_files_only,
        )
    return Path(folder)


def _read_repository_config(path: Path) -> dict[str, Any]:
    """Return the content of a config after checking the types of its fields."""
    if not path.is_file():
        raise MissingFileError(
            f"{path}: expected the config that push_to_hub writes, got no such file; open a "
            "checkpoint of that repository by its own path or URL (upscale: --model)"
        )
    config = read_json(path, f"{LIBRARY}'s config")
    fields = config if isinstance(config, dict) else {}
    for key, kind in _FIELDS.items():
        if not isinstance(fields.get(key), kind):
            got = f"{key}={fields[key]!r}" if key in fields else f"no {key}"
            raise UserError(f"{path}: expected {LIBRARY}'s config with {_FIELD_TYPES}, got {got}")
    return fields


def _require_hub() -> Any:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UserError(
            "huggingface_hub: expected the package, got none; pip install huggingface_hub"
        )
    import huggingface_hub

    return huggingface_hub


def _is_remote(error: BaseException | None) -> bool:
    """Return whether an error or one of its causes is an error of the hub or of the connection.

    It is if a package in `_REMOTE` defines it, or if it is a `RuntimeError` or an `OSError` without
    a number that was raised in such a package. hf_xet, the compiled client for transfers, raises
    the former and has no frames; huggingface_hub the latter for a truncated download.
    """
    if error is None:
        return False
    roots = {_root(cls.__module__) for cls in type(error).__mro__}
    is_plain = type(error) is RuntimeError or (type(error) is OSError and error.errno is None)
    if is_plain and error.__traceback__:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        roots.add(_root(frame.f_globals.get("__name__", "")))
    return bool(roots & _REMOTE) or _is_remote(error.__cause__)


def _root(module: str) -> str:
    return module.partition(".")[0]


@contextlib.contextmanager
def _hub_errors_as_file_error(repo_id: str) -> Iterator[None]:
    """Convert errors of the hub and of the connection to a `FileError` of one line."""
    try:
        yield
    except Exception as error:
        if not _is_remote(error):
            raise
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        message = " ".join(lines[:2]) or type(error).__name__
        raise FileError(
            f"{repo_id}: expected an answer of the Hugging Face hub, got {message}"
        ) from error
