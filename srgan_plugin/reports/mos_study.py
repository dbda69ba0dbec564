"""Plan a mean-opinion-score (MOS) study as in the SRGAN paper.

In Ledig et al. 2016, section 3.3, raters score versions of images from 1 (bad) to 5 (excellent) in
random order. Two versions of each image are anchors, for which raters were calibrated:
nearest-neighbour interpolation as 1, the HR image as 5. In a pilot study some images were shown
twice, to measure the consistency of the raters.
"""

import base64
import contextlib
import hashlib
import json
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from srgan_plugin.data.pairs import ImagePairs
from srgan_plugin.data.resize import imresize
from srgan_plugin.errors import MissingFileError, UserError
from srgan_plugin.io.array_types import RGBArray
from srgan_plugin.io.image_files import list_images
from srgan_plugin.io.images import image_shape, read_image

from .image_names import strip_ending

NEAREST: Final = "nearest"
HR: Final = "HR"
#: {method for the calibration of raters: its score}
ANCHORS: Final = {NEAREST: 1, HR: 5}
BICUBIC: Final = "bicubic"
_CALIBRATION: Final = "/"  # prefix of the keys of calibration images; no other key begins with it
_MAX_KEY_BYTES: Final = 2**24  # bytes of an uncompressed study key


class StudyOptions(NamedTuple):
    """Options of a study.

    Attributes:
        scale: Ratio of HR to LR size.
        bicubic: Whether to include LR images upscaled with `imresize` as a method.
        crop: Height and width of the displayed central part, in HR pixels; None for whole images.
        max_images: Size of a random sample of the images; None for all images.
        repeats: Number of versions that are shown twice.
        calibration_images: Number of images for the calibration of raters.
        dataset: Name of the test set, such as "Set14", for comparison with the paper; empty for
            another set.
        seed: Seed of the random choice of images, repeats and codes.
    """

    scale: int = 4
    bicubic: bool = False
    crop: int | None = None
    max_images: int | None = None
    repeats: int = 10
    calibration_images: int = 5
    dataset: str = ""
    seed: int = 0


class Item(NamedTuple):
    """Version of an image.

    Attributes:
        code: Random code of the version in the page.
        method: Name of the method.
        image: Key of the image.
        scene: Index of the image in the study; -1 for calibration images.
    """

    code: str
    method: str
    image: str
    scene: int


@dataclass(frozen=True)
class Study:
    """Versions of images to rate.

    Attributes:
        options: Options of the study.
        methods: Names of the methods, anchors first.
        images: Keys of the images.
        items: All versions of all images, sorted by code.
        repeats: Codes of the versions that are shown twice.
        calibration: Anchors of the calibration images.
        sources: {image: (LR-HR pairs, index of the image in them)}.
        folders: {method: {image: file}}.
    """

    options: StudyOptions
    methods: tuple[str, ...]
    images: tuple[str, ...]
    items: tuple[Item, ...]
    repeats: tuple[str, ...]
    calibration: tuple[Item, ...]
    sources: Mapping[str, tuple[ImagePairs, int]]
    folders: Mapping[str, Mapping[str, Path]]

    def pixels(self, item: Item) -> RGBArray:
        """Return the pixels of a version, (H, W, 3), uint8, RGB, with the crop of the options."""
        pairs, index = self.sources[item.image]
        pair, scale = pairs[index], self.options.scale
        lr = np.asarray(pair.lr)
        if item.method == HR:
            image = np.asarray(pair.gt)
        elif item.method == NEAREST:
            image = lr.repeat(scale, 0).repeat(scale, 1)
        elif item.method == BICUBIC and BICUBIC not in self.folders:
            large = imresize(lr.astype(np.float64), scale)
            image = np.floor(np.clip(large, 0, 255) + 0.5).astype(np.uint8)
        else:
            image = read_image(self.folders[item.method][item.image])
        return _crop_centre(image, self.options.crop, scale)


