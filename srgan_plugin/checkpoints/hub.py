"""The bundled weights, the published checkpoints, and files on a server."""

import difflib
import functools
import hashlib
import logging
import os
from pathlib import Path
from typing import Any, Final

import torch

from srgan_plugin.errors import FileError, MissingFileError, UserError
from srgan_plugin.io.download import Progress, download, sha256, split_url

from .file_kinds import kind_of, missing
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

# What other versions of MMEditing and MMagic call the same files.
_ALIASES: Final = {
    f"{known.partition('_1x16')[0]}_{batch}_div2k": known
    for known in PUBLISHED
    for batch in ("g1_1000k", "1xb16-1000k")
}
# Published without a hash: a download is verified by its size and by loading strictly.
_KAIR: Final = {
    name: f"https://github.com/cszn/KAIR/releases/download/v1.0/{name}.pth"
    for name in ("msrresnet_x4_psnr", "msrresnet_x4_gan")
}
_BASICSR_PAGE: Final = "https://github.com/XPixelGroup/BasicSR/blob/master/docs/ModelZoo.md"
# Published where only a browser gets them.
_BASICSR: Final = (
    "001_MSRResNet_x4_f64b16_DIV2K_1000k_B16G1_wandb",
    "002_MSRResNet_x2_f64b16_DIV2K_1000k_B16G1_001pretrain_wandb",
    "003_MSRResNet_x3_f64b16_DIV2K_1000k_B16G1_001pretrain_wandb",
    "004_MSRGAN_x4_f64b16_DIV2K_400k_B16G1_wandb",
)
_FETCHED: Final = ("http://", "https://", "hf://")
logger = logging.getLogger(__name__)


def is_fetched_here(location: str) -> bool:
    """Whether `local_checkpoint` takes a location; mmengine loads from others, such as `s3://`."""
    return "://" not in location or location.startswith(_FETCHED)


def published_url(name: str) -> str | None:
    """Return where a published checkpoint is downloaded; None if there is none of that name.

    Args:
        name: As OpenMMLab's and KAIR's tables, configs or files have it, without `.pth`.

    Raises:
        FileError: It is published where no program can fetch it.
    """
    if name in _BASICSR:
        raise FileError(
            f"{name}: expected a checkpoint that can be fetched, but BasicSR publishes it on a "
            f"page for browsers: download it from {_BASICSR_PAGE} and give its path"
        )
    urls = {**PUBLISHED, **_KAIR}
    by_file = {url.rpartition("/")[2].removesuffix(".pth"): url for url in urls.values()}
    return (urls | by_file).get(_ALIASES.get(name, name))


def stated_arguments(location: str) -> dict[str, Any]:
    """Return what the name of a model states of it and its file does not."""
    named = location in (*BUNDLED_MODELS, *PUBLISHED, *_ALIASES)
    return dict(BUNDLED_ARGUMENTS) if named else {}


def _unknown(location: str) -> str:
    """Say that there is no such file or name, and which are near."""
    words = missing(Path(location))
    if Path(location).name != location or Path(location).is_dir():
        return words
    names = {name.lower(): name for name in (*BUNDLED_MODELS, *PUBLISHED, *_ALIASES, *_KAIR)}
    names |= {name.lower(): name for name in _BASICSR}
    typed = location.removesuffix(".pth").lower()
    near = [names[name] for name in difflib.get_close_matches(typed, names)]
    return f"{words}; models by name: {', '.join(near or BUNDLED_MODELS)}"


def local_checkpoint(
    location: str, *, folder: str | Path | None = None, progress: Progress | None = None
) -> Path:
    """Return where a checkpoint lies on this machine; download one with a URL, once.

    Size and, where the name closes with its digits, SHA-256 of a download are verified.

    Args:
        location: `msrresnet` or `srgan` for the bundled weights, a path, the name of a published
            checkpoint, a URL (`http://`, `https://`), or `hf://OWNER/NAME[@REVISION]` on the
            Hugging Face hub.
        folder: where downloads go, those without such digits into a folder below it for each
            URL; by default torch's own folder of checkpoints.
        progress: see `download`.

    Raises:
        MissingFileError: there is no such file or name; the message lists those like it.
        UserError: the download is not the published file, or the bundled weights were changed.
        FileError: it cannot be downloaded; the message says where to put it by hand.
    """
    if location in BUNDLED_MODELS:
        return _bundled(location, WEIGHTS)
    if location.startswith("hf://"):
        from .huggingface import local_weights

        repo_id, _, revision = location.removeprefix("hf://").partition("@")
        return local_weights(repo_id, revision=revision or None)
    if not location.startswith(_FETCHED):
        if os.path.exists(location):  # noqa: PTH110 - False for names that no system takes
            return Path(location)
        if (url := published_url(location)) is None:
            raise MissingFileError(_unknown(location))
        location = url
    folder = Path(folder or Path(torch.hub.get_dir()) / "checkpoints")
    name = split_url(location).path.rsplit("/", 1)[-1]
    digits = filename_hash(name) or None
    if digits is None:  # many files are called model.safetensors
        folder /= hashlib.sha256(location.encode()).hexdigest()[:8]
    if progress is None and not (folder / name).is_file():
        logger.warning("downloading %s to %s", location, folder)
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
