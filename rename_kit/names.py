"""Rename identifiers by role, from the rows of names.tsv.

Roles (several letters in one row may be combined):
  W  every identifier `old` in code, and the word in strings, comments and documents
  I  every identifier `old` in the files of the scope (attributes, arguments, locals, all), and `old`
     in backticks
  G  a module-level name of the module that the scope names: its uses there and in importers
  A  attributes, methods and fields `old`
  K  keyword arguments `old` in calls
  P  parameters and locals `old` of functions
  S  string constants that are exactly `old`
  N  the names of tests: `old` is a regular expression
  T  plain text: `old` is a regular expression, replaced in all lines of the scope's files
Scope: globs of new paths, comma-separated (`!glob` takes away); for G the defining module.
"""

from __future__ import annotations

import ast
import fnmatch
import io
import re
import subprocess
import tokenize
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import refactor
from refactor import NOTES, git, module_of, note, rows

TEXT = (".md", ".toml", ".in", ".txt", ".sh", ".yml", ".yaml", ".json")
FUNC = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMP = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class Occurrence:
    start: int
    name: str
    role: str  # name, attr, kw, param, def, method, field, import, str
    scope: ast.AST | None = None  # for names: the function that binds it, else None (module or builtin)
    node: ast.AST | None = None
    extra: str = ""


class File:
    def __init__(self, root: Path, path: str) -> None:
        self.path, self.text = path, (root / path).read_text()
        self.module = module_of(path)
        self.python = path.endswith(".py")
        if self.python:
            self.parse()

    def parse(self) -> None:
        self.tree = ast.parse(self.text)
        self.starts = refactor.offsets(self.text)
        self.lines = self.text.splitlines(keepends=True)
        self.occurrences: list[Occurrence] = []
        self.imports: dict[tuple[int, str], tuple[str, str, ast.AST | None]] = {}
        self.bindings: list[tuple[str, str, str | None, ast.AST | None]] = []  # bound, module, name, function
        self.visit(self.tree, [], None)
        self.token_starts = {}
        for t in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if t.type == tokenize.NAME:
                self.token_starts[self.starts[t.start[0] - 1] + t.start[1]] = t.string

    def at(self, line: int, col: int) -> int:
        return self.starts[line - 1] + len(self.lines[line - 1].encode()[:col].decode())

    def add(self, start: int, name: str, role: str, **more) -> None:
        if self.text[start : start + len(name)] == name:
            self.occurrences.append(Occurrence(start, name, role, **more))
        else:
            note(f"{self.path}: {role} {name} is not at {start}: {self.text[start:start+20]!r}")

    def visit(self, node: ast.AST, functions: list[ast.AST], parent: ast.AST | None) -> None:
        if isinstance(node, ast.Name):
            scope = next((f for f in reversed(functions) if node.id in bound_in(f)), None)
            in_class = isinstance(parent, (ast.Assign, ast.AnnAssign)) and getattr(parent, "_in_class", False)
            role = "field" if in_class and isinstance(node.ctx, ast.Store) and not functions_since_class(parent) else "name"
            self.add(self.at(node.lineno, node.col_offset), node.id, role, scope=scope, node=node)
        elif isinstance(node, ast.Attribute):
            end = self.at(node.end_lineno, node.end_col_offset)
            base = node.value.id if isinstance(node.value, ast.Name) else ""
            self.add(end - len(node.attr), node.attr, "attr", node=node, extra=base)
        elif isinstance(node, ast.keyword) and node.arg:
            self.add(self.at(node.lineno, node.col_offset), node.arg, "kw", node=node)
        elif isinstance(node, ast.arg):
            self.add(self.at(node.lineno, node.col_offset), node.arg, "param", scope=functions[-1] if functions else None, node=node)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
            at = self.text.index(node.name, self.at(node.lineno, node.col_offset) + (6 if isinstance(node, ast.ClassDef) else 4))
            role = "method" if isinstance(parent, ast.ClassDef) else "def"
            scope = next((f for f in reversed(functions) if node.name in bound_in(f)), None) if role == "def" else None
            self.add(at, node.name, role, scope=scope, node=node)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            base = ""
            if isinstance(node, ast.ImportFrom):
                base = resolve(self.path, node)
            for alias in node.names:
                bound = alias.asname or alias.name.split(".")[0]
                where = functions[-1] if functions else None
                self.bindings.append((bound, base, alias.name if base else None, where))
                if base:
                    self.add(self.at(alias.lineno, alias.col_offset), alias.name, "import", scope=where, node=alias, extra=base)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            start = self.at(node.lineno, node.col_offset)
            self.occurrences.append(Occurrence(start, node.value, "str", node=node))
        inner = functions
        if isinstance(node, FUNC):
            # Decorators, defaults and annotations are evaluated outside.
            for part in [*getattr(node, "decorator_list", []), *node.args.defaults, *filter(None, node.args.kw_defaults)]:
                self.visit(part, functions, node)
            if getattr(node, "returns", None):
                self.visit(node.returns, functions, node)
            for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, *filter(None, (node.args.vararg, node.args.kwarg))]:
                self.visit(a, [*functions, node], node)
            body = node.body if isinstance(node.body, list) else [node.body]
            for part in body:
                self.visit(part, [*functions, node], node)
            return
        if isinstance(node, COMP):
            inner = [*functions, node]
        if isinstance(node, ast.ClassDef):
            for child in node.body:
                if isinstance(child, (ast.Assign, ast.AnnAssign)):
                    child._in_class = True
        for child in ast.iter_child_nodes(node):
            self.visit(child, inner, node)


