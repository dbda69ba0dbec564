"""Weights that ship, the published checkpoints, and files that may lie on a server."""

import hashlib
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import torch

from srgan_plugin.download import Progress, download
from srgan_plugin.zoo.loading import stated_hash

#: The weights that ship with the package, as NAME.safetensors.
WEIGHTS: Final = Path(__file__).resolve().parent / "weights"
NAMES: Final = ("msrresnet", "srgan")

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
    """Tells where a checkpoint lies on this machine; one with a URL is fetched, once.

    Size and, where the name closes with its digits, SHA-256 of what is fetched are verified.

    Args:
        location: `msrresnet` or `srgan` for the weights that ship, a path, or a URL (`http://`,
            `https://`).
        folder: where fetched files go, those without such digits into a folder below it for each
            URL; by default torch's own folder of checkpoints.
        progress: see `download`.

    Raises:
        ValueError: what came is not the published file.
        OSError: it cannot be fetched; the message says where to put it by hand.
    """
    if location in NAMES:
        return WEIGHTS / f"{location}.safetensors"
    if not location.startswith(("http://", "https://")):
        return Path(location)
    folder = Path(folder or Path(torch.hub.get_dir()) / "checkpoints")
    name = urlsplit(location).path.rsplit("/", 1)[-1]
    digits = stated_hash(name) or None
    if digits is None:  # many files are called model.safetensors
        folder /= hashlib.sha256(location.encode()).hexdigest()[:8]
    return download(location, folder / name, sha256_prefix=digits, progress=progress)
