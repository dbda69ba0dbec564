"""Return the local path of a checkpoint that is given by name, path or URL."""

import difflib
import functools
import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from srgan_plugin.errors import FileError, MissingFileError, UserError
from srgan_plugin.io.download import Progress, download, sha256, split_url

from .file_kinds import detect_kind, explain_missing
from .read_write import filename_hash

#: Folder of the bundled weights, `NAME.safetensors`.
WEIGHTS: Final = Path(__file__).resolve().parent / "weights"
BUNDLED_MODELS: Final = ("msrresnet", "srgan", "photo")
BUNDLED_LICENSE: Final = "cc-by-sa-4.0"
#: Arguments of the bundled and the OpenMMLab networks that their files do not record, or record in
#: a note of format 1, whose defaults are not trusted.
BUNDLED_ARGUMENTS: Final = {"activate_after_shuffle": False}
#: File in `WEIGHTS` with the SHA-256 of each bundled file, in the format of `sha256sum`.
SUMS: Final = "SHA256SUMS"

_OPENMMLAB = "https://download.openmmlab.com/mmediting/restorers/srresnet_srgan"
#: URLs of OpenMMLab's checkpoints by name; file names end with the first digits of the SHA-256.
PUBLISHED = {
    "msrresnet_x4c64b16_1x16_300k_div2k": (
        f"{_OPENMMLAB}/msrresnet_x4c64b16_1x16_300k_div2k_20200521-61556be5.pth"
    ),
    "srgan_x4c64b16_1x16_1000k_div2k": (
        f"{_OPENMMLAB}/srgan_x4c64b16_1x16_1000k_div2k_20200606-a1f0810e.pth"
    ),
}

# Names of the configs of these checkpoints in MMEditing and MMagic.
_ALIASES: Final = {
    f"{known.partition('_1x16')[0]}_{batch}_div2k": known
    for known in PUBLISHED
    for batch in ("g1_1000k", "1xb16-1000k")
}
# Published without a hash: downloads are verified by size and strict loading.
_KAIR: Final = {
    name: f"https://github.com/cszn/KAIR/releases/download/v1.0/{name}.pth"
    for name in ("msrresnet_x4_psnr", "msrresnet_x4_gan")
}
_BASICSR_PAGE: Final = "https://github.com/XPixelGroup/BasicSR/blob/master/docs/ModelZoo.md"
# Published on a page that only browsers can use.
_BASICSR: Final = (
    "001_MSRResNet_x4_f64b16_DIV2K_1000k_B16G1_wandb",
    "002_MSRResNet_x2_f64b16_DIV2K_1000k_B16G1_001pretrain_wandb",
    "003_MSRResNet_x3_f64b16_DIV2K_1000k_B16G1_001pretrain_wandb",
    "004_MSRGAN_x4_f64b16_DIV2K_400k_B16G1_wandb",
)
_SCHEMES: Final = ("http://", "https://", "hf://")
logger = logging.getLogger(__name__)


def is_supported_location(location: str) -> bool:
    """Return whether `local_checkpoint` supports a location; mmengine loads others (`s3://`)."""
    return "://" not in location or location.startswith(_SCHEMES)


def published_url(name: str) -> str | None:
    """Return the URL of a published checkpoint; None for an unknown name.

    Args:
        name: Name of a checkpoint in the tables of OpenMMLab or KAIR, name of its config, or file
            name without `.pth`.

    Raises:
        FileError: The checkpoint can only be downloaded with a browser.
    """
    if name in _BASICSR:
        raise FileError(
            f"{name}: expected a checkpoint with a direct URL, got one on a page for browsers; "
            f"download it from {_BASICSR_PAGE} and give its path"
        )
    return _url_by_name(name)


def _url_by_name(name: str) -> str | None:
    urls = {**PUBLISHED, **_KAIR}
    by_file = {url.rpartition("/")[2].removesuffix(".pth"): url for url in urls.values()}
    return (urls | by_file).get(_ALIASES.get(name, name))


def published_arguments(location: str) -> dict[str, Any]:
    """Return what is known of a network by its publication, and not recorded in its file.

    Args:
        location: See `local_checkpoint`.

    Returns:
        `BUNDLED_ARGUMENTS` for the name of a bundled or an OpenMMLab checkpoint, the URL of the
        latter, and a copy of a bundled file; empty for any other location.
    """
    if location in BUNDLED_MODELS:
        is_known = True
    elif os.path.exists(location):  # noqa: PTH110 - has priority over a name, as a path
        is_known = _is_bundled_file(Path(location))
    else:
        is_known = (_url_by_name(location) or location) in PUBLISHED.values()
    return dict(BUNDLED_ARGUMENTS) if is_known else {}


