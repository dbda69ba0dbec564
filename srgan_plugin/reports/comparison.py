"""Upscale images by several models, for the image viewer or as a contact sheet."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from srgan_plugin.data.resize import imresize
from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.inference import Upscaler, open_model
from srgan_plugin.inference.batch import find_images
from srgan_plugin.inference.upscaler import check_scale
from srgan_plugin.io.array_types import RGBArray
from srgan_plugin.io.image_files import list_images
from srgan_plugin.metrics import quantize

from .contact_sheet import Region, most_detail, sheet
from .gallery import BICUBIC, HR, LR, Gallery, conform, read_as_rgb
from .image_names import strip_ending
from .image_sizes import crop_hr, find_scale, upscale_bicubic

_LABELS: Final = {"msrresnet": "MSRResNet", "srgan": "SRGAN", "photo": "photo"}
_TTA: Final = ", tta"  # end of the label with test-time augmentation
_DEFAULT_SCALE: Final = 4  # of bicubic without HR
_MAX_PIXELS: Final = 2**24  # pixels of one upscaled image
_MAX_SUM: Final = 2**28  # pixels of all results of one method; those of all are kept in memory
_CROP: Final = 128  # height and width of the detail on a sheet
_ZOOM: Final = 3  # magnification of the detail
_MAX_WIDTH: Final = 480  # width of an image on a sheet

Method = Callable[[RGBArray], RGBArray]


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Options of a comparison.

    Attributes:
        hr: Folder of HR images with the same names.
        crop: Height and width, in LR pixels, of the part with the most detail; only this part is
            upscaled. None upscales the complete image.
        scale: Scale of the results; default: the scale of the networks. For bicubic alone, HR size
            over LR size, or 4 without HR.
        tta: Whether to average over flips and rotations, as in `Upscaler`.
        device: Device of the networks, as in `Upscaler`.
        arch_options: Settings that checkpoint files do not record, as in `open_model`.
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
        inputs: Image files, folders or patterns, as for `srgan-plugin upscale`.
        models: "bicubic", names of bundled models, and checkpoint files.
        out: File of the comparison. It is never an input, even if a folder or pattern includes it.
        options: Options of the comparison.
        progress: Called after each image with the number of images done and in total.
        failed: Called for each image that cannot be read or compared, with its path and the error.

    Returns:
        Images of the models, which are kept in memory, and LR and HR images.

    Raises:
        MissingFileError: An input, a checkpoint or an HR image does not exist.
        UserError: Two files have the same name, the models have different scales, or no image can
            be compared.
    """
    if not inputs:
        raise UserError("expected images, folders or patterns, got none")
    files = _by_name([pair for name in inputs for pair in find_images(name, out)])
    files, hr_files = _match_hr(options.hr, files)
    methods, scale = _methods(models, options)
    loads: dict[str, Callable[[], dict[str, RGBArray]]] = {}
    pixels = 0
    for done, (name, path) in enumerate(files.items(), 1):
        try:
            lr = read_as_rgb(path)
            hr = read_as_rgb(hr_files[name]) if hr_files else None
            factor = _scale_between(lr, hr, path) if scale is None else scale
            hr = None if hr is None else _fit_hr(hr, lr, factor, path)
            lr, hr = _crop_both(lr, hr, options.crop, factor)
            pixels += _check_size(lr, factor, pixels, path)
            images = _upscale(lr, hr, methods, factor)
        except (UserError, OSError, MemoryError) as error:
            failed(path, error)
        else:
            loads[name] = partial(dict, images)
            scale = factor  # of bicubic, that of the first image
        progress(done, len(files))
    if scale is None or not loads:
        raise UserError(f"expected an image that can be compared, got {len(files)} that cannot")
    crop = options.crop
    notes = (f"Only the part with the most detail is shown, {crop}x{crop} LR pixels",) * bool(crop)
    shown = (LR, *methods, *([HR] if hr_files else []))
    return Gallery(loads, shown, scale, notes)


