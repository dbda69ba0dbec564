"""Images of several methods for the viewer of a page: matched by name, measured, encoded."""

import base64
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import PIL.Image

from srgan_plugin.data.prepare.benchmark_sets import MULTIPLE
from srgan_plugin.data.resize import imresize
from srgan_plugin.errors import UserError
from srgan_plugin.io.image_content import read_image_content
from srgan_plugin.io.images import Image, image_shape
from srgan_plugin.metrics import Scorer, quantize
from srgan_plugin.metrics.niqe import niqe, pristine_model

from .contact_sheet import most_detail
from .html import encode_image
from .image_names import match_names

LR, BICUBIC, HR = "LR", "bicubic", "HR"
_ALIASES: Final = {"lr": LR, "lq": LR, "hr": HR, "gt": HR, "original": HR, "bicubic": BICUBIC}
_MEASURES: Final = ("PSNR", "SSIM", "PSNR_Y", "SSIM_Y")
_BUDGET: Final = 2_000_000  # bytes of all images, before base64 makes a third more of them
_NAMED: Final = 12  # images in a sentence
_LENS: Final = 48  # pixels in the magnifier, about
_QUALITIES: Final = (None, 98, 95, 90, 80)  # of WebP; None is lossless

Load = Callable[[], dict[str, Image]]


class Gallery(NamedTuple):
    """What the viewer shows.

    Attributes:
        images: By name, what reads an image's versions: by method, (H, W, 3), uint8, RGB.
        methods: In the order in which they are shown.
        scale: HR is so many times larger than LR; None where there is no LR or no scale.
        notes: What was done to the images before they were compared, as sentences.
    """

    images: dict[str, Load]
    methods: tuple[str, ...]
    scale: float | None
    notes: tuple[str, ...] = ()


def method_name(name: str) -> str:
    """Return the name of a method, those of LR, bicubic and HR in one spelling."""
    return _ALIASES.get(name.lower(), name)


def gallery_of_folders(folders: Mapping[str, Path]) -> Gallery:
    """Match the images of folders, one folder for each method.

    Images are matched by file name without suffix; a folder's names may all have one more ending,
    such as `x4` or BasicSR's `_NAME`. Where the LR images are given and bicubic ones are not,
    those are made by MATLAB's bicubic. A folder may lack images.

    Args:
        folders: By method; "LR" and "HR" (or "GT") are what those say.

    Raises:
        UserError: Two images of a folder have one name, or no image is in two folders.
    """
    folders = {method_name(method): path for method, path in folders.items()}
    found = match_names(folders, first=HR)
    shown = dict.fromkeys(n for m, files in found.items() for n in files if m not in (LR, HR))
    shown = shown or dict.fromkeys(name for files in found.values() for name in files)
    scale = _scale(found, shown)
    order = [m for m in (LR, BICUBIC) if m in (*found, BICUBIC if LR in found else "")]
    order += [m for m in found if m not in (LR, BICUBIC, HR)] + [m for m in found if m == HR]
    loads: dict[str, Load] = {
        name: partial(_load, {m: found[m][name] for m in order if name in found.get(m, ())}, scale)
        for name in shown
    }
    notes = (
        (f"bicubic is MATLAB's, x{scale}, made of LR",) if BICUBIC not in found and scale else ()
    )
    return Gallery(loads, tuple(order), scale, notes)


def _scale(found: Mapping[str, Mapping[str, Path]], names: Iterable[str]) -> int | None:
    """Return how many times smaller LR is than the other images, of the first that are there."""
    lr = found.get(LR, {})
    for name in names:
        methods = sorted((m for m in found if m != LR), key=lambda m: m == HR)  # may be uncropped
        others = [found[m][name] for m in methods if name in found[m]]
        if name in lr and others:
            small, large = image_shape(lr[name])[0], image_shape(others[0])[0]
            return round(large / small)
    return None


