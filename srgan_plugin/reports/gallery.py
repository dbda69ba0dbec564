"""Match, score and encode images of several methods for the image viewer of a page."""

import base64
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from srgan_plugin.errors import PluginWarning, UserError, prefix_errors
from srgan_plugin.io.array_types import RGBArray
from srgan_plugin.io.image_content import read_image_content
from srgan_plugin.io.images import image_shape
from srgan_plugin.metrics import Scorer
from srgan_plugin.metrics.niqe import PristineModel, niqe, pristine_model
from srgan_plugin.metrics.psnr_ssim import WINDOW

from .contact_sheet import most_detail
from .html import encode_image
from .image_names import match_names
from .image_sizes import crop_hr, find_scale, upscale_bicubic

LR: Final[str] = "LR"
BICUBIC: Final[str] = "bicubic"
HR: Final[str] = "HR"
_ALIASES: Final = {"lr": LR, "lq": LR, "hr": HR, "gt": HR, "original": HR, "bicubic": BICUBIC}
_METRICS: Final = ("PSNR", "SSIM", "PSNR_Y", "SSIM_Y")
_BUDGET: Final = 2_000_000  # bytes of all encoded images, before base64 adds a third
_MAX_LISTED: Final = 12  # images in a warning
_LENS: Final = 48  # approximate width of the magnifier in pixels
_QUALITIES: Final = (None, 98, 95, 90, 80)  # WebP qualities in the order of trial; None is lossless

Load = Callable[[], dict[str, RGBArray]]


class Gallery(NamedTuple):
    """Images of several methods.

    Attributes:
        images: {image name: function that returns {method: image}}; images are (H, W, 3), uint8,
            RGB.
        methods: Names of the methods in the order of display.
        scale: Ratio of HR to LR size; None if there is no LR or the scale is unknown.
        notes: Notes for the page on the origin of images.
    """

    images: dict[str, Load]
    methods: tuple[str, ...]
    scale: float | None
    notes: tuple[str, ...] = ()


def method_name(name: str) -> str:
    """Return the name of a method, with one spelling for LR, bicubic and HR."""
    return _ALIASES.get(name.lower(), name)


def gallery_of_folders(folders: Mapping[str, Path]) -> Gallery:
    """Match the images of folders, one folder per method.

    Images are matched by file name without suffix. All names in a folder may have an additional
    ending, such as `x4`, or `_` and the name of the experiment, which BasicSR appends. Images may
    be missing from a folder. Without a folder of bicubic images, these are made from LR with
    `imresize`, as in MATLAB.

    Args:
        folders: {method: folder}. LR images have the fixed name "LR" (or "LQ"), the images before
            downscaling "HR" (or "GT", "original"); other names are those of methods.

    Returns:
        The images by name; they are read at each call of their function.

    Raises:
        UserError: Two folders have the same name, two images of a folder have the same name, or a
            folder has no name in common with the others.
    """
    found = match_names(_by_method(folders), first=HR)
    shown = dict.fromkeys(n for m, files in found.items() for n in files if m not in (LR, HR))
    every = dict.fromkeys(name for files in found.values() for name in files)
    shown = shown or every
    if hidden := [name for name in every if name not in shown]:
        more = f" and {len(hidden) - 3} more" * (len(hidden) > 3)
        warnings.warn(
            f"not shown, because only LR or HR have them: {', '.join(hidden[:3])}{more}",
            PluginWarning,
            stacklevel=2,
        )
    scale = _find_scale(found, shown)
    order = [m for m in (LR, BICUBIC) if m in (*found, BICUBIC if LR in found else "")]
    order += [m for m in found if m not in (LR, BICUBIC, HR)] + [m for m in found if m == HR]
    bicubic_scale = None if BICUBIC in found else scale
    loads: dict[str, Load] = {
        name: partial(
            _load, {m: found[m][name] for m in order if name in found.get(m, ())}, bicubic_scale
        )
        for name in shown
    }
    notes = (f"bicubic: MATLAB's imresize of LR, x{scale:g}",) if bicubic_scale else ()
    return Gallery(loads, tuple(order), scale, notes)


def _by_method(folders: Mapping[str, Path]) -> dict[str, Path]:
    """Return folders by `method_name`.

    Raises:
        UserError: Two names are names of one method.
    """
    given: dict[str, str] = {}
    for name in folders:
        if (other := given.setdefault(method_name(name), name)) != name:
            raise UserError(
                f"NAME=FOLDER: expected one folder of {method_name(name)}, got {other}="
                f"{folders[other]} and {name}={folders[name]}; remove or rename one"
            )
    return {method: folders[name] for method, name in given.items()}


