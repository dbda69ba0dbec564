"""Read text, JSON and YAML files of a user, with errors that name the file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from srgan_plugin.errors import UserError


def read_text(path: Path, expected: str) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Args:
        path: Path of the file.
        expected: Description of the expected content, for messages: `"a list of images"`.

    Returns:
        The text, without a byte order mark, with the line endings of the file.

    Raises:
        OSError: The file does not exist or cannot be read.
        UserError: The file is not UTF-8.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # `error.object` is what follows the mark.
        place = error.start + len(content) - len(error.object)
        got = f"the byte {content[place]:#04x} at {place}"
        if content.startswith((b"\xff\xfe", b"\xfe\xff")):
            got = "UTF-16"
        raise UserError(
            f"{path}: expected {expected} in UTF-8, got {got}; save it as UTF-8"
        ) from None


def read_json(path: Path, expected: str) -> Any:
    """Read a JSON file; for arguments see `read_text`.

    Raises:
        OSError: The file does not exist or cannot be read.
        UserError: The file is not UTF-8 or not JSON.
    """
    return _parse_file(json.loads, ValueError, "JSON", path, expected)


def read_yaml(path: Path, expected: str) -> Any:
    """Read a YAML file of plain data; for arguments see `read_text`.

    Raises:
        OSError: The file does not exist or cannot be read.
        UserError: The file is not UTF-8 or not YAML of plain data.
    """
    import yaml

    # Of tags that do not fit (`!!bool x`, `!!int ''`), dates such as 2026-13-45, and huge numbers.
    others = (ValueError, LookupError, AttributeError, OverflowError)
    return _parse_file(yaml.safe_load, (*others, yaml.YAMLError), "YAML", path, expected)


def _parse_file(
    parse: Callable[[str], Any],
    errors: type[Exception] | tuple[type[Exception], ...],
    kind: str,
    path: Path,
    expected: str,
) -> Any:
    text = read_text(path, expected)
    try:
        return parse(text)
    except errors as error:
        reason = " ".join(str(error).split())
    except RecursionError:
        reason = "values nested too deeply"
    raise UserError(f"{path}: expected {expected} as {kind}, got something else ({reason})")