def _by_name(files: Sequence[tuple[Path, Path]]) -> dict[str, Path]:
    """Return {name: path}; names have a suffix only if two of them differ only in it.

    Args:
        files: Pairs of a path, and the same path relative to the input folder.

    Raises:
        UserError: Two files have the same name.
    """
    unique = dict(files)
    stems = Counter(relative.with_suffix("").as_posix() for relative in unique.values())
    named: dict[str, Path] = {}
    for path, relative in unique.items():
        stem = relative.with_suffix("").as_posix()
        name = stem if stems[stem] == 1 else relative.as_posix()
        if name in named:
            raise UserError(
                f"{path}: expected a different name, got the name of {named[name]}; rename one"
            )
        named[name] = path
    return named


def _match_hr(
    hr: Path | None, files: dict[str, Path]
) -> tuple[dict[str, Path], Mapping[str, Path]]:
    """Return {name: path} for the inputs and for the HR images, with the names of the latter."""
    if hr is None:
        return files, {}
    found = list_images(hr)
    files = strip_ending(files, set(found), Path(next(iter(files.values()))).parent)
    if missing := [name for name in files if name not in found]:
        raise MissingFileError(
            f"{hr}: expected an HR image for each input, got none named {missing[0]}"
        )
    return files, found


def _methods(
    models: Sequence[str], options: CompareOptions
) -> tuple[dict[str, Method | None], float | None]:
    """Return {label: upscaler, None for bicubic}, and the scale, None if unknown."""
    methods: dict[str, Method | None] = {}
    scales: dict[float, str] = {}
    for model in dict.fromkeys(models):
        if model == BICUBIC:
            methods[BICUBIC] = None
            continue
        label = _LABELS.get(model, Path(model).stem)
        taken = (*(name.removesuffix(_TTA) for name in methods), LR, HR, BICUBIC)
        label = model if label in taken else label
        arch_options = {} if model in _LABELS else options.arch_options
        network = open_model(model, arch_options=arch_options)
        upscaler = Upscaler(network, scale=options.scale, device=options.device, tta=options.tta)
        methods[f"{label}{_TTA}" if options.tta else label] = upscaler
        scales[upscaler.scale] = model
    if len(scales) > 1:
        (a, first), (b, second) = list(scales.items())[:2]
        raise UserError(
            f"--models: expected one scale, got x{a} of {first} and x{b} of {second}; choose "
            "one by --scale"
        )
    if not methods:
        raise UserError("--models: expected bicubic, msrresnet, srgan or checkpoints, got none")
    if options.scale is not None:
        check_scale(options.scale)
    return methods, next(iter(scales), options.scale)


def _scale_between(lr: RGBArray, hr: RGBArray | None, path: Path) -> float:
    """Return the ratio of HR to LR size; without HR, the default scale."""
    if hr is None:
        return _DEFAULT_SCALE
    scale = find_scale(lr.shape[:2], hr.shape[:2], is_hr=True)
    if scale < 1:
        (h, w), (height, width) = hr.shape[:2], lr.shape[:2]
        raise UserError(
            f"{path}: expected an HR image larger than {height}x{width} (height x width), got "
            f"{h}x{w}"
        )
    return scale


def _fit_hr(hr: RGBArray, lr: RGBArray, scale: float, path: Path) -> RGBArray:
    """Crop an HR image to the size of the upscaled LR image, as `crop_hr` does.

    Raises:
        UserError: The HR image has another size than `crop_hr` crops.
    """
    size = _scaled_size(lr, scale)
    fitting = crop_hr(hr, size)
    if fitting.shape[:2] != size:
        raise UserError(
            f"{path}: expected an HR image of {size[0]}x{size[1]} (height x width), {scale:g} "
            f"times {lr.shape[0]}x{lr.shape[1]}, got {hr.shape[0]}x{hr.shape[1]}"
        )
    return fitting