def _find_scale(found: Mapping[str, Mapping[str, Path]], names: Iterable[str]) -> float | None:
    """Return the ratio of other images to LR in size, from the first name with both."""
    lr = found.get(LR, {})
    for name in names:
        methods = sorted((m for m in found if m != LR), key=lambda m: m == HR)  # HR may be larger
        others = [m for m in methods if name in found[m]]
        if name in lr and others:
            large = image_shape(found[others[0]][name])
            return find_scale(image_shape(lr[name]), large, is_hr=others[0] == HR)
    return None


def _load(files: Mapping[str, Path], bicubic_scale: float | None) -> dict[str, RGBArray]:
    """Read the images of one name; make the bicubic one unless `bicubic_scale` is None."""
    images = {method: read_as_rgb(path) for method, path in files.items()}
    if LR in images and bicubic_scale:
        bicubic = upscale_bicubic(images[LR], bicubic_scale)
        images = {LR: images.pop(LR), BICUBIC: bicubic, **images}
    return images


def read_as_rgb(path: Path) -> RGBArray:
    """Read an image as `srgan-plugin upscale` does, and convert it to 8-bit RGB.

    Transparent images are composited on white, 16-bit values are rounded to 8 bits, and greyscale
    images get three equal channels.

    Args:
        path: File of the image.

    Returns:
        Image, (H, W, 3), uint8, RGB.

    Raises:
        UserError: The file is not an image that can be read.
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


def conform(
    images: dict[str, RGBArray], scale: float | None
) -> tuple[dict[str, RGBArray], list[str]]:
    """Crop HR to the size of the other images, and list images with a different size.

    The reference size is the most frequent one. Among equally frequent sizes, the size of HR is
    preferred, then the first one.

    Args:
        images: {method: version of the image}, (H, W, 3).
        scale: Ratio of HR to LR size; None if unknown.

    Returns:
        The images with HR cropped, and the methods whose images have a different size and cannot
        be compared pixel by pixel.
    """
    sizes = [image.shape[:2] for method, image in images.items() if method not in (LR, HR)]
    sizes = sizes or [images[method].shape[:2] for method in (HR, LR) if method in images]

    def rank(size: tuple[int, ...]) -> tuple[int, bool]:
        fits = HR in images and crop_hr(images[HR], size).shape[:2] == size
        return sizes.count(size), fits

    height, width = max(sizes, key=rank)
    if HR in images:
        images = images | {HR: crop_hr(images[HR], (height, width))}
    odd = []
    for method, image in images.items():
        factor = scale if method == LR else 1
        sides = zip(image.shape, (height, width), strict=False)
        # A side that is not a multiple of the scale was rounded in LR, by less than one pixel.
        if factor and any(abs(side * factor - size) >= factor for side, size in sides):
            odd.append(method)
    return images, odd


def compute_scores(
    images: Mapping[str, RGBArray], scorer: Scorer, pristine: PristineModel | None
) -> dict[str, Any]:
    """Compute PSNR and SSIM against HR, and NIQE, where the images are large enough.

    Args:
        images: {method: version of the image}, of one size except for LR.
        scorer: Scorer for PSNR and SSIM.
        pristine: NIQE's model of natural images; None to skip NIQE.

    Returns:
        {method: {metric: value}}. The infinite PSNR of identical images is None.
    """
    scores: dict[str, dict[str, float | None]] = {}
    for method, image in images.items():
        if method == LR:
            continue
        row: dict[str, float] = {}
        if HR in images and method != HR and not _too_small(image, scorer.border):
            values = scorer.score(image, images[HR])
            row = {name: round(values[name], 5) for name in _METRICS if name in values}
        if pristine is not None:
            row |= _niqe(image, pristine, scorer.border)
        if row:
            # JSON has neither infinity nor NaN.
            scores[method] = {
                name: None if math.isinf(value) else value
                for name, value in row.items()
                if not math.isnan(value)
            }
    return scores


def _too_small(image: RGBArray, border: int) -> bool:
    """Return whether an image is too small for PSNR and SSIM."""
    height, width = image.shape[:2]
    return bool(min(height, width) < WINDOW + 2 * border)


def _niqe(image: RGBArray, pristine: PristineModel, border: int) -> dict[str, float]:
    try:
        return {"NIQE": round(niqe(image, pristine, border=border), 4)}
    except UserError:  # the image is smaller than two patches, or flat
        return {}


def _pristine_model() -> tuple[PristineModel | None, str]:
    """Return NIQE's model of natural images, or None if it is missing, and a note for the page."""
    try:
        return pristine_model(), "NIQE: on luma, lower is more natural"
    except UserError as error:
        return None, f"NIQE was not measured: {error}"


