"""Images of one's own upscaled by several models: for the viewer, and as a sheet side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from srgan_plugin.data.resize import imresize
from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.inference import Upscaler, open_model
from srgan_plugin.io.image_files import list_images
from srgan_plugin.io.images import Image, read_image
from srgan_plugin.metrics import quantize

from .contact_sheet import Region, most_detail, sheet
from .gallery import BICUBIC, HR, LR, Gallery

_LABELS: Final = {"msrresnet": "MSRResNet", "srgan": "SRGAN"}
_DEFAULT_SCALE: Final = 4  # of bicubic alone, without HR
_MAX_PIXELS: Final = 2**24  # of an upscaled image in a page
_WINDOW, _ZOOM, _WIDE = 128, 3, 480  # of the sheet: a crop's side, its pixels' side, whole images

Method = Callable[[Image], Image]


def upscaled_gallery(
    inputs: Sequence[str],
    models: Sequence[str],
    *,
    hr: Path | None,
    crop: int | None,
    device: str,
    progress: Callable[[int, int], None],
) -> Gallery:
    """Upscale images by several models.

    Args:
        inputs: Image files, and folders of them.
        models: "bicubic", names of bundled weights, and checkpoint files.
        hr: A folder with HR images of the same names.
        crop: Only the window of so many LR pixels with the most detail is upscaled.
        device: As for `Upscaler`.
        progress: Called with the numbers of images done and in all.

    Raises:
        MissingFileError: An input, a checkpoint or an HR image does not exist.
        UserError: Models differ in scale, or an image is too large for a page.
    """
    files = dict(_named(inputs))
    partners = _partners(hr, files)
    methods, scale = _methods(models, device)
    loads: dict[str, Callable[[], dict[str, Image]]] = {}
    for done, (name, path) in enumerate(files.items(), 1):
        lr = read_image(path)
        truth = read_image(partners[name]) if partners else None
        factor = scale or _scale_to(truth, lr, path)
        lr, truth = _cropped(lr, truth, crop, factor)
        if lr.shape[0] * lr.shape[1] * factor**2 > _MAX_PIXELS:
            raise UserError(
                f"{path}: expected at most {_MAX_PIXELS // 2**20} million pixels after upscaling, "
                f"got {lr.shape[1]}x{lr.shape[0]} times {factor}; show a part of it by --crop 256"
            )
        images = {LR: lr}
        for label, method in methods.items():
            images[label] = method(lr) if method else quantize(imresize(lr / 255, factor))
        loads[name] = partial(dict, images | ({HR: truth} if truth is not None else {}))
        progress(done, len(files))
    notes = (f"Only the {crop}x{crop} LR pixels with the most detail are shown",) if crop else ()
    return Gallery(loads, scale or factor, notes)


def _named(inputs: Sequence[str]) -> Iterator[tuple[str, Path]]:
    seen: dict[str, Path] = {}
    for text in inputs:
        path = Path(text)
        if not path.exists():
            raise MissingFileError(f"{path}: expected an image or a folder, got no such file")
        found = list_images(path) if path.is_dir() else {path.stem: path}
        for name, file in found.items():
            if name in seen:
                raise UserError(f"{file}: expected another name than that of {seen[name]}")
            seen[name] = file
            yield name, file


def _partners(hr: Path | None, files: Mapping[str, Path]) -> dict[str, Path]:
    if hr is None:
        return {}
    found = list_images(hr)
    if missing := [name for name in files if name not in found]:
        raise MissingFileError(
            f"{hr}: expected an HR image for each input, got none called {missing[0]}"
        )
    return {name: found[name] for name in files}


def _methods(models: Sequence[str], device: str) -> tuple[dict[str, Method | None], int | None]:
    """Return the methods by label, None for bicubic, and their scale, None where they have none."""
    methods: dict[str, Method | None] = {}
    scales: dict[int, str] = {}
    for model in models:
        label = _LABELS.get(model, model if model == BICUBIC else Path(model).stem)
        if label in methods or label in (LR, HR):
            label = model
        if model == BICUBIC:
            methods[label] = None
            continue
        network = open_model(model)
        methods[label] = Upscaler(network, device=device)
        scales[network.upscale_factor] = model
    if len(scales) > 1:
        (a, first), (b, second) = list(scales.items())[:2]
        raise UserError(f"--models: expected one scale, got x{a} of {first} and x{b} of {second}")
    if not methods:
        raise UserError("--models: expected bicubic, msrresnet, srgan or checkpoints, got none")
    return methods, next(iter(scales), None)


def _scale_to(truth: Image | None, lr: Image, path: Path) -> int:
    """Return the scale from LR to HR; the one of the published networks where there is no HR."""
    if truth is None:
        return _DEFAULT_SCALE
    scale = int(truth.shape[0] / lr.shape[0] + 0.5)
    if scale < 1:
        raise UserError(f"{path}: expected an HR image larger than it, got {truth.shape[:2]}")
    return scale


def _cropped(
    lr: Image, truth: Image | None, crop: int | None, scale: int
) -> tuple[Image, Image | None]:
    """Cut the same window out of both."""
    if not crop:
        return lr, truth
    window = most_detail(lr, crop)
    large = Region(*(size * scale for size in window))
    return window.of(lr), None if truth is None else large.of(truth)


def comparison_sheet(gallery: Gallery) -> Image:
    """Lay out each image, whole and as a crop, by all methods side by side.

    Returns:
        (H, W, 3), uint8, RGB.
    """
    rows = []
    for load in gallery.images.values():
        images = load()
        if LR in images:
            lr, scale = images[LR], gallery.scale or 1
            images[LR] = lr.repeat(scale, 0).repeat(scale, 1)
        whole = {label: _shrunk(image, _WIDE) for label, image in images.items()}
        last = [label for label in images if label != HR][-1]
        window = most_detail(images.get(HR, images[last]), _WINDOW)
        crops = {
            f"{label}, detail": window.of(image).repeat(_ZOOM, 0).repeat(_ZOOM, 1)
            for label, image in images.items()
        }
        rows += [whole, crops]
    return sheet(rows)


def _shrunk(image: Image, width: int) -> Image:
    """Return an image at most `width` wide, made smaller by MATLAB's bicubic."""
    if image.shape[1] <= width:
        return image
    return quantize(imresize(image / 255, width / image.shape[1]))
