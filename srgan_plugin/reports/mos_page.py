"""Build the page of an opinion study: one HTML file with all images and without method names."""

import base64
import hashlib
from collections.abc import Callable
from typing import Final, NamedTuple

from srgan_plugin.errors import UserError, prefix_errors

from .html import asset, encode_image, page
from .mos_study import ANCHORS, Study, seal, study_id, study_key

FORMAT: Final = "srgan_plugin.mos"
VERSION: Final = 1
_MB: Final = 1_000_000


class StudyPage(NamedTuple):
    """Page of a study.

    Attributes:
        html: Content of the file.
        study_id: Id of the study, as in the files of the raters.
    """

    html: str
    study_id: str


def study_page(study: Study, *, max_mb: float, progress: Callable[[int, int], None]) -> StudyPage:
    """Build the page of a study.

    Args:
        study: Versions of images to rate.
        max_mb: Maximum size of the page, in millions of bytes.
        progress: Called after each image with the number of images encoded and in total.

    Returns:
        HTML of the page, and the id of the study.

    Raises:
        UserError: The page would be larger. The message contains an estimate of its size.
    """
    images, digest = _encode_images(study, max_mb, progress)
    key = study_key(study, digest)
    name = study_id(key)
    data = {
        "format": FORMAT,
        "version": VERSION,
        "id": name,
        "items": [[item.code, item.scene] for item in study.items],
        "repeats": study.repeats,
        "calibration": [[item.code, ANCHORS[item.method]] for item in study.calibration],
        "key": seal(key),
    }
    # Sorted by code, so that the order does not reveal methods.
    elements = (
        f'<script type="text/plain" id="image-{code}">{images[code]}</script>'
        for code in sorted(images)
    )
    html = page(
        "How good do these images look?",
        asset("mos.html") + "\n".join(elements),
        style=asset("mos.css"),
        script=asset("mos.js"),
        data={"study": data},
    )
    return StudyPage(html, name)


def _encode_images(
    study: Study, max_mb: float, progress: Callable[[int, int], None]
) -> tuple[dict[str, str], str]:
    """Return {code: image in base64}, and a digest of the pixels of all images."""
    digest, images, size = hashlib.sha256(), {}, 0
    items = [*study.items, *study.calibration]
    for done, item in enumerate(items, 1):
        pixels = study.pixels(item)
        digest.update(repr(pixels.shape).encode() + pixels.tobytes())
        with prefix_errors(f"{item.method} of {item.image}"):
            images[item.code] = base64.b64encode(encode_image(pixels)).decode()
        size += len(images[item.code])
        if size > max_mb * _MB:
            raise _too_large(study, size * len(items) / done / _MB, max_mb)
        progress(done, len(items))
    return images, digest.hexdigest()


def _too_large(study: Study, estimate: float, max_mb: float) -> UserError:
    return UserError(
        f"the page: expected at most {max_mb:g} MB, got about {estimate:.0f} MB "
        f"({len(study.images)} images, {len(study.methods)} versions of each); reduce it with "
        "--crop 256 or --max-images 20, or raise --max-mb"
    )
