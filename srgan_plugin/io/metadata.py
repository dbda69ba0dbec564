"""Read metadata of image files, and encode them for an image of another size.

Metadata are EXIF, the resolution, XMP, the texts of PNG and the comments of JPEG and GIF.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from xml.etree import ElementTree

import PIL.Image
from PIL.ExifTags import IFD, Base
from PIL.ImageFile import ImageFile

from .image_headers import PILLOW_ERRORS

Keep = Literal["keep", "copyright", "none"]

_COPYRIGHT: Final = (Base.Artist, Base.Copyright, Base.XPAuthor)
# Tags of the main directory that describe the image and not the layout of the file.
_DESCRIPTIVE: Final = (
    *_COPYRIGHT,
    Base.ImageDescription,
    Base.Make,
    Base.Model,
    Base.Software,
    Base.DateTime,
    Base.Rating,
    Base.XPTitle,
    Base.XPComment,
    Base.XPKeywords,
    Base.XPSubject,
)
# A maker note contains offsets in its file; the other two are the size of the image.
_NOT_COPIED: Final = (Base.MakerNote, Base.ExifImageWidth, Base.ExifImageHeight)
_METRES_PER_INCH: Final = 0.0254
_COPYRIGHT_TEXTS: Final = ("Author", "Copyright")  # keywords of PNG
XMP_KEYWORD: Final = "XML:com.adobe.xmp"  # keyword of the PNG chunk
XMP_MARKER: Final = b"http://ns.adobe.com/xap/1.0/\0"  # start of the JPEG segment
_RDF: Final = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_DESCRIPTION: Final = f"{_RDF}Description"
# Names of XMP on author and rights.
_XMP_COPYRIGHT: Final = (
    "{http://purl.org/dc/elements/1.1/}creator",
    "{http://purl.org/dc/elements/1.1/}rights",
    "{http://ns.adobe.com/xap/1.0/rights/}",
)
# EXIF and the like in a text, as ImageMagick writes them; Pillow reads EXIF from there.
_RAW_PROFILE: Final = "Raw profile type "
# XMP elements and attributes that describe the pixels; the last group is the value. The search is
# linear in time for any bytes, because the attributes of an element end at the next `<`.
_XMP_VALUE: Final = rb"((?:<(?:%b)(?:\s[^<>]*)?>|(?:%b)\s*=\s*[\"'])\s*)(\d+)"
_XMP_TURN, _XMP_WIDTH, _XMP_HEIGHT = (
    re.compile(_XMP_VALUE % (names, names))
    for names in (
        b"tiff:Orientation",
        b"tiff:ImageWidth|exif:PixelXDimension",
        b"tiff:ImageLength|exif:PixelYDimension",
    )
)


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Metadata of an image file.

    Attributes:
        tags: Values of the main directory of EXIF, by tag.
        directories: The directories Exif and GPS, by tag.
        dpi: Dots per inch, horizontally and vertically; None if the file does not contain them.
        texts: Texts of PNG by keyword.
        comment: Comment of JPEG or GIF.
        xmp: XMP packet in UTF-8.
    """

    tags: dict[int, Any]
    directories: dict[int, dict[int, Any]]
    dpi: tuple[float, float] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    comment: bytes = b""
    xmp: bytes = b""

    def limited_to(self, keep: Keep) -> "Metadata":
        """Return all metadata, author and copyright only, or none."""
        if keep == "keep":
            return self
        if keep == "none":
            return NO_METADATA
        return Metadata(
            tags={tag: value for tag, value in self.tags.items() if tag in _COPYRIGHT},
            directories={},
            texts={key: text for key, text in self.texts.items() if key in _COPYRIGHT_TEXTS},
            xmp=_xmp_copyright(self.xmp),
        )

    def xmp_for(self, width: int, height: int) -> bytes:
        """Return the XMP packet for an upright image of this size."""
        xmp = self.xmp
        for pattern, value in ((_XMP_TURN, 1), (_XMP_WIDTH, width), (_XMP_HEIGHT, height)):
            xmp = pattern.sub(rb"\g<1>%d" % value, xmp)
        return xmp

    def texts_with_comment(self) -> dict[str, str]:
        """Return the texts for PNG, which has no other place for a comment."""
        comment = {"Comment": _decode_comment(self.comment)} if self.comment else {}
        return {**comment, **self.texts}

    def comment_with_text(self) -> bytes:
        """Return the comment for JPEG; that of PNG if there is no other."""
        return self.comment or self.texts.get("Comment", "").encode()

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
    """Read the metadata of an image that Pillow has loaded; damaged parts are ignored."""
    others: dict[str, Any] = {"dpi": _dpi(image)}
    for name, read in (("texts", _texts), ("comment", _comment), ("xmp", _xmp)):
        with suppress(*PILLOW_ERRORS):
            others[name] = read(image)
    try:
        exif = image.getexif()
        tags = {tag: value for tag, value in exif.items() if tag in _DESCRIPTIVE}
        directories = {
            int(tag): {key: value for key, value in entries.items() if key not in _NOT_COPIED}
            for tag in (IFD.Exif, IFD.GPSInfo)
            if (entries := exif.get_ifd(tag))
        }
        metadata = Metadata(tags=tags, directories=directories, **others)
        metadata.exif(1, 1)  # damage may also show when encoding
    except PILLOW_ERRORS:
        return Metadata(tags={}, directories={}, **others)
    return metadata