def viewer_data(
    gallery: Gallery, *, quality: int | None = None, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Score and encode the images of a gallery for `assets/viewer.js`.

    Args:
        gallery: Images of several methods.
        quality: WebP quality from 1 to 100, where 100 is lossless. None chooses lossless if all
            images fit into 2 MB, otherwise the first of 98, 95 and 90 with which they do, otherwise
            80. LR is lossless with any quality.
        progress: Called after each image with the number of images done and in total.

    Returns:
        Data of the viewer, for JSON: the images as data URIs, their scores, and notes.

    Raises:
        UserError: An image cannot be read, or is wider or higher than WebP allows.
    """
    border = math.ceil(gallery.scale or 4)
    scorer, (pristine, niqe_note) = Scorer(("basicsr", "y"), border=border), _pristine_model()
    qualities = _QUALITIES if quality is None else (None if quality == 100 else quality,)
    rows: list[dict[str, Any]] = []
    odd_images: list[str] = []
    small: list[str] = []
    size, level = 0, 0  # bytes of the images so far, index of the quality
    for done, (name, load) in enumerate(gallery.images.items(), 1):
        images, odd = conform(load(), gallery.scale)
        fitting = {method: image for method, image in images.items() if method not in odd}
        rows.append(_row(name, fitting, compute_scores(fitting, scorer, pristine)) | {"odd": odd})
        if HR in fitting and _too_small(fitting[HR], border):
            small.append(name)
        shapes = {method: images[method].shape for method in odd}
        odd_images += [f"{m} of {name} ({w}x{h})" for m, (h, w, _) in shapes.items()]
        size += _encode(rows[-1], images, qualities[level])
        while size > _BUDGET and level + 1 < len(qualities):
            level += 1
            size = _encode_again(rows, gallery, qualities[level])
        progress(done, len(gallery.images))
    methods = [m for m in gallery.methods if any(m in row["sources"] for row in rows)]
    missing = [f"{m} of {row['name']}" for row in rows for m in methods if m not in row["sources"]]
    measured = {n for row in rows for scores in row["scores"].values() for n in scores}
    metrics = [name for name in (*_METRICS, "NIQE") if name in measured]
    return {
        "methods": methods,
        "reference": HR if HR in methods else None,
        "metrics": metrics,
        "note": _note(gallery, qualities[level], border, metrics, niqe_note),
        "warnings": [
            *_list_names("Missing:", missing),
            *_list_names("Shown scaled and without metrics, because the size differs:", odd_images),
            *_list_names(
                f"Without PSNR and SSIM, because a side is under {WINDOW + 2 * border} pixels:",
                small,
            ),
        ],
        "images": rows,
    }


def _list_names(text: str, names: Sequence[str]) -> Iterator[str]:
    """Yield a sentence with the first `names`; nothing without names."""
    if names:
        more = len(names) - _MAX_LISTED
        rest = f" and {more} more" if more > 0 else ""
        yield f"{text} {', '.join(names[:_MAX_LISTED])}{rest}."


def _row(name: str, images: Mapping[str, RGBArray], scores: Mapping[str, Any]) -> dict[str, Any]:
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


def _encode(row: dict[str, Any], images: Mapping[str, RGBArray], quality: int | None) -> int:
    """Add images to a row as data URIs, and return their size in bytes."""
    size = 0
    for method, image in images.items():
        with prefix_errors(f"{method} of {row['name']}"):
            content = encode_image(image, None if method == LR else quality)
        row["sources"][method] = "data:image/webp;base64," + base64.b64encode(content).decode()
        size += len(content)
    return size


def _encode_again(rows: Sequence[dict[str, Any]], gallery: Gallery, quality: int | None) -> int:
    """Replace the images of the first rows at another quality, and return their size in bytes."""
    loads = zip(rows, gallery.images.values(), strict=False)  # rows are added one by one
    return sum(_encode(row, conform(load(), gallery.scale)[0], quality) for row, load in loads)


def _note(
    gallery: Gallery, quality: int | None, border: int, metrics: Sequence[str], niqe_note: str
) -> str:
    embedded = (
        "Images are embedded without loss"
        if quality is None
        else f"Images are embedded as WebP of quality {quality}, also in the magnifier and the "
        "error map; metrics are measured on the images before encoding"
    )
    compared = (
        f"PSNR and SSIM: RGB and, with _Y, luma; {border} pixels cropped from each edge"
        if "PSNR" in metrics
        else "PSNR and SSIM were not measured: no HR image has the same size and is large enough"
    )
    return ". ".join([embedded, compared, niqe_note, *gallery.notes]) + "."
