"""`--help` of every command: it fits into a terminal, in the words of the field."""

import importlib.util
import re
from pathlib import Path

import pytest

from srgan_plugin.__main__ import main as srgan_plugin

ROOT = Path(__file__).resolve().parent.parent
TOOLS = [*(ROOT / "tools").glob("*.py"), *(ROOT / "tools/analysis_tools").glob("*.py")]
COMMANDS = ["", "upscale", "compare", "report", "doctor", "mmagic", "mos make", "mos score"]
ANALYSES = ["plot_curve", "cal_train_time"]
NOT_OF_THE_FIELD = re.compile(
    r"\b(pictures?|enlarge\w*|mends?|ours|anew|goe?s? on|nobody|somebody|lacks?)\b", re.IGNORECASE
)


def check_help(said: str) -> None:
    assert said.startswith("usage: ")
    assert [line for line in said.splitlines() if len(line) > 80] == []
    assert NOT_OF_THE_FIELD.findall(said) == []


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.syspath_prepend(ROOT / "tools")  # where a script finds its neighbours


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_the_command_fits_and_has_the_words_of_the_field(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        srgan_plugin([*command.split(), "--help"])
    assert ended.value.code == 0
    check_help(capsys.readouterr().out)


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: path.stem)
def test_help_of_each_tool_fits_and_has_the_words_of_the_field(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location(f"help_of_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for words in ([], *([[name] for name in ANALYSES] if path.stem == "analyze_logs" else [])):
        arguments = [*words, "--help"]
        monkeypatch.setattr("sys.argv", [str(path), *arguments])
        with pytest.raises(SystemExit) as ended:
            module.main()
        assert ended.value.code == 0
        check_help(capsys.readouterr().out)
