"""A study of opinions as in the SRGAN paper: which versions of which images are rated.

Ledig et al. 2016, section 3.3: raters give 1 (bad) to 5 (excellent) to versions of an image in
random order, among them the nearest-neighbour version and the HR image, on which they were
calibrated as 1 and 5. A pilot study showed some images twice, for the raters' self-agreement.
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
from srgan_plugin.io.image_files import list_images
from srgan_plugin.io.images import Image, image_shape, read_image

from .image_names import without_ending

#: The anchors: what raters are calibrated on, and with which score.
NEAREST: Final = "nearest"
HR: Final = "HR"
ANCHORS: Final = {NEAREST: 1, HR: 5}
BICUBIC: Final = "bicubic"
_CALIBRATION: Final = "/"  # before the keys of images to calibrate on; no file's key begins so
_LONGEST_KEY: Final = 2**24  # bytes of JSON that a sealed key may hold


class StudyOptions(NamedTuple):
    """What a study shows.

    Attributes:
        scale: HR is so many times larger than LR.
        bicubic: Whether MATLAB's bicubic of the LR image is rated, too.
        crop: Height and width of the central part that is shown; None for whole images.
        max_images: Images are drawn where there are more.
        repeats: Versions that are shown twice.
        calibration_images: Images that raters are calibrated on.
        dataset: The published test set that the images are, such as "Set14"; empty for others.
        seed: Of everything that is drawn.
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
    """One version of one image, under the code that the page knows it by."""

    code: str
    method: str
    image: str
    scene: int


@dataclass(frozen=True)
class Study:
    """What is rated, and how to read its images.

    Attributes:
        options: What was asked for.
        methods: The names, anchors first.
        images: Keys of the images that are rated.
        items: Every version of every image, by code.
        repeats: Codes of those that are shown twice.
        calibration: Nearest-neighbour version and HR image of each image to calibrate on.
        sources: For each image its pairs of LR and HR, and its number among them.
        folders: For each method the files of its images.
    """

    options: StudyOptions
    methods: tuple[str, ...]
    images: tuple[str, ...]
    items: tuple[Item, ...]
    repeats: tuple[str, ...]
    calibration: tuple[Item, ...]
    sources: Mapping[str, tuple[ImagePairs, int]]
    folders: Mapping[str, Mapping[str, Path]]

    def pixels(self, item: Item) -> Image:
        """Read or make a version of an image, cropped to what is shown."""
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
        return _centre(image, self.options.crop, scale)

    def __iter__(self) -> Iterator[Item]:
        """Every version whose image the page holds."""
        yield from self.items
        yield from self.calibration


