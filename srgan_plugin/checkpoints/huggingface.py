"""Save, push and load generators as repositories of the Hugging Face hub.

A repository has three files: weights, their config and a model card.
"""

import contextlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from torch import nn

from srgan_plugin import __version__
from srgan_plugin.errors import FileError, MissingFileError, UserError, prefix_errors
from srgan_plugin.io.atomic import write_text
from srgan_plugin.io.download import sha256
from srgan_plugin.io.text_files import read_json
from srgan_plugin.networks import GENERATORS, Generator

from .convert import require_same_output
from .detect import identify
from .metadata import metadata_of
from .model_card import LIBRARY, ModelCard, card_text
from .read_write import NOTE, load_checkpoint_file, save_atomically
from .recorded_args import arguments_of, note_for, plain

if TYPE_CHECKING:
    from huggingface_hub import HfApi

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
# Packages whose exceptions are errors of the hub or the connection.
_REMOTE = {"huggingface_hub", "requests", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2"}


def save_pretrained(
    network: nn.Module, folder: str | Path, card: ModelCard, *, repo_id: str = "OWNER/NAME"
) -> None:
    """Write the files of a repository: weights, config and card.

    The written weights are read and compared before they are renamed to their final name.

    Args:
        network: A generator of this package, on the CPU, in evaluation mode.
        folder: Folder for the files; other files in it are not changed.
        card: Content of the card.
        repo_id: Name of the repository, for the card.

    Raises:
        UserError: The network is not a generator, or `huggingface_hub` is missing.
        OSError: A file cannot be written.
    """
    _require_hub()
    kind = type(network).__name__
    if kind not in GENERATORS or not isinstance(network, Generator):
        raise UserError(f"expected one of {', '.join(GENERATORS)} to save, got {kind}")
    note = note_for(kind, {name: getattr(network, name) for name in arguments_of(kind)})
    meta = {NOTE: note, **metadata_of(network, name=card.name, license=card.license)}
    content = {"state_dict": network.state_dict(), "meta": meta}
    path = Path(folder) / WEIGHTS

    def check(written: Path) -> None:
        require_same_output(written, network)

    save_atomically(content, path, check=check)
    config = {
        "architectures": [kind],
        "library_name": LIBRARY,
        "library_version": __version__,
        "arguments": dict(identify(load_checkpoint_file(path)).arguments),
        "sha256": sha256(path),
    }
    write_text(json.dumps(config, indent=2) + "\n", path.with_name(CONFIG))
    write_text(card_text(network, card, repo_id), path.with_name(CARD))


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
    """Push a generator to the hub, as one commit in a new or existing repository.

    Args:
        network: A generator of this package, on the CPU, in evaluation mode.
        repo_id: Name of the repository, `OWNER/NAME`.
        card: Content of the card.
        private: Whether to make a new repository private; by default as in the owner's settings.
        revision: Existing branch; by default `main`.
        message: Message of the commit.
        api: Client of a hub; by default of huggingface.co, with the token of `hf auth login` or
            `HF_TOKEN`.

    Returns:
        URL of the commit.

    Raises:
        UserError: See `save_pretrained`; or the hub refuses the push or cannot be reached.
    """
    api = api or _require_hub().HfApi(library_name=LIBRARY, library_version=__version__)
    with TemporaryDirectory() as folder:
        save_pretrained(network, folder, card, repo_id=repo_id)
        with _one_line(repo_id):
            api.create_repo(repo_id, private=private, exist_ok=True)
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
    """Build the generator of a repository of the hub, or of a folder of `save_pretrained`.

    Args:
        repo_id: Name of the repository, `OWNER/NAME`, or path of the folder.
        revision: Branch, tag or commit.
        local_files_only: Whether to use earlier downloads only, without a connection.
        api: See `push_to_hub`.

    Returns:
        The network, float32, on the CPU, in evaluation mode.

    Raises:
        UserError: The repository does not exist or has other files, its weights do not fit its
            config, or the hub cannot be reached.
    """
    folder = Path(repo_id)
    if not folder.is_dir():
        folder = _downloaded(str(repo_id), revision, local_files_only, api)
    config = _read_config(folder / CONFIG)
    path = folder / WEIGHTS
    verify_weights(path, config)
    with prefix_errors(path):
        found = identify(load_checkpoint_file(path))
        own = {key: plain(value) for key, value in found.arguments.items()}
        stated = {key: plain(value) for key, value in config["arguments"].items()}
        if [found.layout.network] != config["architectures"] or own != stated:
            raise UserError(f"expected the network of its {CONFIG}, got {found}")
        network = found.build()
    assert isinstance(network, Generator)
    return network


def local_weights(repo_id: str, *, revision: str | None = None, api: "HfApi | None" = None) -> Path:
    """Return the path of a repository's weights, after downloading them if necessary.

    Args:
        repo_id: Name of the repository, `OWNER/NAME`.
        revision: Branch, tag or commit.
        api: See `push_to_hub`.

    Raises:
        UserError: See `from_pretrained`.
    """
    folder = _downloaded(repo_id, revision, False, api)
    verify_weights(folder / WEIGHTS, _read_config(folder / CONFIG))
    return folder / WEIGHTS


def verify_weights(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse weights whose SHA-256 differs from the one in their config.

    Raises:
        UserError: It differs.
        MissingFileError: The weights do not exist.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: expected the weights, but there is no such file")
    if (digest := sha256(path)) != config["sha256"]:
        raise UserError(
            f"{path}: expected SHA-256 {config['sha256']}, as in {CONFIG} beside it, got "
            f"{digest}; remove that folder, and download it again"
        )


def _downloaded(repo_id: str, revision: str | None, local: bool, api: "HfApi | None") -> Path:
    """Return the local folder of a repository, with both files of the same commit."""
    api = api or _require_hub().HfApi(library_name=LIBRARY, library_version=__version__)
    with _one_line(repo_id):
        folder = api.snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=[CONFIG, WEIGHTS],
            local_files_only=local,
        )
    return Path(folder)


_FIELDS = {"architectures": list, "arguments": dict, "sha256": str}


def _read_config(path: Path) -> dict[str, Any]:
    """Return a config after checking the types of its fields."""
    if not path.is_file():
        raise MissingFileError(
            f"{path}: expected the config that push_to_hub writes, but there is no such file; give "
            "the URL of a checkpoint in that repository to --model instead"
        )
    config = read_json(path, f"{LIBRARY}'s config")
    for key, kind in _FIELDS.items():
        if not isinstance(config, dict) or not isinstance(config.get(key), kind):
            raise UserError(
                f"{path}: expected {LIBRARY}'s config with {', '.join(_FIELDS)}, got no {key}"
            )
    return dict(config)


def _require_hub() -> Any:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UserError("expected the package huggingface_hub; pip install huggingface_hub")
    import huggingface_hub

    return huggingface_hub


def _is_remote(error: BaseException | None) -> bool:
    """Return whether an error, or its cause, is of the hub or the connection."""
    if error is None:
        return False
    roots = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    return bool(roots & _REMOTE) or _is_remote(error.__cause__)


@contextlib.contextmanager
def _one_line(repo_id: str) -> Iterator[None]:
    """Convert errors of the hub or the connection to one line."""
    try:
        yield
    except Exception as error:
        if not _is_remote(error):
            raise
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        message = " ".join(lines[:2]) or type(error).__name__
        raise FileError(f"{repo_id}: the Hugging Face hub: {message}") from error
