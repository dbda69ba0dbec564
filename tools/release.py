"""Prepare a release: `python tools/release.py 1.2.0`. Without a version, only check.

The version is written to `srgan_plugin/__init__.py` and `CITATION.cff`, and the changelog gets the
date. The remaining steps are printed (see docs/release.md). Nothing is committed, tagged or
uploaded.
"""

import datetime
import re
import subprocess
from pathlib import Path

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.parser import Parser
from srgan_plugin.errors import UserError
from srgan_plugin.io.atomic import write_text
from srgan_plugin.io.text_files import read_text

ROOT = Path(__file__).resolve().parent.parent
INIT = "srgan_plugin/__init__.py"
CITATION = "CITATION.cff"
CHANGES = "CHANGELOG.md"
#: Patterns of the line with the version by file; the group is the version.
VERSIONS = {INIT: r'^__version__ = "(.+)"$', CITATION: r"^version: (.+)$"}
UNRELEASED = "## [Unreleased]"
_SEMANTIC = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:rc([1-9]\d*))?")
_FINAL = 10**6  # sorts a final version after its release candidates
REMAINING = """\
Remaining steps (docs/release.md):
  make lint && make test && make test-oldest && make docs && make demo
  git commit --all --message "Release {version}"
  git tag --annotate v{version} --message {version}
  .venv/bin/pip install build twine
  .venv/bin/python -m build --outdir dist/{version}
  .venv/bin/python -m twine check dist/{version}/*
  install the wheel in an empty environment: srgan-plugin doctor; srgan-plugin upscale
  git push --follow-tags
  .venv/bin/python -m twine upload dist/{version}/*
"""


def parse_version(text: str) -> tuple[int, ...]:
    """Return a semantic version as numbers that sort correctly, `1.2.0rc1` before `1.2.0`.

    Raises:
        UserError: The version is not MAJOR.MINOR.PATCH or MAJOR.MINOR.PATCHrcN.
    """
    if not (found := _SEMANTIC.fullmatch(text)):
        raise UserError(
            f"version: expected MAJOR.MINOR.PATCH or MAJOR.MINOR.PATCHrcN, got {text!r}"
        )
    *numbers, candidate = found.groups()
    return (*map(int, numbers), int(candidate or _FINAL))


def current_version(root: Path) -> str:
    """Return the version in the files of `VERSIONS`.

    Raises:
        UserError: A file has no version, or the files have different ones.
    """
    stated = {}
    for name, pattern in VERSIONS.items():
        found = re.search(pattern, read_text(root / name, "a file with the version"), re.M)
        if not found:
            raise UserError(f"{root / name}: expected a line {pattern}, got none")
        stated[name] = found[1]
    if len({*stated.values()}) > 1:
        listed = ", ".join(f"{version} in {name}" for name, version in stated.items())
        raise UserError(f"version: expected the same in all files, got {listed}")
    return stated[INIT]


def obstacles(root: Path) -> list[str]:
    """Return one line for each condition of a release that is not met."""
    found = []
    _, heading, rest = read_text(root / CHANGES, "the changelog").partition(f"{UNRELEASED}\n")
    notes = re.split(r"^## ", rest, maxsplit=1, flags=re.M)[0]
    if not heading or not re.search(r"^- ", notes, re.M):
        found.append(f"{CHANGES}: expected entries under {UNRELEASED}, got none")
    if 'REPOSITORY = ""' in read_text(root / "setup.py", "the package's metadata"):
        found.append("setup.py: expected the project's address as REPOSITORY, got none")
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=False
    )
    if changed.returncode or changed.stdout:
        found.append("git: expected a clean checkout, got changes; commit or stash them")
    return found


def write_version(root: Path, version: str, today: datetime.date) -> None:
    """Write the version to the files of `VERSIONS`, and the date to the changelog.

    Args:
        root: Folder of the checkout.
        version: MAJOR.MINOR.PATCH or MAJOR.MINOR.PATCHrcN.
        today: Date of the release.
    """
    for name, pattern in VERSIONS.items():
        text = read_text(root / name, "a file with the version")
        line = re.search(pattern, text, re.M)
        assert line is not None, "checked by current_version"
        start, end = line.span(1)
        text = text[:start] + version + text[end:]
        if name == CITATION:
            text = re.sub(r"^date-released: .*\n", "", text, flags=re.M)
            text = text.replace("\nlicense:", f"\ndate-released: {today}\nlicense:", 1)
        write_text(text, root / name)
    changes = read_text(root / CHANGES, "the changelog")
    dated = f"{UNRELEASED}\n\n## [{version}] - {today}"
    write_text(changes.replace(UNRELEASED, dated, 1), root / CHANGES)


@command
def main(argv: list[str] | None = None) -> None:
    """Check the checkout, and write a given version."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("version", nargs="?", help="MAJOR.MINOR.PATCH or MAJOR.MINOR.PATCHrcN")
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout (default: this one)")
    args = parser.parse_args(argv)
    before = current_version(args.root)
    if args.version and parse_version(args.version) <= parse_version(before):
        raise UserError(f"version: expected one above {before}, got {args.version}")
    if found := obstacles(args.root):
        raise UserError("not ready:\n  " + "\n  ".join(found))
    if not args.version:
        print(f"{before}, ready for the next version")
        return
    write_version(args.root, args.version, datetime.datetime.now(datetime.timezone.utc).date())
    print(f"{before} -> {args.version}\n{REMAINING.format(version=args.version)}", end="")


if __name__ == "__main__":
    main()
