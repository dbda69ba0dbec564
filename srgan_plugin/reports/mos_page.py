"""The page on which raters do a study: one file with its images, blind, without the network."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from srgan_plugin.errors import UserError
from srgan_plugin.io.atomic import write_text

from .html import asset, encode_image, page
from .mos_study import ANCHORS, Study, seal, study_id, study_key

FORMAT: Final = "srgan_plugin.mos"
VERSION: Final = 1
_MB: Final = 1_000_000


class StudyPage(NamedTuple):
    """A page, and what to say of it.

    Attributes:
        html: The text of the file.
        study_id: The study's name, which each rater's file has, too.
        versions: How many images a rater sees, without those that are shown twice.
    """

    html: str
    study_id: str
    versions: int


def study_page(
    study: Study, *, max_mb: float, show: Callable[[int, int], None] = lambda done, total: None
) -> StudyPage:
    """Make the page of a study.

    Args:
        study: What is rated.
        max_mb: The largest size of the page, in millions of bytes.
        show: Called with how many images are encoded, and how many there are.

    Raises:
        UserError: The page would be larger; the message says how large.
    """
    digest, images, size, total = hashlib.sha256(), {}, 0, len(list(study))
    for done, item in enumerate(study, 1):
        pixels = study.pixels(item)
        digest.update(repr(pixels.shape).encode() + pixels.tobytes())
        images[item.code] = base64.b64encode(encode_image(pixels)).decode()
        size += len(images[item.code])
        if size > max_mb * _MB:
            raise _too_large(study, size * total / done / _MB, max_mb)
        show(done, total)
    key = study_key(study, digest.hexdigest())
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
    # By code: their order says nothing of methods.
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
    return StudyPage(html, name, len(study.items))


def _too_large(study: Study, estimate: float, max_mb: float) -> UserError:
    return UserError(
        f"the page: expected at most {max_mb:g} MB, got about {estimate:.0f} MB "
        f"({len(study.images)} images, {len(study.methods)} versions of each); show less by "
        "--crop 256 or --max-images 20, or allow more by --max-mb"
    )


def write_page(study_page: StudyPage, target: str | Path) -> None:
    """Write a page, complete or not at all."""
    write_text(study_page.html, target)
