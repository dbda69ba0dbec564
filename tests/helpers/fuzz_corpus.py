"""Small whole files that a fuzzer damages: images, stores and checkpoints, made anew each time."""

import io
import pickle
import posix
import re
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import PIL.Image
import PIL.ImageCms
import safetensors.torch
import torch
from numpy.typing import NDArray

from srgan_plugin.io.lmdb_writer import StoreWriter
from srgan_plugin.networks import ModifiedVGG, MSRResNet, SRResNet

Files = dict[str, bytes]


class Seed(NamedTuple):
    """A file, or the files of a store, and what a store holds."""

    name: str
    files: Files
    images: dict[str, NDArray[np.uint8]] | None = None


def _noise(width: int, height: int, channels: int = 3) -> NDArray[np.uint8]:
    small = np.random.default_rng(width).integers(0, 256, (4, 4, channels), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def _pillow(kind: str, image: PIL.Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _opencv(suffix: str, pixels: NDArray[Any]) -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def image_files() -> list[Seed]:
    """Return an image of each kind that the readers know, and some that they refuse."""
    rgb = PIL.Image.fromarray(_noise(20, 14))
    large = PIL.Image.fromarray(_noise(70, 52))
    grey, alpha, opaque = rgb.convert("L"), rgb.convert("RGBA"), rgb.convert("RGBA")
    alpha.putalpha(grey)
    deep = (_noise(12, 9).astype(np.uint16) << 8) + 7
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    profile = profile[:24] + bytes(12) + profile[36:]  # without the time
    pages: dict[str, Any] = {"save_all": True, "append_images": [PIL.Image.new("RGB", (20, 14))]}
    files = {
        "rgb.png": _pillow("PNG", rgb),
        "large.png": _pillow("PNG", large, icc_profile=profile, exif=exif),
        "grey.png": _pillow("PNG", grey),
        "bit.png": _pillow("PNG", grey.convert("1")),
        "la.png": _pillow("PNG", opaque.convert("LA")),
        "alpha.png": _pillow("PNG", alpha),
        "opaque.png": _pillow("PNG", opaque),
        "palette.png": _pillow("PNG", rgb.convert("P")),
        "palette_trns.png": _pillow("PNG", rgb.convert("P"), transparency=3),
        "grey_trns.png": _pillow("PNG", grey, transparency=128),
        "animated.png": _pillow("PNG", rgb, **pages),
        "deep.png": _opencv(".png", deep),
        "deep_grey.png": _opencv(".png", deep[..., 0]),
        "deep_exact.png": _opencv(".png", _noise(12, 9).astype(np.uint16) * 257),
        "420.jpg": _pillow("JPEG", large),
        "444.jpg": _pillow("JPEG", large, subsampling=0, quality=95, optimize=True),
        "grey.jpg": _pillow("JPEG", grey),
        "progressive.jpg": _pillow("JPEG", large, progressive=True),
        "restarts.jpg": _pillow("JPEG", large, restart_marker_blocks=2),
        "turned.jpg": _pillow("JPEG", rgb, exif=exif, icc_profile=profile, comment="a"),
        "cmyk.jpg": _pillow("JPEG", rgb.convert("CMYK")),
        "lossy.webp": _pillow("WEBP", large),
        "lossless.webp": _pillow("WEBP", rgb, lossless=True),
        "alpha.webp": _pillow("WEBP", alpha, exif=exif),
        "animated.webp": _pillow("WEBP", rgb, **pages),
        **{
            f"{kind}.tif": _pillow("TIFF", large if kind == "jpeg" else rgb, compression=kind)
            for kind in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
        },
        "fax.tif": _pillow("TIFF", grey.convert("1"), compression="group4"),
        "grey.tif": _pillow("TIFF", grey),
        "alpha.tif": _pillow("TIFF", alpha),
        "palette.tif": _pillow("TIFF", rgb.convert("P")),
        "pages.tif": _pillow("TIFF", rgb, **pages),
        "float.tif": _pillow("TIFF", grey.convert("F")),
        "deep.tif": _opencv(".tif", deep),
        "deep_grey.tif": _opencv(".tif", deep[..., 0]),
        "rgb.bmp": _pillow("BMP", rgb),
        "palette.bmp": _pillow("BMP", rgb.convert("P")),
        "grey.bmp": _pillow("BMP", grey),
        "alpha.bmp": _pillow("BMP", alpha),
    }
    return [Seed(name, {name: content}) for name, content in files.items()]


def stores(folder: Path) -> list[Seed]:
    """Return stores of both layouts, with checksums and without, with few and with many pages."""
    small = {f"{n:03}": _noise(9 + n, 7 + n) for n in range(3)}
    large = {f"a/{n}": _noise(40 + n, 44) for n in range(3)}
    many = {f"{n:03}" + "_a_long_name" * 8: _noise(2, 3) for n in range(90)}
    found = []
    for name, images in (("small", small), ("large", large), ("many", many)):
        for layout in ("raw", "png"):
            path = folder / f"{name}_{layout}.lmdb"
            with StoreWriter(path, layout) as writer:  # type: ignore[arg-type]
                for key, image in images.items():
                    writer.put(key, image)
            files = {file.name: file.read_bytes() for file in sorted(path.iterdir())}
            found.append(Seed(path.name, files, images))
            if name == "small":
                meta = b"\n".join(
                    line.partition(b" crc32=")[0] for line in files["meta_info.txt"].split(b"\n")
                )
                old = files | {"meta_info.txt": meta}
                # A flipped bit of plain pixels is not found without checksums.
                known = images if layout == "png" else None
                found.append(Seed(f"without_checksums_{layout}.lmdb", old, known))
    return found


class _Call:
    """Pickles as a call; harmless, and refused by whoever looks at what is run."""

    def __reduce__(self) -> Any:
        return posix.system, ("true",)


def _saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def _legacy(content: Any, **options: Any) -> bytes:
    """Return the old format, in which storages are called by their addresses: here by a number.

    All tensors share one storage, for storages are sorted by their names.
    """
    saved = _saved(content, _use_new_zipfile_serialization=False, **options)
    return re.sub(rb"\d{13,15}", lambda found: b"9" * len(found[0]), saved)


def _sharing(state: dict[str, torch.Tensor]) -> OrderedDict[str, torch.Tensor]:
    """Return weights as views of one storage."""
    floats = {key: weight for key, weight in state.items() if weight.is_floating_point()}
    flat, shared, at = torch.cat([w.flatten() for w in floats.values()]), OrderedDict(), 0
    for key, weight in floats.items():
        shared[key] = flat[at : at + weight.numel()].view(weight.shape)
        at += weight.numel()
    return shared


def _zipped(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in (("data.pkl", data), ("version", b"3\n"), ("data/0", bytes(16))):
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    return buffer.getvalue()


def _objects(*values: object) -> object:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def checkpoints() -> list[Seed]:
    """Return checkpoints of each kind that the readers know, and pickles that they refuse."""
    torch.manual_seed(0)
    generator = MSRResNet(mid_channels=4, num_blocks=1).state_dict()
    batch_norm = SRResNet(mid_channels=4, num_blocks=1).state_dict()
    discriminator = ModifiedVGG(in_channels=3, mid_channels=2).state_dict()
    discriminator = {k: w[:8, :8] if w.ndim == 2 else w for k, w in discriminator.items()}
    generator, batch_norm, discriminator = (
        OrderedDict((key, weight.clone()) for key, weight in state.items())
        for state in (generator, batch_norm, discriminator)
    )
    meta = {
        "iter": 5,
        "cfg": "model = dict(generator=dict(type='SRResNet', output_range=(-1, 1)))",
        "seed": np.float64(1.5),
        "history": np.arange(6.0).reshape(2, 3),
        "hash": b"\x01\x02",
        "set": {1, 2},
    }
    training = {
        "state_dict": {f"generator.{k}": w for k, w in batch_norm.items()},
        "meta": meta,
        "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.zeros(4)}}, "groups": [{"lr": 1}]},
        "message_hub": {"log_scalars": {"loss": [1.0, 2.0]}, "runtime_info": OrderedDict(a=None)},
    }
    noted = {"state_dict": batch_norm, "meta": {"srgan_plugin": {"format": 2, "output_range": (0, 1)}}}  # fmt: skip # noqa: E501
    old = noted | {"state_dict": _sharing(batch_norm), "more": meta}
    both = {"params": generator, "params_ema": {k: w.half() for k, w in generator.items()}}
    plain = {key: [1, 2.5, "a", None, True, b"c", (1, 2)] for key in generator}
    call = {"state_dict": plain, "meta": _Call()}
    header = struct.pack("<Q", 2) + b"{}"
    files = {
        "bare.pth": _saved(generator),
        "training.pth": _saved(training),
        "noted.pth": _saved(noted),
        "both.pth": _saved(both),
        "discriminator.pth": _saved(discriminator),
        "protocol_4.pth": _saved(training, pickle_protocol=4),
        "protocol_5.pth": _saved(noted, pickle_protocol=5),
        "legacy.pth": _legacy(old),
        "legacy_4.pth": _legacy(old, pickle_protocol=4),
        "plain_2.pth": _zipped(pickle.dumps(plain, 2)),
        "plain_4.pth": _zipped(pickle.dumps({"state_dict": plain, "meta": meta}, 4)),
        "call_2.pth": _zipped(pickle.dumps(call, 2)),
        "call_4.pth": _zipped(pickle.dumps(call, 4)),
        "call_legacy.pth": _legacy(call),
        "pickle.pth": pickle.dumps(plain, 2),
        "bare.safetensors": safetensors.torch.save(generator),
        "noted.safetensors": safetensors.torch.save(
            batch_norm, metadata={"srgan_plugin": '{"format": 2, "output_range": [0, 1]}'}
        ),
        "empty.safetensors": header,
        "state.npz": _npz(**{key: weight.numpy() for key, weight in generator.items()}),
        "list.npz": _npz(params=_objects(np.zeros((3, 3, 3, 4), "f4"), np.zeros(4, "f4"))),
    }
    return [Seed(name, {name: content}) for name, content in files.items()]