def functions_since_class(node: ast.AST) -> bool:
    return False


_BOUND: dict[int, set[str]] = {}
_KEEP: list[ast.AST] = []


def bound_in(function: ast.AST) -> set[str]:
    key = id(function)
    if key not in _BOUND:
        _KEEP.append(function)
        found: set[str] = set()
        declared: set[str] = set()
        if isinstance(function, FUNC):
            a = function.args
            found |= {x.arg for x in [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]}
        todo = list(function.body) if isinstance(getattr(function, "body", None), list) else []
        if isinstance(function, COMP):
            for g in function.generators:
                found |= {n.id for n in ast.walk(g.target) if isinstance(n, ast.Name)}
            todo = []
        while todo:
            n = todo.pop()
            if isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
                found.add(n.name)
                continue
            if isinstance(n, (ast.Lambda, *COMP)):
                found |= {w.target.id for w in ast.walk(n) if isinstance(w, ast.NamedExpr)}
                continue
            if isinstance(n, (ast.Global, ast.Nonlocal)):
                declared |= set(n.names)
            if isinstance(n, ast.Name) and isinstance(n.ctx, (ast.Store, ast.Del)):
                found.add(n.id)
            if isinstance(n, (ast.Import, ast.ImportFrom)):
                found |= {(x.asname or x.name).split(".")[0] for x in n.names}
            if isinstance(n, ast.ExceptHandler) and n.name:
                found.add(n.name)
            todo += list(ast.iter_child_nodes(n))
        _BOUND[key] = found - declared
    return _BOUND[key]


