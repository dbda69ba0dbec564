"""The release script, on a copy of the files that it reads."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.conftest import ROOT

FILES = ("srgan_plugin/__init__.py", "CITATION.cff", "CHANGELOG.md", "setup.py", "Makefile")


@pytest.fixture
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tool_release", ROOT / "tools/release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a clean checkout with a changelog entry and an address."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    setup = (tmp_path / "setup.py").read_text()
    address = 'REPOSITORY = "https://example.org/project"'
    (tmp_path / "setup.py").write_text(setup.replace('REPOSITORY = ""', address))
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n- New.\n")
    commit(tmp_path)
    return tmp_path


def commit(checkout: Path) -> None:
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    for words in (("init", "-q"), ("add", "-A"), (*who, "commit", "-qm", "x", "--allow-empty")):
        subprocess.run(["git", *words], cwd=checkout, check=True)


def test_a_release_writes_one_version_everywhere_and_dates_the_changelog(
    release: ModuleType, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release.main(["99.0.0rc1", "--root", str(checkout)])
    assert release.current_version(checkout) == "99.0.0rc1"
    citation = yaml.safe_load((checkout / "CITATION.cff").read_text())
    assert citation["version"] == "99.0.0rc1"
    changes = (checkout / "CHANGELOG.md").read_text()
    entry = rf"## \[Unreleased\]\n\n## \[99\.0\.0rc1\] - {citation['date-released']}\n\n- New\."
    assert re.search(entry, changes)
    printed = capsys.readouterr().out
    targets = re.findall(r"make ([\w-]+)", printed)
    makefile = (ROOT / "Makefile").read_text()
    assert targets
    assert all(f"\n{target}:" in makefile for target in targets)
    # Its own changes make the checkout dirty; committed, the next one is refused for want of notes.
    commit(checkout)
    with pytest.raises(SystemExit):
        release.main(["99.0.0", "--root", str(checkout)])
    assert "expected entries under" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "spoil", "said"),
    [
        ("1.0", None, "MAJOR.MINOR.PATCH"),
        ("01.0.0", None, "MAJOR.MINOR.PATCH"),
        ("0.0.1", None, "expected one above"),
        ("99.0.0", ("CHANGELOG.md", "- New.", ""), "expected entries under"),
        ("99.0.0", ("setup.py", "https://example.org/project", ""), "REPOSITORY"),
        ("99.0.0", ("CITATION.cff", "version: 0", "version: 7"), "in all files, got"),
        ("99.0.0", ("Makefile", "demo", "omed"), "clean checkout"),
    ],
)
def test_a_release_is_refused_before_anything_is_written(
    release: ModuleType,
    checkout: Path,
    version: str,
    spoil: tuple[str, str, str] | None,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if spoil:
        name, old, new = spoil
        (checkout / name).write_text((checkout / name).read_text().replace(old, new))
        if name != "Makefile":
            commit(checkout)
    before = {name: (checkout / name).read_bytes() for name in FILES}
    with pytest.raises(SystemExit):
        release.main([version, "--root", str(checkout)])
    assert said in capsys.readouterr().err
    assert before == {name: (checkout / name).read_bytes() for name in FILES}


def test_the_checklist_has_the_commands_that_the_release_script_prints(
    release: ModuleType,
) -> None:
    page = (ROOT / "docs/release.md").read_text()
    for line in release.REMAINING.format(version="0.2.0").splitlines()[2:]:
        assert line.strip() in page


def test_a_candidate_sorts_before_its_release(release: ModuleType) -> None:
    ordered = ["0.9.9", "0.10.0rc1", "0.10.0rc2", "0.10.0", "0.10.1", "1.0.0rc10", "1.0.0"]
    assert sorted([*ordered[3:], *ordered[:3]], key=release.parse_version) == ordered


def test_the_workflows_call_targets_that_make_has_on_every_python_that_is_supported() -> None:
    makefile = (ROOT / "Makefile").read_text()
    called, pythons = set(), set()
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            pythons |= {*job.get("strategy", {}).get("matrix", {}).get("python", ())}
            called |= {step["run"] for step in job["steps"] if "run" in step}
    assert {"make lint", "make test", "make test-oldest", "make docs"} <= called
    assert all(f"\n{line.removeprefix('make ')}:" in makefile for line in called)
    supported = re.findall(r"range\((\d+), (\d+)\)", (ROOT / "setup.py").read_text())[0]
    assert pythons == {f"3.{minor}" for minor in range(*map(int, supported))}


def test_issue_forms_have_what_github_requires() -> None:
    forms = [*(ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")]
    for form in (yaml.safe_load(p.read_text()) for p in forms if p.name != "config.yml"):
        assert {"name", "description", "body"} <= form.keys()
        ids = [field["id"] for field in form["body"]]
        assert len({*ids}) == len(ids) > 0
        assert all(field["attributes"]["label"] for field in form["body"])
