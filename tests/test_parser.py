"""An unknown option is named, with the nearest known one, by every command line."""

import argparse
import re
from pathlib import Path

import pytest

from srgan_plugin.__main__ import main as srgan_plugin
from srgan_plugin.cli.basicsr import prepare
from srgan_plugin.cli.errors import command
from srgan_plugin.cli.parser import Parser
from srgan_plugin.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """Return the usage and the error."""
    with pytest.raises(SystemExit) as ended:
        srgan_plugin(list(arguments))
    assert ended.value.code == 2
    usage, _, error = capsys.readouterr().err.rpartition("error: ")
    return usage, error.strip()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("upscale in.png out.png --scael 4", "unknown option --scael; did you mean --scale?"),
        ("upscale --scael=4 in.png out.png", "unknown option --scael; did you mean --scale?"),
        ("upscale in.png --modle", "unknown option --modle; did you mean --model?"),
        ("upscale a b --xyzzy", "unknown option --xyzzy; --help lists the options"),
        ("mos make A=a --hr hr --ot x.html", "unknown option --ot; did you mean --out?"),
        ("mos make A=a --hr hr --o x.html --sed 1", "unknown option --sed; did you mean --seed?"),
        ("mos make --ot x.html A=a --hr hr", "unknown option --ot; did you mean --out?"),
        ("doctor --verbos", "unknown option --verbos; --help lists the options"),
        ("--versoin", "unknown option --versoin; did you mean --version?"),
        ("doctor now", "arguments: expected no more, got now; --help lists them"),
        ("upscale", "the following arguments are required: INPUT, OUTPUT"),
        ("upscale -- --scael", "the following arguments are required: OUTPUT"),
    ],
)
def test_an_unknown_option_is_named_with_the_nearest_one(
    capsys: pytest.CaptureFixture[str], line: str, error: str
) -> None:
    usage, said = refusal(capsys, *line.split())
    assert said == error
    words = [word for word in line.split() if word in ("upscale", "mos", "make", "doctor")]
    assert usage.startswith(f"usage: {' '.join(['srgan-plugin', *words])} ")


def test_abbreviations_numbers_and_values_behind_short_options_are_known() -> None:
    parser = Parser()
    parser.add_argument("--suffix")
    parser.add_argument("-n", type=float)
    parser.add_argument("rest", nargs="*")
    args = parser.parse_args(["--suf", "x", "-n-5", "-1"])
    assert (args.suffix, args.n, args.rest) == ("x", -5, ["-1"])


def test_options_of_another_command_may_have_spaces_in_their_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passed = []
    monkeypatch.setattr(
        "srgan_plugin.__main__.run_mmagic", lambda tool, line: passed.append((tool, line))
    )
    line = ["c.py", "--work-dir=/data/my runs", "--resume"]
    srgan_plugin(["mmagic", "train", *line])
    assert passed == [("train", line)]


def test_an_unknown_option_with_spaces_in_its_value_is_no_input(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, said = refusal(capsys, "compare", "a.png", "--titel=My run")
    assert said == "unknown option --titel; did you mean --title?"
    _, said = refusal(capsys, "upscale", "a.png", "b.png", "--scale", "4", "--modle=a b")
    assert said == "unknown option --modle; did you mean --model?"
    parser = Parser()
    parser.add_argument("--title")
    parser.add_argument("rest", nargs="*")
    args = parser.parse_args(["--tit=My run", "a - b=c", "--", "--titel=My run"])
    assert (args.title, args.rest) == ("My run", ["a - b=c", "--titel=My run"])


def test_options_of_basicsr_with_one_dash_are_known_and_corrected(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        prepare("Train.", ["-opts", "x.yml"])
    assert "unknown option -opts; did you mean -opt?" in capsys.readouterr().err


def test_the_command_line_of_the_process_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tool", "--vebrose"])
    parser = Parser()
    parser.add_argument("--verbose", action="store_true")
    with pytest.raises(SystemExit):
        parser.parse_args()
    assert "did you mean --verbose?" in capsys.readouterr().err


def test_every_command_line_is_read_by_this_parser() -> None:
    sources = [*(ROOT / "tools").rglob("*.py"), *(ROOT / "srgan_plugin").rglob("*.py")]
    of_argparse = re.compile(r"(?<!\w)ArgumentParser\(\s*(description|prog|usage)")
    found = [path.name for path in sources if of_argparse.search(path.read_text("utf-8"))]
    assert found == []
    assert issubclass(Parser, argparse.ArgumentParser)


@pytest.mark.parametrize(
    ("given", "start"),
    [
        (["x.txt", "--blend-with", "srgan"], "--blend-with: "),
        (["./blend_with", "-b", "srgan"], "blend_with: "),  # the path
        (["x.txt"], "blend_with: "),  # of a config or of the default, and not of the command line
    ],
)
def test_an_error_in_an_argument_names_its_option_only_if_that_was_given(
    given: list[str],
    start: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    @command
    def main(argv: list[str]) -> None:
        parser = Parser()
        parser.add_argument("target", metavar="DST")
        parser.add_argument("--blend-with", "-b", default="msrresnet")
        parser.parse_args(argv)
        raise UserError("blend_with: expected another network")

    with pytest.raises(SystemExit):
        main(given)
    assert f"error: {start}expected another network" in capsys.readouterr().err
    assert Parser.given_as["target"] == "DST"


def test_an_error_about_a_path_that_is_called_as_an_argument_names_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("exp1", "runs"):
        (tmp_path / name).mkdir()
    for folders in (["runs"], ["runs/"], ["runs", "exp1"]):
        with pytest.raises(SystemExit):
            srgan_plugin(["report", *folders])
        written = capsys.readouterr().err
        assert written.startswith("error: runs: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "run", "--out", "file/x.html"],
        ["compare", "a=a", "--hr", "b", "--out", "file/x.html"],
        ["mos", "make", "--hr", "a", "--lr", "b", "c=c", "--out", "file/x.html"],
        ["mos", "score", "x.json", "--out", "file/x.html"],
    ],
)
def test_a_page_below_a_file_is_refused_before_anything_is_read(
    arguments, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(SystemExit):
        srgan_plugin(arguments)
    assert "--out: expected a folder for x.html, got a file" in capfd.readouterr().err
