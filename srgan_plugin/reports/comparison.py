"""Images of one's own upscaled by several models: for the viewer, and as a sheet side by side."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from srgan_plugin.data.resize import imresize, resize_rows
from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.inference import Upscaler, open_model
from srgan_plugin.inference.batch import find_images
from srgan_plugin.io.image_files import list_images
from srgan_plugin.io.images import Image
from srgan_plugin.metrics import quantize

from .contact_sheet import Region, most_detail, sheet
from .gallery import BICUBIC, HR, LR, Gallery, conform, cropped_hr, read_as_rgb
from .image_names import without_ending

_LABELS: Final = {"msrresnet": "MSRResNet", "srgan": "SRGAN"}
_DEFAULT_SCALE: Final = 4  # of bicubic alone, without HR
_MAX_PIXELS: Final = 2**24  # of an upscaled image in a page
_MAX_SUM: Final = 2**28  # of all upscaled images by one method: they are held
_WINDOW, _ZOOM, _WIDE = 128, 3, 480  # of the sheet: a crop's side, its pixels' side, whole images

Method = Callable[[Image], Image]


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """How images are upscaled and compared.

    Attributes:
        hr: A folder with HR images of the same names.
        crop: Only the window of so many LR pixels with the most detail is upscaled.
        scale: Of the results; by default the networks'.
        tta: As for `Upscaler`, and so is `device`.
        device: See there.
        arch_options: Of checkpoint files, as for `open_model`.
    """

    hr: Path | None = None
    crop: int | None = None
    scale: float | None = None
    tta: bool = False
    device: str = "auto"
    arch_options: Mapping[str, Any] = field(default_factory=dict)


def upscaled_gallery(
    inputs: Sequence[str],
    models: Sequence[str],
    out: Path,
    options: CompareOptions,
    *,
    progress: Callable[[int, int], None],
    failed: Callable[[Path, Exception], None],
) -> Gallery:
    """Upscale images by several models.

    Args:
        inputs: Image files, folders of them, or patterns, read as `srgan-plugin upscale` does.
        models: "bicubic", names of bundled weights, and checkpoint files.
        out: The file of the comparison, which is no input.
        options: How they are upscaled.
        progress: Called with the numbers of images done and in all.
        failed: Called with each image that cannot be read or compared, and why.

    Raises:
        MissingFileError: An input, a checkpoint or an HR image does not exist.
        UserError: Models differ in scale, or no image can be compared.
    """
    files = _named([pair for name in inputs for pair in find_images(name, out)])
    files, partners = _partners(options.hr, files)
    methods, scale = _methods(models, options)
    loads: dict[str, Callable[[], dict[str, Image]]] = {}
    pixels, factor = 0, float(_DEFAULT_SCALE)
    for done, (name, path) in enumerate(files.items(), 1):
        try:
            lr = read_as_rgb(path)
            truth = read_as_rgb(partners[name]) if partners else None
            factor = scale or _scale_to(truth, lr, path)
            lr, truth = _cropped(lr, truth, options.crop, factor)
            pixels += _check_size(lr, factor, pixels, path)
            images = _upscaled(lr, truth, methods, factor, path)
        except (UserError, OSError) as error:
            failed(path, error)
        else:
            loads[name] = partial(dict, images)
        progress(done, len(files))
    if not loads:
        raise UserError(f"expected an image that can be compared, got {len(files)} that cannot")
    crop = options.crop
    notes = (f"Only the {crop}x{crop} LR pixels with the most detail are shown",) if crop else ()
    shown = (LR, *methods, *([HR] if partners else []))
    return Gallery(loads, shown, factor, notes)


def _named(files: Sequence[tuple[Path, Path]]) -> dict[str, Path]:
    """Return files by their names, without their endings where those are not needed."""
    unique = dict(files)
    stems = Counter(below.with_suffix("").as_posix() for below in unique.values())
    named: dict[str, Path] = {}
    for path, below in unique.items():
        stem = below.with_suffix("").as_posix()
        name = stem if stems[stem] == 1 else below.as_posix()
        if name in named:
            raise UserError(f"{path}: expected another name than that of {named[name]}")
        named[name] = path
    return named


def _partners(
    hr: Path | None, files: dict[str, Path]
) -> tuple[dict[str, Path], Mapping[str, Path]]:
    """Return the inputs by the names of HR images, and those."""
    if hr is None:
        return files, {}
    found = list_images(hr)
    files = without_ending(files, set(found), Path(next(iter(files.values()))).parent)
    if missing := [name for name in files if name not in found]:
        raise MissingFileError(
            f"{hr}: expected an HR image for each input, got none called {missing[0]}"
        )
    return files, found


def _methods(
    models: Sequence[str], options: CompareOptions
) -> tuple[dict[str, Method | None], float | None]:
    """Return the methods by label, None for bicubic, and their scale, None where they have none."""
    methods: dict[str, Method | None] = {}
    scales: dict[float, str] = {}
    for model in models:
        label = _LABELS.get(model, model if model == BICUBIC else Path(model).stem)
        label = model if label in (*methods, LR, HR) else label
        if model == BICUBIC:
            methods[label] = None
            continue
        arch_options = {} if model in _LABELS else options.arch_options
        network = open_model(model, arch_options=arch_options)
        upscaler = Upscaler(network, scale=options.scale, device=options.device, tta=options.tta)
        methods[f"{label}, tta" if options.tta else label] = upscaler
        scales[upscaler.scale] = model
    if len(scales) > 1:
        (a, first), (b, second) = list(scales.items())[:2]
        raise UserError(
            f"--models: expected one scale, got x{a} of {first} and x{b} of {second}; choose "
            "one by --scale"
        )
    if not methods:
        raise UserError("--models: expected bicubic, msrresnet, srgan or checkpoints, got none")
    if options.scale is not None and not 0 < options.scale < math.inf:
        raise UserError(f"scale: expected a positive number, got {options.scale}")
    return methods, next(iter(scales), options.scale)


def _scale_to(truth: Image | None, lr: Image, path: Path) -> int:
    """Return the scale from LR to HR; the one of the published networks where there is no HR."""
    if truth is None:
        return _DEFAULT_SCALE
    scale = int(truth.shape[0] / lr.shape[0] + 0.5)
    if scale < 1:
        raise UserError(f"{path}: expected an HR image larger than it, got {truth.shape[:2]}")
    return scale


def _cropped(
    lr: Image, truth: Image | None, crop: int | None, scale: float
) -> tuple[Image, Image | None]:
    """Cut the same window out of both."""
    if not crop:
        return lr, truth
    window = most_detail(lr, crop)
    if truth is None:
        return window.of(lr), None
    if scale != int(scale):
        raise UserError(f"--crop with --hr: expected a whole --scale, got {scale}")
    return window.of(lr), Region(*(size * int(scale) for size in window)).of(truth)


def _check_size(lr: Image, scale: float, before: int, path: Path) -> int:
    """Return how many pixels the result has.

    Raises:
        UserError: They are too many for a page, alone or with those of the images before.
    """
    pixels = int(lr.shape[0] * lr.shape[1] * scale**2)
    if pixels > _MAX_PIXELS or before + pixels > _MAX_SUM:
        limit = _MAX_PIXELS if pixels > _MAX_PIXELS else _MAX_SUM
        of = "" if pixels > _MAX_PIXELS else " of all images"
        raise UserError(
            f"{path}: expected at most {limit // 2**20} million pixels{of} after upscaling, got "
            f"{lr.shape[1]}x{lr.shape[0]} times {scale:g}; show a part of each by --crop 256"
        )
    return pixels


def _upscaled(
    lr: Image,
    truth: Image | None,
    methods: Mapping[str, Method | None],
    scale: float,
    path: Path,
) -> dict[str, Image]:
    """Return an image by all methods, with LR before them and HR behind."""
    height, width = (max(round(scale * size), 1) for size in lr.shape[:2])
    images = {LR: lr}
    for label, method in methods.items():
        images[label] = (
            method(lr) if method else quantize(resize_rows(lr / 255, (height, width), 0, height))
        )
    if truth is not None:
        images[HR] = cropped_hr(truth, (height, width))
        if images[HR].shape[:2] != (height, width):
            raise UserError(
                f"{path}: expected an HR image of {width}x{height}, {scale:g} times "
                f"{lr.shape[1]}x{lr.shape[0]}, got {truth.shape[1]}x{truth.shape[0]}"
            )
    return images


def comparison_sheet(gallery: Gallery) -> Image:
    """Lay out each image, whole and as a crop, by all methods side by side.

    Returns:
        (H, W, 3), uint8, RGB.

    Raises:
        UserError: The images of a name differ in size.
    """
    rows = []
    for name, load in gallery.images.items():
        images, odd = conform(load(), gallery.scale)
        if odd:
            raise UserError(
                f"{name}: expected images of one size for a sheet, got another of {odd[0]}; write "
                "a page (.html), or images of one size"
            )
        if LR in images:
            images[LR] = _as_squares(images[LR], next(i for n, i in images.items() if n != LR))
        whole = {label: _shrunk(image, _WIDE) for label, image in images.items()}
        last = [label for label in images if label != HR][-1]
        window = most_detail(images.get(HR, images[last]), _WINDOW)
        crops = {
            f"{label}, detail": window.of(image).repeat(_ZOOM, 0).repeat(_ZOOM, 1)
            for label, image in images.items()
        }
        if len(gallery.images) > 1:
            whole = {f"{name}: {LR}" if label == LR else label: i for label, i in whole.items()}
        rows += [whole, crops]
    return sheet(rows)


def _as_squares(image: Image, like: Image) -> Image:
    """Repeat pixels until an image is as large as another."""
    rows, columns = (
        np.arange(large) * small // large
        for large, small in zip(like.shape[:2], image.shape[:2], strict=True)
    )
    squares: Image = image[rows][:, columns]
    return squares


def _shrunk(image: Image, width: int) -> Image:
    """Return an image at most `width` wide, made smaller by MATLAB's bicubic."""
    if image.shape[1] <= width:
        return image
    return quantize(imresize(image / 255, width / image.shape[1]))
