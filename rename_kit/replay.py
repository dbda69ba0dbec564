"""Turn a checkout of main into the second plan's layout: `python replay.py CHECKOUT [--no-commit]`."""

import argparse
import ast
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import refactor
from refactor import PKG, Plan, assemble, git, module_of, note, relativize, rewrite_strings, rows, top_level

BIN = Path(".venv/bin").resolve()  # ruff and mypy
HERE = Path(__file__).resolve().parent


def commit(root: Path, message: str) -> None:
    git(root, "add", "-A")
    if git(root, "status", "--porcelain"):
        git(root, "commit", "-q", "--no-verify", "-m", message)


def ruff(root: Path) -> None:
    for args in (["check", "--fix", "-q", "."], ["format", "-q", "."], ["check", "-q", "--output-format=concise", "."]):
        done = subprocess.run([BIN / "ruff", *args], cwd=root, capture_output=True, text=True)
        if "--output-format=concise" in args and "E501" in done.stdout:
            rewrap(root, done.stdout)
            done = subprocess.run([BIN / "ruff", *args], cwd=root, capture_output=True, text=True)
    print(done.stdout[-6000:], done.stderr[-2000:])


def rewrap(root: Path, found: str) -> None:
    """Break overlong lines of docstrings and comments, the rest going to the next line."""
    places: dict[str, list[int]] = {}
    for name, line in re.findall(r"^(.+?):(\d+):\d+: E501", found, flags=re.M):
        places.setdefault(name, []).append(int(line))
    for name, numbers in places.items():
        path = root / name
        lines = path.read_text().split("\n")
        for number in sorted(numbers, reverse=True):
            i = number - 1
            while len(lines[i]) > 100:
                line = lines[i]
                if piece := re.match(r'^(\s*)(f?)"((?:[^"\\]|\\.)*)"(.*)$', line):
                    cut = best_cut(piece, 97)
                    if cut is None or len(piece[4]) > 3:
                        break
                    content = piece[3]
                    f = piece[2] if "{" in content[cut:] else ""
                    lines[i] = f'{piece[1]}{piece[2]}"{content[:cut]}"'
                    lines.insert(i + 1, f'{piece[1]}{f}"{content[cut:]}"{piece[4]}')
                    i += 1
                    continue
                lead = re.match(r"\s*(?:# )?", line).group()
                if "#" not in lead and not inside_string(lines, i):
                    break
                head, _, tail = line[:101].rpartition(" ")
                tail += line[101:]
                if len(head) <= len(lead) or '"""' in lead or line.lstrip().startswith('"""'):
                    break
                lines[i] = head
                below = lines[i + 1] if i + 1 < len(lines) else ""
                if below.startswith(lead) and below.strip() not in ("", '"""') and not below[len(lead):].startswith((" ", "#", "-")):
                    lines[i + 1] = f"{lead}{tail} {below[len(lead):]}"
                else:
                    lines.insert(i + 1, lead + tail)
                i += 1
        path.write_text("\n".join(lines))


def wrap_documents(root: Path, plan: Plan) -> None:
    """Break lines of Markdown that the renames made longer than 100 characters."""
    for old, text in plan.text.items():
        path = root / plan.path[old]
        if not old.endswith(".md") or "weights/" in old or not path.is_file():
            continue
        known, lines, fenced, i = set(text.split("\n")), path.read_text().split("\n"), False, 0
        while i < len(lines):
            line = lines[i]
            fenced ^= line.startswith("```")
            if not fenced and len(line) > 100 and line not in known and not line.startswith(("|", "#")):
                indent = " " * (len(line) - len(line.lstrip(" ")) + 2 * line.lstrip().startswith("- "))
                head, _, tail = line[:101].rpartition(" ")
                tail += line[101:]
                lines[i] = head
                below = lines[i + 1] if i + 1 < len(lines) else ""
                if below.strip() and not below.lstrip().startswith(("- ", "|", "#", "```", "<")):
                    lines[i + 1] = f"{indent}{tail} {below.lstrip()}"
                else:
                    lines.insert(i + 1, indent + tail)
            i += 1
        path.write_text("\n".join(lines))


def best_cut(piece: re.Match[str], limit: int) -> int | None:
    """Behind which space of a string's content a line may end: none within braces."""
    content, depth, found = piece[3], 0, None
    room = limit - len(piece[1]) - len(piece[2])
    for at, char in enumerate(content):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == " " and depth == 0 and at + 1 <= room:
            found = at + 1
    return found


def inside_string(lines: list[str], i: int) -> bool:
    return "\n".join(lines[:i]).count('"""') % 2 == 1


def move(root: Path, plan: Plan) -> None:
    for new, olds in plan.parts.items():
        if plan.primary[new] != new:
            (root / new).parent.mkdir(parents=True, exist_ok=True)
            git(root, "mv", plan.primary[new], new)


def reexport(plan: Plan, package: str, docstring: str) -> str:
    """`__init__` of a package with the names that the old packages re-exported."""
    found: dict[str, list[str]] = {}
    for old, names in plan.exports.items():
        for name in names:
            target = plan.exporting(old, name)
            if target == package:
                home = plan.locate(old, name)
                found.setdefault(home.removeprefix(package + "."), []).append(name)
    lines = [f"from .{home} import {', '.join(sorted(names))}" for home, names in sorted(found.items())]
    every = sorted(n for names in found.values() for n in names)
    return f'"""{docstring}"""\n\n' + "\n".join(lines) + "\n\n__all__ = " + repr(every) + "\n"