def make_study(
    hr: str | Path,
    lr: str | Path | None,
    folders: Mapping[str, str | Path],
    options: StudyOptions,
    calibration: str | Path | None = None,
) -> Study:
    """Plan a study; the images are read when their pixels are asked for.

    Args:
        hr: The folder of HR images, or a store.
        lr: That of LR images; None to make them by MATLAB's bicubic.
        folders: For each method, the folder with its images, called like HR's.
        options: What is shown.
        calibration: A folder of other HR images to calibrate raters on, as the paper had it; None
            to take images of the study.

    Raises:
        UserError: A name is not usable, or images do not pair up.
    """
    made = [NEAREST, HR, *([BICUBIC] if options.bicubic else [])]
    for name in folders:
        if name in made or not name.strip():
            raise UserError(
                f"{name}={folders[name]}: expected a name other than {', '.join(made)} and empty, "
                f"got {name!r}; these versions are made of HR and LR"
            )
    rng = random.Random(options.seed)
    pairs = ImagePairs(hr, lr, scale=options.scale, crop_gt=True)
    sources = _draw(pairs, options.max_images, rng)
    codes = _codes(rng)
    items = sorted(
        Item(next(codes), method, key, scene)
        for method in (*made, *folders)
        for scene, key in enumerate(sources)
    )
    candidates = [item.code for item in items if item.method not in ANCHORS]
    repeats = rng.sample(candidates, min(options.repeats, len(candidates) // 2))
    others = ImagePairs(calibration, scale=options.scale) if calibration else pairs
    shown = _draw(others, options.calibration_images, rng)
    return Study(
        options=options,
        methods=(*made, *folders),
        images=tuple(sources),
        items=tuple(items),
        repeats=tuple(sorted(repeats)),
        calibration=tuple(
            Item(next(codes), method, _CALIBRATION + key, -1) for key in shown for method in ANCHORS
        ),
        sources={**sources, **{_CALIBRATION + key: place for key, place in shown.items()}},
        folders={
            name: _outputs(name, folder, sources, options.scale) for name, folder in folders.items()
        },
    )


def _draw(
    pairs: ImagePairs, count: int | None, rng: random.Random
) -> dict[str, tuple[ImagePairs, int]]:
    """Draw images, sorted by key, or take all where there are not more."""
    chosen: Sequence[int] = range(len(pairs))
    if count is not None and count < len(pairs):
        chosen = sorted(rng.sample(chosen, count))
    return {pairs.keys[index]: (pairs, index) for index in chosen}


def _codes(rng: random.Random) -> Iterator[str]:
    """Yield names that say nothing."""
    used: set[str] = set()
    while True:
        code = f"{rng.getrandbits(32):08x}"
        if code not in used:
            used.add(code)
            yield code


def _outputs(
    name: str, folder: str | Path, sources: Mapping[str, tuple[ImagePairs, int]], scale: int
) -> dict[str, Path]:
    """Find a method's image of each key: their names may all have one more ending.

    Raises:
        MissingFileError: Some are missing.
        UserError: Some are not of the HR image's size.
    """
    files, keys = list_images(folder), list(sources)
    if not any(f"{key}x{scale}" in files for key in keys):
        with contextlib.suppress(UserError):  # said below, with what is missing
            files = without_ending(files, keys, Path(folder))
    files = {**{key.removesuffix(f"x{scale}"): path for key, path in files.items()}, **files}
    missing = [key for key in keys if key not in files]
    if missing:
        raise MissingFileError(
            f"{name}={folder}: expected an image of each name that HR has, got none called "
            f"{', '.join(missing[:5])}{' and others' if len(missing) > 5 else ''}; raters see each "
            "image by each method"
        )
    if wrong := list(_of_other_sizes(files, sources)):
        raise UserError(
            f"{name}={folder}: expected images of the size that HR has, got {', '.join(wrong[:5])}"
            f"{' and others' if len(wrong) > 5 else ''}; make them from the LR images, x{scale}"
        )
    return {key: files[key] for key in keys}


def _of_other_sizes(
    files: Mapping[str, Path], sources: Mapping[str, tuple[ImagePairs, int]]
) -> Iterator[str]:
    """Yield the files that are not of their HR image's size, in words."""
    for key, (pairs, index) in sources.items():
        (height, width), (h, w) = pairs[index].gt.shape[:2], image_shape(files[key])
        if (h, w) != (height, width):
            yield f"{files[key]} ({w}x{h} instead of {width}x{height})"


def _centre(image: Image, size: int | None, scale: int) -> Image:
    """Cut out the centre, at a place where LR pixels begin."""
    if size is None:
        return image
    top, left = (max(length - size, 0) // 2 // scale * scale for length in image.shape[:2])
    return np.ascontiguousarray(image[top : top + size, left : left + size])


def study_key(study: Study, digest: str) -> dict[str, Any]:
    """Return what turns codes into methods and images; `digest` is that of the images' pixels."""
    return {
        "methods": list(study.methods),
        "images": list(study.images),
        "items": {item.code: [item.method, item.image] for item in study.items},
        "repeats": list(study.repeats),
        "options": study.options._asdict(),
        "pixels": digest,
    }


def seal(key: Mapping[str, Any]) -> str:
    """Return a key as text in which nothing can be read at a glance; it is not a secret."""
    return base64.b64encode(zlib.compress(_canonical(key))).decode()


def unseal(sealed: str) -> dict[str, Any]:
    """Return the key of `seal`.

    Raises:
        ValueError: It is not one.
    """
    reader = zlib.decompressobj()
    try:
        text = reader.decompress(base64.b64decode(sealed, validate=True), _LONGEST_KEY)
        key = json.loads(text)
    except (ValueError, zlib.error, RecursionError) as error:
        raise ValueError("damaged") from error
    if not reader.eof or not isinstance(key, dict):
        raise ValueError("damaged")
    return key


def study_id(key: Mapping[str, Any]) -> str:
    """Return the name of a study: it differs wherever the study does."""
    return hashlib.sha256(_canonical(key)).hexdigest()[:16]


def _canonical(key: Mapping[str, Any]) -> bytes:
    return json.dumps(key, sort_keys=True, separators=(",", ":")).encode()
