"""Pages in one file: no network, and no script or style but those of this package.

Names of files, methods and people go into a page as text or as data, never as markup; the page's
policy refuses any script that is not the one written here, should one get in all the same.
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

from srgan_plugin.io.images import Image

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
# For JSON inside an HTML element: no character of it can end the element.
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
    """Return a whole HTML page that loads nothing.

    Args:
        title: Plain text.
        body: HTML, with everything from outside escaped.
        style: CSS.
        script: JavaScript, run after the body; the only one that the page's policy admits.
        data: What the script finds as JSON in the elements of these ids.
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
    """Return a `<script type="application/json">` of the id `name`, which is data and never run."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'


def encode_image(rgb: Image) -> bytes:
    """Encode an image as lossless WebP, half to three quarters of a PNG's size."""
    file = BytesIO()
    options: dict[str, Any] = {"lossless": True, "exact": True, "method": 2, "quality": 50}
    PIL.Image.fromarray(rgb).save(file, "WEBP", **options)
    return file.getvalue()


def table(
    header: list[str], rows: list[list[str]], caption: str, *, texts: int = 1, kind: str = ""
) -> str:
    """Return an HTML table of plain texts, the first cell of each row its header.

    Args:
        header: The columns' names.
        rows: Cells, as many as there are columns.
        caption: What the table shows.
        texts: So many columns, from the first, hold words instead of numbers.
        kind: Classes of the table; the cells of `words` may wrap.
    """
    place = breakable if "words" in kind else escape
    sides = [' class="text"' if column < texts else "" for column in range(len(header))]
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
        f'<table class="{kind}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def breakable(text: str) -> str:
    """Return escaped text in which paths and dotted names may wrap between their parts."""
    return re.sub(r"([./_=])(?=[^\W\d])", r"\1<wbr>", escape(text))
