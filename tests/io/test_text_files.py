"""Text, JSON and YAML of users: read in UTF-8, or refused by the name of the file."""

import json
from pathlib import Path

import pytest

from srgan_plugin.errors import UserError
from srgan_plugin.io.text_files import read_json, read_text, read_yaml


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_text_is_read_with_and_without_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.txt"
    path.write_text("é: 1\n", encoding=encoding)
    assert read_text(path, "a list") == "é: 1\n"
    assert read_yaml(path, "options") == {"é": 1}
    path.write_text('{"é": 1}', encoding=encoding)
    assert read_json(path, "results") == {"é": 1}


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ("é".encode("latin-1"), "0xe9"),
        ("{}".encode("utf-16"), "UTF-16"),
        (b"\x89PNG\r\n\x1a\n", "0x89"),
    ],
)
def test_other_encodings_are_refused_by_name(tmp_path: Path, content: bytes, got: str) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    for read in (read_text, read_json, read_yaml):
        with pytest.raises(UserError, match=rf"x\.txt: expected a list in UTF-8, got .*{got}"):
            read(path, "a list")


NOT_JSON = ["", "{'a': 1}", "[" * 100_000, "9" * 5000, "<html>"]
NOT_YAML = ["a: [", "a: 2026-13-45", "!!python/object:os.system", "[" * 9000, "? {a: b}\n: c", "\0"]


@pytest.mark.parametrize(
    ("kind", "text"),
    [*(("JSON", text) for text in NOT_JSON), *(("YAML", text) for text in NOT_YAML)],
    ids=lambda text: repr(text[:9]),
)
def test_what_is_not_json_or_yaml_is_refused_by_name_and_in_one_line(
    tmp_path: Path, kind: str, text: str
) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(UserError, match=rf"x: expected options as {kind}, got .*") as caught:
        {"JSON": read_json, "YAML": read_yaml}[kind](tmp_path / "x", "options")
    assert "\n" not in str(caught.value)


def test_json_of_any_value_is_returned_as_it_is(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, "x"]}
    (tmp_path / "x.json").write_text(json.dumps(value))
    assert read_json(tmp_path / "x.json", "results") == value