def network_arguments(location: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a network that its file need not record.

    Args:
        location: See `local_checkpoint`.
        given: Arguments given by the user.

    Returns:
        `given` and those of `published_arguments`.

    Raises:
        UserError: An argument contradicts what is known of the published network.
    """
    known = published_arguments(location)
    for name in known.keys() & given.keys():
        if given[name] != known[name]:
            raise UserError(
                f"{name}: expected {known[name]}, with which {location} was trained, got "
                f"{given[name]}; leave the option away"
            )
    return known | dict(given)


def _is_bundled_file(path: Path) -> bool:
    """Return whether a file has the content of bundled weights; it is hashed if it has the size."""
    sizes = {file.stat().st_size for file in WEIGHTS.glob("*.safetensors")}
    is_candidate = path.is_file() and path.stat().st_size in sizes
    return is_candidate and sha256(path) in _read_sums(WEIGHTS / SUMS).values()


def _read_sums(path: Path) -> dict[str, str]:
    """Return the SHA-256 by file name in the output of `sha256sum`; empty for a missing file."""
    listed = path.read_text(encoding="utf-8") if path.is_file() else ""
    return dict(line.split()[::-1] for line in listed.splitlines() if line)


def _explain_unknown(location: str) -> str:
    """Return a message for a missing file or an unknown name, with similar names."""
    message = explain_missing(Path(location))
    if Path(location).name != location:
        return message
    known = (*BUNDLED_MODELS, *PUBLISHED, *_ALIASES, *_KAIR, *_BASICSR)
    names = {name.lower(): name for name in known}
    typed = location.removesuffix(".pth").lower()
    near = [names[name] for name in difflib.get_close_matches(typed, names)]
    return f"{message}; models by name: {', '.join(near or BUNDLED_MODELS)}"


def local_checkpoint(
    location: str, *, folder: str | Path | None = None, progress: Progress | None = None
) -> Path:
    """Return the path of a checkpoint, after downloading it if necessary.

    A download is verified by its size, and by its SHA-256 if the name ends with the first digits.

    Args:
        location: A path, a URL (`http://`, `https://`), `hf://OWNER/NAME[@REVISION]` for the
            Hugging Face hub, the name of a published checkpoint, or a name in `BUNDLED_MODELS`. A
            path that exists is returned unchanged, even of a folder.
        folder: Folder for downloads by URL or name; default: the `checkpoints` folder of
            `torch.hub`. Files without a hash in their name are saved in one subfolder per URL.
            Ignored for `hf://`, which has a cache of its own.
        progress: See `download`; ignored for `hf://`.

    Returns:
        The path; it is a file unless `location` is the path of a folder.

    Raises:
        MissingFileError: The path does not exist or the name is unknown; the message lists similar
            names. Or the repository of `hf://` has no such file.
        UserError: The URL is invalid, the download differs from the published file, or the bundled
            weights were changed.
        FileError: The download failed; for a URL or a name the message contains the path for a
            manual download. Or only a browser can download the checkpoint.
    """
    if location in BUNDLED_MODELS:
        return _bundled_path(location, WEIGHTS)
    if location.startswith("hf://"):
        from .huggingface import local_weights

        repo_id, _, revision = location.removeprefix("hf://").partition("@")
        return local_weights(repo_id, revision=revision or None)
    if not location.startswith(_SCHEMES):
        if os.path.exists(location):  # noqa: PTH110 - returns False for invalid paths
            return Path(location)
        if (url := published_url(location)) is None:
            raise MissingFileError(_explain_unknown(location))
        location = url
    folder = Path(folder or Path(torch.hub.get_dir()) / "checkpoints")
    name = split_url(location).path.rsplit("/", 1)[-1]
    digits = filename_hash(name) or None
    if digits is None:  # many files have the same name, such as model.safetensors
        folder /= hashlib.sha256(location.encode()).hexdigest()[:8]
    if progress is None and not (folder / name).is_file():
        logger.warning("downloading %s to %s", location, folder)
    return download(location, folder / name, sha256_prefix=digits, progress=progress)


@functools.lru_cache  # to hash each file only once
def _bundled_path(name: str, folder: Path) -> Path:
    """Return the path of bundled weights after verifying their SHA-256."""
    path, sums = folder / f"{name}.safetensors", folder / SUMS
    if not path.is_file():
        raise MissingFileError(
            f"{path}: expected the bundled weights, got no such file; reinstall srgan_plugin"
        )
    expected = _read_sums(sums).get(path.name)
    if (digest := sha256(path)) != expected:
        kind = detect_kind(path) if path.stat().st_size else "an empty file"
        raise UserError(
            f"{path}: expected the bundled weights (SHA-256 {expected or f'none in {sums}'}), "
            f"got {kind or 'others'} ({digest}); install srgan_plugin again, or give your own "
            "weights by their path"
        )
    return path