def resolve(path: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = list(Path(path).with_suffix("").parts)
    if parts[0] == "tools":
        parts = parts[1:]
    parts = parts[: -node.level] if parts[-1] != "__init__" else parts[: -node.level]
    return ".".join([*parts, *([node.module] if node.module else [])])


class Project:
    def __init__(self, root: Path) -> None:
        self.root = root
        names = git(root, "ls-files").split("\n")[:-1]
        keep = [n for n in names if n.endswith((".py", *TEXT)) or n in ("Makefile", ".gitignore")]
        skip = ("docs/benchmarks/", "docs/zoo/", "LICENSE")
        self.files = {n: File(root, n) for n in keep if not n.startswith(skip)}
        self.modules = {f.module: f for f in self.files.values() if f.module}

    def home(self, module: str, name: str, seen: frozenset = frozenset()) -> str | None:
        """The module that defines what `module` calls `name`."""
        f = self.modules.get(module)
        if f is None or (module, name) in seen:
            return None
        for bound, base, what, where in f.bindings:
            if bound == name and what and where is None:
                if base.split(".")[0] in ("srgan_plugin", "benchmarks", "zoo"):
                    return self.home(base, what, seen | {(module, name)}) or base
                return None
        return module

    def scope(self, globs: str):
        wanted = [g for g in globs.split(",") if not g.startswith("!")] or ["*"]
        less = [g[1:] for g in globs.split(",") if g.startswith("!")]
        for path, f in self.files.items():
            if any(fnmatch.fnmatch(path, g) for g in wanted) and not any(fnmatch.fnmatch(path, g) for g in less):
                yield f

    def apply(self, roles: str, old: str, new: str, scope: str) -> int:
        edits: dict[str, list[tuple[int, str, str]]] = defaultdict(list)
        backtick: set[str] = set()
        word = re.compile(rf"(?<![\w]){re.escape(old)}(?![\w])") if "T" not in roles else re.compile(old, re.M)
        if "T" in roles:
            count = 0
            for f in self.scope(scope):
                text, n = word.subn(new, f.text)
                if n:
                    count += n
                    self.write(f, text)
            return count
        if "N" in roles:  # the names of tests
            count = 0
            names = {m for f in self.files.values() if f.path.startswith(("tests/", "benchmarks/")) for m in re.findall(r"def (test_\w+)", f.text)}
            for name in sorted(names):
                becomes = re.sub(old, new, name)
                if becomes != name:
                    if becomes in names:
                        note(f"COLLISION of tests: {name} → {becomes}")
                    for f in self.files.values():
                        text, n = re.subn(rf"\b{name}\b", becomes, f.text)
                        if n:
                            count += 1
                            self.write(f, text)
            return count
        if "W" in roles:
            count = 0
            for f in self.scope(scope):
                text, n = word.subn(new, f.text)
                if n:
                    if f.python and new in set(f.token_starts.values()) and old in set(f.token_starts.values()):
                        note(f"COLLISION {f.path}: {old} → {new}")
                    count += n
                    self.write(f, text)
            return count
        if "G" in roles:
            home = self.modules.get(scope)
            if home is None:
                note(f"names: no module {scope} (for {old})")
                return 0
            for f in self.files.values():
                if not f.python:
                    continue
                if f is home:
                    if not any(o.name == old and o.scope is None and o.role in ("def", "name") for o in f.occurrences):
                        note(f"names: {scope} has no {old}")
                        return 0
                    for o in f.occurrences:
                        if o.name == old and o.role in ("name", "def") and o.scope is None:
                            edits[f.path].append((o.start, old, new))
                    edits[f.path] += quoted_annotations(f, old, new)
                    backtick.add(f.path)
                    self.check(f, old, new, None)
                    continue
                where = [w for b, base, what, w in f.bindings if what == old and b == old and self.same(base, old, scope)]
                for o in f.occurrences:
                    if o.role == "import" and o.name == old and self.same(o.extra, old, scope):
                        edits[f.path].append((o.start, old, new))
                        backtick.add(f.path)
                    elif o.role in ("name",) and o.name == old and any(o.scope is w for w in where):
                        edits[f.path].append((o.start, old, new))
                    elif o.role == "attr" and o.name == old and o.extra:
                        for b, base, what, w in f.bindings:
                            if b == o.extra and what and self.same(f"{base}.{what}", old, scope):
                                edits[f.path].append((o.start, old, new))
                                break
                    elif o.role == "str" and o.name == old and self.text_is_all(f, o):
                        if any(self.same(f.module, old, scope) for _ in "x"):
                            edits[f.path].append((f.text.index(old, o.start), old, new))
                if where:
                    self.check(f, old, new, where[0])
                if where:
                    edits[f.path] += quoted_annotations(f, old, new)
                # monkeypatch.setattr(module, "old", …) and dotted strings
                for node in ast.walk(f.tree):
                    if isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[0], ast.Name) and isinstance(node.args[1], ast.Constant) and node.args[1].value == old:
                        for b, base, what, w in f.bindings:
                            if b == node.args[0].id and what and (self.same(f"{base}.{what}", old, scope) or self.imports(f"{base}.{what}", old, scope)):
                                at = f.at(node.args[1].lineno, node.args[1].col_offset)
                                edits[f.path].append((f.text.index(old, at), old, new))
                                break
                for m in re.finditer(rf"{re.escape(scope)}\.{re.escape(old)}(?!\w)", f.text):
                    edits[f.path].append((m.end() - len(old), old, new))
            for f in self.files.values():  # code in documents
                for line in re.finditer(r"from ([\w.]+) import (\w+(?:, \w+)*)", "" if f.python else f.text):
                    if self.same(line[1], old, scope):
                        for m in re.finditer(rf"\b{re.escape(old)}\b", line[2]):
                            edits[f.path].append((line.start(2) + m.start(), old, new))
        else:
            for f in self.scope(scope):
                if f.python:
                    for o in f.occurrences:
                        if o.name != old:
                            continue
                        hit = ("I" in roles and o.role != "str") or (
                            "A" in roles and o.role in ("attr", "method", "field")) or (
                            "K" in roles and o.role == "kw") or (
                            "P" in roles and (o.role == "param" or (o.role in ("name", "def") and o.scope is not None))) or (
                            "S" in roles and o.role == "str")
                        if hit and o.role == "str":
                            edits[f.path].append((f.text.index(old, o.start), old, new))
                        elif hit:
                            edits[f.path].append((o.start, old, new))
                            if o.role in ("name", "param"):
                                self.check(f, old, new, o.scope)
                        if hit and "A" in roles and o.role in ("attr", "method", "field"):
                            backtick.add(f.path)
                    if "A" in roles or "I" in roles:  # getattr(x, "old")
                        for node in ast.walk(f.tree):
                            if isinstance(node, ast.Call) and len(node.args) > 1 and isinstance(node.args[1], ast.Constant) and node.args[1].value == old and ast.unparse(node.func).split(".")[-1] in ("getattr", "setattr", "hasattr", "delattr"):
                                at = f.at(node.args[1].lineno, node.args[1].col_offset)
                                edits[f.path].append((f.text.index(old, at), old, new))
                    backtick.add(f.path)
                elif "I" in roles or "A" in roles:
                    backtick.add(f.path)
        count = 0
        for path in set(edits) | backtick:
            f = self.files[path]
            text = f.text
            done = sorted(set(edits[path]), reverse=True)
            count += len(done)
            for start, was, becomes in done:
                assert text[start : start + len(was)] == was, (path, start, was, text[start:start + 30])
                text = text[:start] + becomes + text[start + len(was):]
            quoted = re.compile(rf"`((?:[\w]+\.)*){re.escape(old)}(?=[`(=.\[])")
            text, n = quoted.subn(rf"`\g<1>{new}", text)
            # "Args:" entries of docstrings
            if any(e[0] for e in edits[path]) and set(roles) & set("PKAI"):
                text, m = re.subn(rf"^(\s+){re.escape(old)}(?=: )", rf"\g<1>{new}", text, flags=re.M)
            if text != f.text:
                self.write(f, text)
        return count

    def same(self, module: str | None, name: str, target: str) -> bool:
        return module is not None and (module == target or self.home(module, name) == target)

    def imports(self, module: str, name: str, target: str) -> bool:
        f = self.modules.get(module)
        return f is not None and any(b == name and self.same(base, name, target) for b, base, what, w in f.bindings if what)

    def text_is_all(self, f: File, o: Occurrence) -> bool:
        for node in f.tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                return any(n is o.node for n in ast.walk(node))
        return False

    def check(self, f: File, old: str, new: str, scope: ast.AST | None) -> None:
        taken = any(o.name == new and o.role in ("name", "param", "def", "import") and (o.scope is scope or o.scope is None or scope is None) for o in f.occurrences)
        if taken:
            note(f"COLLISION {f.path}: {old} → {new}")

    def write(self, f: File, text: str) -> None:
        f.text = text
        (self.root / f.path).write_text(text)
        if f.python:
            _BOUND.clear()
            f.parse()