def _load(files: Mapping[str, Path], scale: int | None) -> dict[str, Image]:
    images = {method: read_as_rgb(path) for method, path in files.items()}
    if LR in images and BICUBIC not in images and scale:
        made = quantize(imresize(images[LR] / 255, scale))
        images = {LR: images.pop(LR), BICUBIC: made, **images}
    return images


def read_as_rgb(path: Path) -> Image:
    """Read an image as `srgan-plugin upscale` does; alpha is laid over white, 16 bits are rounded.

    Returns:
        (H, W, 3), uint8, RGB.
    """
    pixels = read_image_content(path).pixels
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    colours = 3 if pixels.shape[-1] > 2 else 1
    image = pixels[..., :colours]
    if pixels.shape[-1] in (2, 4):
        alpha = pixels[..., -1:].astype(np.uint32)
        image = ((image * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def conform(images: dict[str, Image], scale: float | None) -> tuple[dict[str, Image], list[str]]:
    """Crop HR as tests do, at the bottom and right, and find what is of another size.

    The size is that of most methods; of several that are as many the one that HR has, or the first.

    Args:
        images: By method.
        scale: Of LR.

    Returns:
        The images, and the methods whose image cannot be compared with others pixel by pixel.
    """
    sizes = [image.shape[:2] for method, image in images.items() if method not in (LR, HR)]
    sizes = sizes or [images[method].shape[:2] for method in (HR, LR) if method in images]

    def rank(size: tuple[int, ...]) -> tuple[int, bool]:
        fits = HR in images and cropped_hr(images[HR], size).shape[:2] == size
        return sizes.count(size), fits

    height, width = max(sizes, key=rank)
    if HR in images:
        images = images | {HR: cropped_hr(images[HR], (height, width))}
    odd = []
    for method, image in images.items():
        factor = scale if method == LR else 1
        sides = zip(image.shape, (height, width), strict=False)
        # LR of rounded sides fits, too.
        if factor and any(abs(side * factor - size) >= factor for side, size in sides):
            odd.append(method)
    return images, odd


def cropped_hr(image: Image, size: tuple[int, ...]) -> Image:
    """Crop HR at the bottom and right, as tests do; other sizes are returned as they are."""
    rest = [a - b for a, b in zip(image.shape, size, strict=False)]
    return image[: size[0], : size[1]] if all(0 <= n < MULTIPLE for n in rest) else image


def measure(images: Mapping[str, Image], scorer: Scorer, pristine: Any) -> dict[str, Any]:
    """Return the measures of each method: PSNR and SSIM where HR is there, NIQE where it fits."""
    scores: dict[str, dict[str, float | None]] = {}
    for method, image in images.items():
        if method == LR:
            continue
        row: dict[str, float] = {}
        if HR in images and method != HR:
            every = scorer.score(image, images[HR])
            row = {name: round(every[name], 5) for name in _MEASURES if name in every}
        if pristine is not None:
            row |= _niqe(image, pristine, scorer.border)
        if row:
            # Equal images have an infinite PSNR, which JSON has not: null.
            scores[method] = {n: None if np.isinf(v) else v for n, v in row.items() if v == v}
    return scores


def _niqe(image: Image, pristine: Any, border: int) -> dict[str, float]:
    try:
        return {"NIQE": round(niqe(image, pristine, border=border), 4)}
    except UserError:  # smaller than two of its patches, or flat
        return {}


def _pristine() -> tuple[Any, str]:
    try:
        return pristine_model(), "NIQE: on luma, the lower the more natural"
    except UserError as error:
        return None, f"NIQE was not measured: {error}"


def viewer_data(
    gallery: Gallery, *, quality: int | None = None, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Measure and encode the images of a gallery for `assets/viewer.js`.

    Args:
        gallery: The images.
        quality: Of WebP, 1 to 100, where 100 is lossless; None takes lossless where all images fit
            into 2 MB, and else the best quality that does, at least 80.
        progress: Called with the numbers of images done and in all.
    """
    border = math.ceil(gallery.scale or 4)
    scorer, (pristine, about_niqe) = Scorer(("basicsr", "y"), border=border), _pristine()
    rows: list[dict[str, Any]] = []
    others: list[str] = []
    qualities = _QUALITIES if quality is None else (None if quality == 100 else quality,)
    kept, level = 0, 0  # bytes, and which of the qualities
    for done, (name, load) in enumerate(gallery.images.items(), 1):
        images, odd = conform(load(), gallery.scale)
        fitting = {method: image for method, image in images.items() if method not in odd}
        rows.append(_row(name, fitting, measure(fitting, scorer, pristine)) | {"odd": odd})
        for method in odd:
            height, width = images[method].shape[:2]
            others.append(f"{method} of {name} ({width}x{height})")
        kept += _encode(rows[-1], images, qualities[level])
        while kept > _BUDGET and level + 1 < len(qualities):
            level += 1
            again = zip(rows, gallery.images.values(), strict=False)
            kept = sum(
                _encode(row, conform(read(), gallery.scale)[0], qualities[level])
                for row, read in again
            )
        progress(done, len(gallery.images))
    there = {m for row in rows for m in row["sources"]}
    methods = [m for m in gallery.methods if m in there]
    missing = [f"{m} of {row['name']}" for row in rows for m in methods if m not in row["sources"]]
    measures = [
        n for n in (*_MEASURES, "NIQE") if any(n in s for r in rows for s in r["scores"].values())
    ]
    return {
        "methods": methods,
        "reference": HR if HR in methods else None,
        "measures": measures,
        "note": _note(gallery, qualities[level], border, measures, about_niqe),
        "warnings": [
            *_named("There is no", missing),
            *_named("Of another size than the others, so scaled to them and not measured:", others),
        ],
        "images": rows,
    }


def _named(words: str, names: Sequence[str]) -> Iterator[str]:
    """Yield a sentence that names the first of many, where there are any."""
    if names:
        rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        yield f"{words} {', '.join(names[:_NAMED])}{rest}."


def _row(name: str, images: Mapping[str, Image], scores: Mapping[str, Any]) -> dict[str, Any]:
    largest = max(images.values(), key=lambda image: image.shape[0])
    window = most_detail(largest, _LENS)
    height, width = largest.shape[:2]
    centre = (window.left + window.width / 2) / width, (window.top + window.height / 2) / height
    return {
        "name": name,
        "width": width,
        "height": height,
        "detail": [round(share, 3) for share in centre],
        "scores": scores,
        "sources": {},
    }


def _encode(row: dict[str, Any], images: Mapping[str, Image], quality: int | None) -> int:
    """Put the images into a row as data URIs; returns their bytes."""
    size = 0
    for method, image in images.items():
        content = encode_image(image) if quality is None or method == LR else _lossy(image, quality)
        row["sources"][method] = "data:image/webp;base64," + base64.b64encode(content).decode()
        size += len(content)
    return size


def _lossy(image: Image, quality: int) -> bytes:
    file = BytesIO()
    PIL.Image.fromarray(image).save(file, "WEBP", quality=quality, method=4)
    return file.getvalue()


def _note(
    gallery: Gallery, quality: int | None, border: int, measures: Sequence[str], about_niqe: str
) -> str:
    embedded = (
        "Images are embedded without loss"
        if quality is None
        else f"Images are embedded as WebP of quality {quality}, which magnifier and error map "
        "show, too; the measures are those of the files"
    )
    compared = (
        f"PSNR and SSIM: RGB and, with _Y, luma; {border} pixels cut off each edge"
        if "PSNR" in measures
        else "There is no HR image of the methods' size, so nothing is compared with one"
    )
    return ". ".join([embedded, compared, about_niqe, *gallery.notes]) + "."