def make_study(
    hr: str | Path,
    lr: str | Path | None,
    folders: Mapping[str, str | Path],
    options: StudyOptions,
    calibration: str | Path | None = None,
) -> Study:
    """Plan a study. Images are not read before `Study.pixels`.

    Args:
        hr: Folder or store of HR images.
        lr: Folder or store of LR images; None to downscale HR with `imresize`.
        folders: {method: folder of images with the names and sizes of the HR images}.
        options: Options of the study.
        calibration: Folder or store of other HR images for the calibration, as in the paper; None
            for images of the study.

    Returns:
        The versions of images to rate, their repeats and the calibration.

    Raises:
        UserError: The name of a method is reserved or empty, or images do not match.
    """
    made = [NEAREST, HR, *([BICUBIC] if options.bicubic else [])]
    _check_names(folders, made)
    rng = random.Random(options.seed)
    pairs = ImagePairs(hr, lr, scale=options.scale, crop_gt=True)
    sources = _sample(pairs, options.max_images, rng)
    codes = _generate_codes(rng)
    items = sorted(
        Item(next(codes), method, key, scene)
        for method in (*made, *folders)
        for scene, key in enumerate(sources)
    )
    candidates = [item.code for item in items if item.method not in ANCHORS]
    repeats = rng.sample(candidates, min(options.repeats, len(candidates) // 2))
    others = ImagePairs(calibration, scale=options.scale) if calibration else pairs
    calibrating = _sample(others, options.calibration_images, rng)
    return Study(
        options=options,
        methods=(*made, *folders),
        images=tuple(sources),
        items=tuple(items),
        repeats=tuple(sorted(repeats)),
        calibration=tuple(
            Item(next(codes), method, _CALIBRATION + key, -1)
            for key in calibrating
            for method in ANCHORS
        ),
        sources={**sources, **{_CALIBRATION + key: pair for key, pair in calibrating.items()}},
        folders={
            name: _find_outputs(name, folder, sources, options.scale)
            for name, folder in folders.items()
        },
    )


def _check_names(folders: Mapping[str, str | Path], reserved: Sequence[str]) -> None:
    for name, folder in folders.items():
        if not name.strip():
            raise UserError(f"{name}={folder}: expected a name before '=', got {name!r}")
        if name in reserved:
            raise UserError(
                f"{name}={folder}: expected a name other than {', '.join(reserved)}, which are "
                f"made from HR and LR, got {name!r}"
            )


def _sample(
    pairs: ImagePairs, count: int | None, rng: random.Random
) -> dict[str, tuple[ImagePairs, int]]:
    """Return a random sample of `count` images, sorted by key; None for all images."""
    chosen: Sequence[int] = range(len(pairs))
    if count is not None and count < len(pairs):
        chosen = sorted(rng.sample(chosen, count))
    return {pairs.keys[index]: (pairs, index) for index in chosen}


def _generate_codes(rng: random.Random) -> Iterator[str]:
    """Yield distinct random codes."""
    used: set[str] = set()
    while True:
        code = f"{rng.getrandbits(32):08x}"
        if code not in used:
            used.add(code)
            yield code


def _find_outputs(
    name: str, folder: str | Path, sources: Mapping[str, tuple[ImagePairs, int]], scale: int
) -> dict[str, Path]:
    """Return {key: image of a method}; all file names may have an additional ending.

    Args:
        name: Name of the method, for errors.
        folder: Folder of the method's images.
        sources: {image: (LR-HR pairs, index of the image in them)}.
        scale: Ratio of HR to LR size; `x4` is an ending at scale 4.

    Raises:
        MissingFileError: An image is missing.
        UserError: An image does not have the size of the HR image.
    """
    files, keys = list_images(folder), list(sources)
    if not any(f"{key}x{scale}" in files for key in keys):
        with contextlib.suppress(UserError):  # the missing images are named below
            files = strip_ending(files, keys, Path(folder))
    files = {**{key.removesuffix(f"x{scale}"): path for key, path in files.items()}, **files}
    missing = [key for key in keys if key not in files]
    if missing:
        raise MissingFileError(
            f"{name}={folder}: expected an image for each HR image, got none named "
            f"{', '.join(missing[:5])}{' and others' if len(missing) > 5 else ''}; each method "
            "needs all images"
        )
    if wrong := list(_wrong_sizes(files, sources)):
        raise UserError(
            f"{name}={folder}: expected images of the size of HR (height x width), got "
            f"{', '.join(wrong[:5])}{' and others' if len(wrong) > 5 else ''}; make them from the "
            f"LR images, x{scale}"
        )
    return {key: files[key] for key in keys}


def _wrong_sizes(
    files: Mapping[str, Path], sources: Mapping[str, tuple[ImagePairs, int]]
) -> Iterator[str]:
    """Yield a description of each file whose size differs from its HR image."""
    for key, (pairs, index) in sources.items():
        (height, width), (h, w) = pairs[index].gt.shape[:2], image_shape(files[key])
        if (h, w) != (height, width):
            yield f"{files[key]} ({h}x{w} instead of {height}x{width})"


def _crop_centre(image: RGBArray, size: int | None, scale: int) -> RGBArray:
    """Crop to the central `size` pixels, aligned with LR pixels; None for no crop."""
    if size is None:
        return image
    top, left = (max(length - size, 0) // 2 // scale * scale for length in image.shape[:2])
    return np.ascontiguousarray(image[top : top + size, left : left + size])


def study_key(study: Study, digest: str) -> dict[str, Any]:
    """Return the key of a study, which maps codes to methods and images.

    Args:
        study: The study.
        digest: Digest of the pixels of all versions.
    """
    return {
        "methods": list(study.methods),
        "images": list(study.images),
        "items": {item.code: [item.method, item.image] for item in study.items},
        "repeats": list(study.repeats),
        "options": study.options._asdict(),
        "pixels": digest,
    }


def seal(key: Mapping[str, Any]) -> str:
    """Encode a study key as base64, so that it is not readable at a glance; not encrypted."""
    return base64.b64encode(zlib.compress(_serialise(key))).decode()


def unseal(sealed: str) -> dict[str, Any]:
    """Decode a study key that `seal` encoded.

    Raises:
        ValueError: The text is not an encoded key.
    """
    reader = zlib.decompressobj()
    try:
        text = reader.decompress(base64.b64decode(sealed, validate=True), _MAX_KEY_BYTES)
        key = json.loads(text)
    except (ValueError, zlib.error, RecursionError) as error:
        raise ValueError("damaged") from error
    if not reader.eof or not isinstance(key, dict):
        raise ValueError("damaged")
    return key


def study_id(key: Mapping[str, Any]) -> str:
    """Return the id of a study, a hash of its key."""
    return hashlib.sha256(_serialise(key)).hexdigest()[:16]


def _serialise(key: Mapping[str, Any]) -> bytes:
    return json.dumps(key, sort_keys=True, separators=(",", ":")).encode()
