"""The bundled weights, the published checkpoints, and files on a server."""

import functools
import hashlib
from pathlib import Path
from typing import Final

import torch

from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.io.download import Progress, download, sha256, split_url

from .file_kinds import kind_of
from .read_write import filename_hash

#: The bundled weights, as NAME.safetensors.
WEIGHTS: Final = Path(__file__).resolve().parent / "weights"
BUNDLED_MODELS: Final = ("msrresnet", "srgan")
BUNDLED_LICENSE: Final = "cc-by-sa-4.0"
#: What their notes, which are older than `format`, leave open.
BUNDLED_ARGUMENTS: Final = {"activate_after_shuffle": False}
#: In `WEIGHTS`: what they must hash to, as `sha256sum` writes and reads it.
SUMS: Final = "SHA256SUMS"

_OPENMMLAB = "https://download.openmmlab.com/mmediting/restorers/srresnet_srgan"
#: By the names that tables have; the digits are the first of the file's SHA-256.
PUBLISHED = {
    "msrresnet_x4c64b16_1x16_300k_div2k": (
        f"{_OPENMMLAB}/msrresnet_x4c64b16_1x16_300k_div2k_20200521-61556be5.pth"
    ),
    "srgan_x4c64b16_1x16_1000k_div2k": (
        f"{_OPENMMLAB}/srgan_x4c64b16_1x16_1000k_div2k_20200606-a1f0810e.pth"
    ),
}


def local_checkpoint(
    location: str, *, folder: str | Path | None = None, progress: Progress | None = None
) -> Path:
    """Return where a checkpoint lies on this machine; download one with a URL, once.

    Size and, where the name closes with its digits, SHA-256 of a download are verified.

    Args:
        location: `msrresnet` or `srgan` for the bundled weights, a path, a URL (`http://`,
            `https://`), or `hf://OWNER/NAME[@REVISION]` on the Hugging Face hub.
        folder: where downloads go, those without such digits into a folder below it for each
            URL; by default torch's own folder of checkpoints.
        progress: see `download`.

    Raises:
        UserError: the download is not the published file, or the bundled weights were changed.
        FileError: it cannot be downloaded; the message says where to put it by hand.
    """
    if location in BUNDLED_MODELS:
        return _bundled(location, WEIGHTS)
    if location.startswith("hf://"):
        from .huggingface import local_weights

        repo_id, _, revision = location.removeprefix("hf://").partition("@")
        return local_weights(repo_id, revision=revision or None)
    if not location.startswith(("http://", "https://")):
        return Path(location)
    folder = Path(folder or Path(torch.hub.get_dir()) / "checkpoints")
    name = split_url(location).path.rsplit("/", 1)[-1]
    digits = filename_hash(name) or None
    if digits is None:  # many files are called model.safetensors
        folder /= hashlib.sha256(location.encode()).hexdigest()[:8]
    return download(location, folder / name, sha256_prefix=digits, progress=progress)


@functools.lru_cache  # once in a process
def _bundled(name: str, folder: Path) -> Path:
    path, sums = folder / f"{name}.safetensors", folder / SUMS
    if not path.is_file():
        raise MissingFileError(f"{path}: expected the bundled weights, but there is no such file")
    listed = sums.read_text(encoding="utf-8") if sums.is_file() else ""
    expected = dict(line.split()[::-1] for line in listed.splitlines() if line).get(path.name)
    if (digest := sha256(path)) != expected:
        kind = kind_of(path) if path.stat().st_size else "an empty file"
        raise UserError(
            f"{path}: expected the bundled weights (SHA-256 {expected or f'none in {sums}'}), "
            f"got {kind or 'others'} ({digest}); install srgan_plugin again, or give your own "
            "weights by their path"
        )
    return path