def _scaled_size(lr: RGBArray, scale: float) -> tuple[int, int]:
    height, width = (max(round(scale * size), 1) for size in lr.shape[:2])
    return height, width


def _crop_both(
    lr: RGBArray, hr: RGBArray | None, crop: int | None, scale: float
) -> tuple[RGBArray, RGBArray | None]:
    """Crop both images to the LR region with the most detail; None for no crop."""
    if not crop:
        return lr, hr
    region = most_detail(lr, crop)
    if hr is None:
        return region.of(lr), None
    if scale != int(scale):
        raise UserError(f"--crop with --hr: expected a whole number as --scale, got {scale}")
    return region.of(lr), Region(*(size * int(scale) for size in region)).of(hr)


def _check_size(lr: RGBArray, scale: float, before: int, path: Path) -> int:
    """Return the number of pixels of an upscaled image.

    Args:
        lr: Image before upscaling.
        scale: Scale of the result.
        before: Number of pixels in the previous images.
        path: File of the image, for errors.

    Raises:
        UserError: The image, or the sum of all images, would have too many pixels.
    """
    pixels = int(lr.shape[0] * lr.shape[1] * scale**2)
    if pixels > _MAX_PIXELS or before + pixels > _MAX_SUM:
        limit = _MAX_PIXELS if pixels > _MAX_PIXELS else _MAX_SUM
        of = "" if pixels > _MAX_PIXELS else " of all images"
        raise UserError(
            f"{path}: expected at most {limit // 2**20} million pixels{of} after upscaling, got "
            f"{lr.shape[1]}x{lr.shape[0]} times {scale:g}; crop with --crop "
            f"{max(min(256, int(_MAX_PIXELS**0.5 / scale)), 1)}"
        )
    return pixels


def _upscale(
    lr: RGBArray, hr: RGBArray | None, methods: Mapping[str, Method | None], scale: float
) -> dict[str, RGBArray]:
    """Return LR, the image upscaled by each method, and HR, in this order."""
    images = {LR: lr}
    for label, method in methods.items():
        images[label] = method(lr) if method else upscale_bicubic(lr, scale)
    return images if hr is None else images | {HR: hr}


def comparison_sheet(gallery: Gallery) -> RGBArray:
    """Return a sheet with all versions of an image in a row, and a magnified crop of each below.

    Returns:
        Image, (H, W, 3), uint8, RGB.

    Raises:
        UserError: The versions of an image have different sizes.
    """
    rows = []
    for name, load in gallery.images.items():
        images, odd = conform(load(), gallery.scale)
        if odd:
            raise UserError(
                f"{name}: expected images of one size for a sheet, got another size for {odd[0]}; "
                "write a page (.html) instead"
            )
        if LR in images and len(images) > 1:
            images[LR] = _nearest(images[LR], next(i for n, i in images.items() if n != LR))
        small = {label: _shrink(image, _MAX_WIDTH) for label, image in images.items()}
        last = next(reversed(images))  # HR, if it is there
        region = most_detail(images.get(HR, images[last]), _CROP)
        crops = {
            f"{label}, detail": region.of(image).repeat(_ZOOM, 0).repeat(_ZOOM, 1)
            for label, image in images.items()
        }
        if len(gallery.images) > 1:
            first = next(iter(small))
            small = {f"{name}: {first}": small.pop(first), **small}
        rows += [small, crops]
    return sheet(rows)


def _nearest(image: RGBArray, like: RGBArray) -> RGBArray:
    """Upscale an image to the size of `like` by nearest-neighbour interpolation."""
    rows, columns = (
        np.arange(large) * small // large
        for large, small in zip(like.shape[:2], image.shape[:2], strict=True)
    )
    upscaled: RGBArray = image[rows][:, columns]
    return upscaled


def _shrink(image: RGBArray, width: int) -> RGBArray:
    """Downscale an image with `imresize` if it is wider than `width`."""
    if image.shape[1] <= width:
        return image
    return quantize(imresize(image / 255, width / image.shape[1]))
