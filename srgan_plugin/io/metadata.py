"""Read EXIF and resolution of image files, and encode them for an image of another size."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import PIL.Image
from PIL.ExifTags import IFD, Base
from PIL.ImageFile import ImageFile

from .image_headers import PILLOW_ERRORS

Keep = Literal["keep", "copyright", "none"]

_COPYRIGHT: Final = (Base.Artist, Base.Copyright, Base.XPAuthor)
# Tags of the main directory that describe the image and not the layout of the file.
_DESCRIPTIVE: Final = (
    *_COPYRIGHT,
    *(Base.ImageDescription, Base.Make, Base.Model, Base.Software, Base.DateTime),
    *(Base.Rating, Base.XPTitle, Base.XPComment, Base.XPKeywords, Base.XPSubject),
)
# A maker note contains offsets in its file; the other two are the size of the image.
_NOT_COPIED: Final = (Base.MakerNote, Base.ExifImageWidth, Base.ExifImageHeight)
_METRES_PER_INCH: Final = 0.0254


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """EXIF and resolution of an image file.

    Attributes:
        tags: Values of the main directory of EXIF, by tag.
        directories: The directories Exif and GPS, by tag.
        dpi: Dots per inch, horizontally and vertically; None if the file does not contain them.
    """

    tags: dict[int, Any]
    directories: dict[int, dict[int, Any]]
    dpi: tuple[float, float] | None = None

    def limited_to(self, keep: Keep) -> "Metadata":
        """Return all metadata, author and copyright only, or none."""
        if keep == "keep":
            return self
        kept = _COPYRIGHT if keep == "copyright" else ()
        return Metadata(tags={k: v for k, v in self.tags.items() if k in kept}, directories={})

    def exif(self, width: int, height: int) -> bytes:
        """Encode as a TIFF stream for an upright image of this size; empty if there is no EXIF.

        The orientation (it is applied), the thumbnail, the maker note and tags about the layout of
        the file are skipped.
        """
        exif = PIL.Image.Exif()
        exif.update(_as_read(self.tags))
        if self.dpi:
            exif[Base.XResolution], exif[Base.YResolution] = self.dpi
            exif[Base.ResolutionUnit] = 2  # inches
        sizes: dict[int, Any] = {Base.ExifImageWidth: width, Base.ExifImageHeight: height}
        for tag, directory in self.directories.items():
            exif[tag] = _as_read({**directory, **sizes} if tag == IFD.Exif else directory)
        return exif.tobytes().removeprefix(b"Exif\0\0") if len(exif) else b""


class _Text(str):
    """A text that Pillow writes with the bytes that it read, which it decodes as Latin-1.

    By itself it encodes texts as ASCII, with question marks for all other letters.
    """

    def encode(self, encoding: str = "latin-1", errors: str = "replace") -> bytes:
        """Encode as Latin-1."""
        return super().encode("latin-1", errors)


def _as_read(tags: Mapping[int, Any]) -> dict[int, Any]:
    return {tag: _Text(value) if isinstance(value, str) else value for tag, value in tags.items()}


NO_METADATA: Final = Metadata(tags={}, directories={})


def read_metadata(image: ImageFile) -> Metadata:
    """Read EXIF and resolution of an image opened by Pillow; damaged EXIF is ignored."""
    try:
        exif = image.getexif()
        tags = {tag: value for tag, value in exif.items() if tag in _DESCRIPTIVE}
        directories = {
            int(tag): {key: value for key, value in entries.items() if key not in _NOT_COPIED}
            for tag in (IFD.Exif, IFD.GPSInfo)
            if (entries := exif.get_ifd(tag))
        }
        metadata = Metadata(tags=tags, directories=directories, dpi=_dpi(image))
        metadata.exif(1, 1)  # damage may also show when encoding
    except PILLOW_ERRORS:
        return Metadata(tags={}, directories={}, dpi=_dpi(image))
    return metadata


def dots_per_metre(dpi: tuple[float, float]) -> tuple[int, int]:
    """Convert a resolution from dots per inch to dots per metre, the unit of PNG."""
    return round(dpi[0] / _METRES_PER_INCH), round(dpi[1] / _METRES_PER_INCH)


def _dpi(image: ImageFile) -> tuple[float, float] | None:
    try:
        horizontal, vertical = map(float, image.info["dpi"])
    except (KeyError, *PILLOW_ERRORS):
        return None
    return (horizontal, vertical) if min(horizontal, vertical) >= 1 else None