def quoted_annotations(f: File, old: str, new: str) -> list[tuple[int, str, str]]:
    """Annotations in quotes that hold the name."""
    found = []
    for node in ast.walk(f.tree):
        notes = []
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            notes = [node.returns, *(a.annotation for a in ast.walk(node.args) if isinstance(a, ast.arg))]
        elif isinstance(node, ast.AnnAssign):
            notes = [node.annotation]
        for n in filter(None, notes):
            for c in ast.walk(n):
                if isinstance(c, ast.Constant) and isinstance(c.value, str):
                    at = f.at(c.lineno, c.col_offset)
                    for m in re.finditer(rf"(?<!\w){re.escape(old)}(?!\w)", c.value):
                        found.append((at + 1 + m.start(), old, new))
    return found


def run(root: Path, commit, ruff) -> None:
    project = Project(root)
    group, pending = None, 0
    for row in rows("names.tsv"):
        if row[0] == "#group" or row[0].startswith(">"):
            if group and pending:
                ruff(root)
                commit(root, group)
                project = Project(root)
            group, pending = row[0].lstrip("> ").replace("\\n", "\n"), 0
            continue
        roles, old, new, *scope = row
        n = project.apply(roles, old, new, scope[0] if scope else "*")
        pending += n
        if not n:
            note(f"names: nothing to rename: {roles} {old} → {new} {scope}")
    if group and pending:
        ruff(root)
        commit(root, group)
