"""Build HTML pages in one file, which load nothing from a network.

Names of files, methods and people are inserted as text or as JSON, never as markup. In addition,
the content security policy of a page allows only the script of this package, by its hash.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from html import escape
from importlib import resources
from io import BytesIO
from types import MappingProxyType
from typing import Any, Final

import PIL.Image

from srgan_plugin.errors import UserError
from srgan_plugin.io.array_types import RGBArray
from srgan_plugin.io.writers import WEBP_MAX_SIDE

_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
{data}
{script}
</body>
</html>
"""
# Escapes for JSON in an HTML element, so that no string can close the element.
_ESCAPES: Final = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def asset(name: str) -> str:
    """Return the text of a file in `reports/assets`."""
    return (resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


def page(
    title: str,
    body: str,
    *,
    style: str,
    script: str = "",
    data: Mapping[str, object] = MappingProxyType({}),
) -> str:
    """Return a complete HTML page.

    Args:
        title: Title, as plain text.
        body: Content, as HTML in which text from users is escaped.
        style: CSS.
        script: JavaScript, run after the body is parsed. No other script can run.
        data: {id of the element: JSON-serialisable data} for the script.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = f"'sha256-{digest}'" if script else "'none'"
    return _PAGE.format(
        policy=f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
        f"script-src {scripts}; base-uri 'none'; form-action 'none'",
        title=escape(title),
        style=style,
        body=body,
        data="\n".join(json_element(name, content) for name, content in data.items()),
        script=f"<script>{script}</script>" if script else "",
    )


def json_element(name: str, content: object) -> str:
    """Return a `<script>` element with the id `name` that contains JSON and is not executed."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'


def encode_image(rgb: RGBArray, quality: int | None = None) -> bytes:
    """Encode an image as WebP.

    Args:
        rgb: Image, (H, W, 3), uint8, RGB.
        quality: Quality of lossy WebP, from 1 to 100. None (default) is lossless, in half to three
            quarters of the size of a PNG.

    Returns:
        Content of the WebP file.

    Raises:
        UserError: The image is wider or higher than WebP allows.
    """
    height, width = rgb.shape[:2]
    if max(height, width) > WEBP_MAX_SIDE:
        raise UserError(
            f"expected at most {WEBP_MAX_SIDE} pixels in width and height on a page, got "
            f"{width}x{height}; crop the image"
        )
    options: dict[str, Any] = {"lossless": True, "exact": True, "method": 2, "quality": 50}
    if quality is not None:
        options = {"quality": quality, "method": 4}
    file = BytesIO()
    PIL.Image.fromarray(rgb).save(file, "WEBP", **options)
    return file.getvalue()


def table(
    header: list[str],
    rows: list[list[str]],
    caption: str,
    *,
    text_columns: int = 1,
    classes: str = "",
) -> str:
    """Return an HTML table, in which the first cell of each row is a header.

    Args:
        header: Names of the columns, as plain text.
        rows: Cells, as plain text, one per column in each row.
        caption: Caption of the table, as plain text.
        text_columns: Number of columns on the left that are aligned as text, not as numbers.
        classes: CSS classes of the table. With `words`, lines may break in paths.
    """
    place = _insert_line_breaks if "words" in classes else escape
    sides = [' class="text"' if column < text_columns else "" for column in range(len(header))]
    head = "".join(
        f'<th scope="col"{side}>{escape(cell)}</th>'
        for cell, side in zip(header, sides, strict=True)
    )
    lines = [
        f'<tr><th scope="row">{place(first)}</th>'
        + "".join(f"<td{side}>{place(c)}</td>" for c, side in zip(rest, sides[1:], strict=True))
        + "</tr>"
        for first, *rest in rows
    ]
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table class="{classes}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _insert_line_breaks(text: str) -> str:
    """Escape text and allow line breaks between the parts of paths and dotted names."""
    return re.sub(r"([./_=])(?=[^\W\d])", r"\1<wbr>", escape(text))