def packages(plan: Plan, texts: dict[str, str], docs: dict[str, str]) -> None:
    """The `__init__` of each package."""
    folders = {str(Path(p).parent) for p in texts if p.startswith(PKG + "/")} - {PKG}
    for folder in sorted(folders):
        path, package = f"{folder}/__init__.py", folder.replace("/", ".")
        docstring = docs.get(path) or (ast.get_docstring(ast.parse(texts[path])) if path in texts else "TODO")
        if package in refactor.EXPORTING:
            texts[path] = reexport(plan, package, docstring)
        elif folder.startswith(f"{PKG}/hosts/mmengine/"):
            mods = sorted(Path(p).stem for p in texts if str(Path(p).parent) == folder and not p.endswith("__init__.py"))
            texts[path] = f'"""{docstring}"""\n\nfrom . import {", ".join(mods)}\n\n__all__ = {mods!r}\n'
        elif folder == f"{PKG}/hosts/mmengine":
            texts[path] = (f'"""{docstring}"""\n\nfrom . import compat\n\ncompat.load_checkpoints_safely()\n\n'
                           "from . import datasets, engine, evaluation, models  # noqa: E402\n\n"
                           '__all__ = ["compat", "datasets", "engine", "evaluation", "models"]\n')
        elif path not in texts:
            texts[path] = f'"""{docstring}"""\n'
    wanted = plan.mod[f"{PKG}.hosts.mm"]
    # Whatever else the old package did on import is for a person to carry over.
    others = [n for n in plan.tree[wanted].body if not isinstance(n, (ast.ImportFrom, ast.Import, ast.Assign))]
    if len(others) != 2:
        note(f"{wanted} does more than load_checkpoints_safely(): carry it over")


def set_docstrings(texts: dict[str, str], docs: dict[str, str]) -> None:
    for path, docstring in docs.items():
        if path not in texts:
            note(f"docs.tsv: {path} does not exist")
            continue
        text = texts[path]
        tree = ast.parse(text)
        first = tree.body[0]
        assert isinstance(first, ast.Expr), path
        lines = text.splitlines(keepends=True)
        old = ast.get_docstring(tree) or ""
        rest = old.partition("\n")[2]  # what stands below the first line stays
        keep = rest.strip() and path not in {"srgan_plugin/networks/vgg.py"}
        new = f'"""{docstring}\n{rest}\n"""\n' if keep else f'"""{docstring}"""\n'
        texts[path] = new + "".join(lines[first.end_lineno:])


def patch(root: Path, table: str) -> None:
    """Exact replacements: blocks of `=== FILE`, `--- old`, `+++ new`."""
    text = (HERE / table).read_text()
    for block in re.split(r"^=== ", text, flags=re.M)[1:]:
        name, _, body = block.partition("\n")
        old, _, new = body.partition("\n+++\n")
        old, new = old.removeprefix("---\n"), new.rstrip("\n")
        for path in [root / name.strip()] if "*" not in name else root.glob(name.strip()):
            if not path.is_file():
                note(f"{table}: {name} does not exist")
                continue
            content = path.read_text()
            if old not in content:
                note(f"{table}: {name}: not found: {old[:70]!r}")
                continue
            path.write_text(content.replace(old, new))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("--stop-after", choices=("moves", "imports", "names"))
    args = parser.parse_args()
    root = args.root.resolve()
    assert not git(root, "status", "--porcelain"), "commit first"
    plan = Plan(root)
    docs = {path: text for path, text in rows("docs.tsv")}
    import mutants

    mutants.write(plan)
    texts = assemble(plan)
    packages(plan, texts, docs)
    set_docstrings(texts, docs)

    move(root, plan)
    commit(root, "Move modules to the folders that the field knows\n\n"
                 "Files only; their imports follow in the next commit.")
    if args.stop_after == "moves":
        return
    for new, olds in plan.parts.items():
        for old in set(olds) - {plan.primary[new]}:
            git(root, "rm", "-q", "-f", old)
    for path, text in texts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(relativize(path, text))
    for old, text in plan.text.items():
        if not old.endswith(".py") and not old.endswith(".json"):
            (root / plan.path[old]).write_text(rewrite_strings(plan, text))
    patch(root, "imports.patch")
    for file in sorted((HERE / "files").rglob("*")):
        if file.is_file():
            target = root / file.relative_to(HERE / "files")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(file.read_text())
    ruff(root)
    commit(root, "Import everything from its new place\n\n"
                 "Small modules that belong together are one now. tools/benchmarks and tools/zoo are\n"
                 "for maintainers: neither installed nor in .mim.")
    if args.stop_after == "imports":
        return
    import names

    names.run(root, commit, ruff)
    import migration

    patch(root, "docs.patch")
    wrap_documents(root, plan)
    changelog = root / "CHANGELOG.md"
    content = changelog.read_text()
    start = content.index("## [Unreleased]")
    end = content.find("\n## ", start + 5)
    end = len(content) if end < 0 else end
    section = content[start:end]
    if "### Changed" in section:
        note("CHANGELOG.md has a section Changed already: join the two")
    section = section.rstrip("\n") + "\n\n" + migration.text() + "\n"
    changelog.write_text(content[:start] + section + content[end:])
    commit(root, "Say in the changelog what every module, class, key and flag is called now")
    print(f"\n{len(refactor.NOTES)} notes; the result is in {root}")


if __name__ == "__main__":
    main()
