"""What the readers make of a damaged file, and whether that is right, as far as others can tell."""

import contextlib
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import torch
from fuzz_corpus import Seed

from srgan_plugin.checkpoints import identify, load_checkpoint_file, open_network
from srgan_plugin.checkpoints.inspect import inspect_checkpoint
from srgan_plugin.cli.errors import one_line
from srgan_plugin.errors import UserError
from srgan_plugin.io import image_content, images
from srgan_plugin.io.lmdb_store import ImageStore


class FaultError(Exception):
    """What a reader must not do."""


def attempt(reader: Callable[..., Any], path: Path, *arguments: Any) -> Any:
    """Return what a reader makes of a file; None where it refuses it as it should."""
    try:
        return reader(*arguments or (path,))
    except UserError as error:
        message = one_line(error)
        if str(path) not in message or not message.isprintable():
            raise FaultError(f"message: {message!r}") from error
        return None


def read_image_file(path: Path) -> dict[str, Any]:
    """Read an image in each way that there is; return what came of those that took it."""
    return {
        reader.__name__: attempt(reader, path)
        for reader in (
            images.read_image,
            images.read_source_image,
            images.image_shape,
            image_content.peek_size,
            image_content.read_image_content,
        )
    }


def compare_image(path: Path, found: dict[str, Any], seed: Seed) -> None:
    """Compare pixels with those of Pillow and OpenCV, where they read the file."""
    trained, content = found["read_image"], found["read_image_content"]
    if trained is not None:
        if found["image_shape"] != trained.shape[:2]:
            raise FaultError(f"shape {found['image_shape']}, pixels {trained.shape}")
        other = by_pillow(path)
        # Of a JPEG file only `read_source_image` promises to see whether its pixels are whole.
        if path.suffix != ".jpg" or not isinstance(other, str):
            expect_equal("read_image", trained, other)
    source = found["read_source_image"]
    if source is not None:
        expect_equal("read_source_image", source, by_pillow(path))
    if content is not None:
        pixels = content.pixels
        if found["peek_size"] not in (pixels.shape[:2], pixels.shape[1::-1]):
            raise FaultError(f"size {found['peek_size']}, pixels {pixels.shape}")
        expect_turned("read_image_content", pixels, by_opencv(path))


def by_pillow(path: Path) -> Any:
    """Return RGB pixels of 8 bits, an error's message, or None where Pillow cannot tell."""
    file = io.BytesIO(without_notes(path.read_bytes()))
    try:
        with PIL.Image.open(file, formats=("PNG", "JPEG", "WEBP", "TIFF", "BMP")) as image:
            image.load()
            if image.mode in ("I;16", "I;16B"):
                return np.repeat((np.asarray(image) // 257).astype(np.uint8)[..., None], 3, 2)
            if image.mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
                return np.asarray(image.convert("RGBA").convert("RGB"))
    except Exception as error:  # of any kind
        return f"{type(error).__name__}: {error}"
    return None


def without_notes(content: bytes) -> bytes:
    """Drop from a PNG image what changes no pixel, and what Pillow refuses to skip if damaged."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    kept, at = content[:8], 8
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        kind, checksum = content[at + 4 : at + 8], zlib.crc32(content[at + 4 : end - 4])
        whole = content[end - 4 : end] == checksum.to_bytes(4, "big")
        if not kind[:1].islower() or (kind == b"tRNS" and whole):
            kept += content[at:end]
        at = end
    return kept


def by_opencv(path: Path) -> Any:
    """Return pixels in the order RGB, RGBA, or None where OpenCV cannot tell.

    Nobody can where the header of a BMP or TIFF file is damaged: it has no checksum, and readers
    guess. Training, which has two readers, refuses what they guess differently.
    """
    if path.suffix in (".bmp", ".tif"):
        return None
    try:
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if pixels is None:
        return None
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]] if pixels.shape[2] >= 3 else pixels


def expect_equal(what: str, pixels: Any, other: Any) -> None:
    """Raise a fault unless the other reader agrees, or cannot tell."""
    if isinstance(other, str):
        raise FaultError(f"{what} takes what Pillow refuses: {other}")
    if other is not None and not np.array_equal(pixels, other):
        raise FaultError(f"{what}: {difference(pixels, other)}")


def expect_turned(what: str, pixels: Any, other: Any) -> None:
    """Raise a fault unless pixels are the other's, turned in some way, or kinds differ."""
    if other is None or other.dtype != pixels.dtype or other.shape[2] != pixels.shape[2]:
        return
    turned = [np.rot90(o, k) for k in range(4) for o in (other, other[:, ::-1])]
    if not any(np.array_equal(pixels, one) for one in turned):
        raise FaultError(f"{what}: {difference(pixels, other)}")


def difference(pixels: Any, other: Any) -> str:
    """Say how far two images are apart."""
    if pixels.shape != other.shape:
        return f"{pixels.shape}, another reader has {other.shape}"
    apart = np.abs(pixels.astype(np.int64) - other)
    return f"{np.count_nonzero(apart)} of {apart.size} values differ, by up to {apart.max()}"


def read_store(path: Path) -> dict[str, Any]:
    """Open a store, read every value, verify it."""
    store = attempt(ImageStore, path)
    found = {}
    for key in store.keys if store else ():
        attempt(store.verify, path, key)
        found[key] = attempt(lambda key: np.asarray(store[key]), path, key)
        window = attempt(lambda key: store[key][1:3, 0:2], path, key)
        if found[key] is not None and not np.array_equal(window, found[key][1:3, 0:2]):
            raise FaultError(f"a window of {key} has other pixels")
    return found


def compare_store(path: Path, found: dict[str, Any], seed: Seed) -> None:
    """Compare pixels with those that were written; the shape is what the text states."""
    for key, pixels in found.items() if seed.images is not None else ():
        if pixels is not None and (
            key not in seed.images or not np.array_equal(pixels.ravel(), seed.images[key].ravel())
        ):
            raise FaultError(f"{key} has other pixels than were written")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint, describe it, and build its network."""
    loaded = attempt(load_checkpoint_file, path)
    attempt(inspect_checkpoint, path)
    attempt(open_network, path)
    with contextlib.suppress(UserError):  # whose message has the name if the caller adds it
        if loaded is not None:
            identify(loaded, role="discriminator").build(assume=True)
    return {"loaded": loaded}


def compare_checkpoint(path: Path, found: dict[str, Any], seed: Seed) -> None:
    """Compare tensors with those that torch's own reader returns."""
    loaded = found["loaded"]
    if loaded is None or path.suffix == ".safetensors":
        return
    try:
        other = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # it knows less
        return
    ours, its = tensors(loaded), tensors(other)
    if ours.keys() != its.keys():
        raise FaultError(f"weights differ from torch's: {ours.keys() ^ its.keys()}")
    for key, weight in ours.items():
        if weight.dtype != its[key].dtype or not same_tensor(weight, its[key]):
            raise FaultError(f"weights differ from torch's: {key}")


def tensors(loaded: Any, prefix: str = "", depth: int = 0) -> dict[str, torch.Tensor]:
    """Return all tensors of nested dicts."""
    if isinstance(loaded, torch.Tensor):
        return {prefix: loaded}
    found = {}
    for key, value in loaded.items() if isinstance(loaded, dict) and depth < 5 else ():
        found |= tensors(value, f"{prefix}.{key!r}", depth + 1)
    return found


def same_tensor(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have the same values; NaN is NaN."""
    if one.layout != torch.strided or one.is_meta or one.is_quantized:
        return one.shape == other.shape
    return one.shape == other.shape and bool(
        ((one == other) | ((one != one) & (other != other))).all()
    )