def dots_per_metre(dpi: tuple[float, float]) -> tuple[int, int]:
    """Convert a resolution from dots per inch to dots per metre, the unit of PNG."""
    return round(dpi[0] / _METRES_PER_INCH), round(dpi[1] / _METRES_PER_INCH)


def _texts(image: ImageFile) -> dict[str, str]:
    texts: Mapping[str, str] = getattr(image, "text", {})
    skipped = (_RAW_PROFILE, XMP_KEYWORD)
    return {key: str(text) for key, text in texts.items() if not key.startswith(skipped)}


def _comment(image: ImageFile) -> bytes:
    comment = image.info.get("comment", b"") if image.format in ("JPEG", "GIF") else b""
    return comment if isinstance(comment, bytes) else str(comment).encode()


def _xmp(image: ImageFile) -> bytes:
    """Return the XMP packet; empty if there is none, or one that is not in UTF-8."""
    markers = (data for _, data in getattr(image, "applist", ()))  # in Pillow before 11
    of_jpeg = (data[len(XMP_MARKER) :] for data in markers if data.startswith(XMP_MARKER))
    xmp = image.info.get("xmp") or image.info.get(XMP_KEYWORD) or next(of_jpeg, b"")
    xmp = xmp if isinstance(xmp, bytes) else str(xmp).encode()
    return b"" if b"\0" in xmp.rstrip(b"\0") else xmp.rstrip(b"\0")


def _xmp_copyright(xmp: bytes) -> bytes:
    """Return an XMP packet of author and rights only; empty if it has none or is not XML."""
    # Without a document type there are no entities, by which a short text could become a long one.
    if b"<!DOCTYPE" in xmp:
        return b""
    packet = ElementTree.Element("{adobe:ns:meta/}xmpmeta")
    kept = ElementTree.SubElement(ElementTree.SubElement(packet, f"{_RDF}RDF"), _DESCRIPTION)
    kept.set(f"{_RDF}about", "")
    try:
        parser = ElementTree.XMLParser(encoding="utf-8")
        root = ElementTree.fromstring(xmp, parser)
        for found in next(root.iter(f"{_RDF}RDF"), root).iterfind(_DESCRIPTION):
            kept.extend(part for part in found if part.tag.startswith(_XMP_COPYRIGHT))
            for name, value in found.items():
                if name.startswith(_XMP_COPYRIGHT):
                    kept.set(name, value)
        return ElementTree.tostring(packet) if len(kept) or len(kept.attrib) > 1 else b""
    except (ElementTree.ParseError, RecursionError, ValueError):
        return b""


def _decode_comment(comment: bytes) -> str:
    try:
        return comment.decode()
    except UnicodeDecodeError:
        return comment.decode("latin-1")


def _dpi(image: ImageFile) -> tuple[float, float] | None:
    # Pillow reports 72 dpi for a JPEG with EXIF but without a resolution.
    is_jpeg = image.format in ("JPEG", "MPO")
    if is_jpeg and not image.info.get("jfif_unit") and Base.XResolution not in image.getexif():
        return None
    try:
        horizontal, vertical = map(float, image.info["dpi"])
    except (KeyError, *PILLOW_ERRORS):
        return None
    return (horizontal, vertical) if min(horizontal, vertical) >= 1 else None
