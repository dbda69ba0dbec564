"""Moves, merges and extractions: where each module and each of its symbols goes, and all imports."""

from __future__ import annotations

import ast
import builtins
import re
import subprocess
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parent
PKG = "srgan_plugin"
NOTES: list[str] = []


def note(text: str) -> None:
    NOTES.append(text)
    print("NOTE", text)


def rows(name: str):
    for line in (HERE / name).read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            yield [part for part in line.split("\t")]


def git(root: Path, *args: str) -> str:
    return subprocess.run(["git", *args], cwd=root, check=True, capture_output=True, text=True).stdout


def module_of(path: str) -> str | None:
    """Dotted name of a file; None for what is never imported by name."""
    if not path.endswith(".py"):
        return None
    parts = path[:-3].split("/")
    if parts[0] == "tools":
        if len(parts) < 3 or parts[1] not in ("benchmarks", "zoo"):
            return None
        parts = parts[1:]
    elif parts[0] != PKG:
        return None
    if parts[-1] == "__init__":
        parts = parts[:-1]
    return ".".join(parts)


class Plan:
    """Old and new places of files, modules and symbols of one checkout."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = git(root, "ls-files").split("\n")[:-1]
        table = list(rows("moves.tsv"))
        exact = [(a, b) for a, b in table if not a.endswith("/")]
        folders = [(a, b) for a, b in table if a.endswith("/")]
        listed = dict(exact)
        self.path: dict[str, str] = {}
        order = {a: i for i, (a, _) in enumerate(exact)}
        for file in self.files:
            if file in listed:
                self.path[file] = listed[file]
                continue
            for a, b in exact:  # a folder that is listed as one
                if file.startswith(a + "/"):
                    self.path[file] = b + file[len(a):]
                    break
            else:
                for a, b in folders:
                    if file.startswith(a):
                        name = file[len(a):]
                        if a.startswith("tests/"):
                            short = {"tests/core/": "core", "tests/zoo/": "zoo", "tests/hosts/mm/": "mm",
                                     "tests/release/": "release", "tests/benchmarks/": "benchmarks"}
                            name = name.replace(f"test_{short.get(a, '?')}_", "test_")
                        self.path[file] = b + name
                        if a != b:
                            note(f"UNMAPPED {file}: by its folder to {self.path[file]}")
                        break
                else:
                    self.path[file] = file
                    if file.startswith(PKG + "/") and file.endswith(".py"):
                        note(f"UNMAPPED {file}: stays")
        for a, _ in exact:
            if a not in self.files and not any(f.startswith(a + "/") for f in self.files):
                note(f"GONE {a} is in moves.tsv but not in the tree")
        self.parts: dict[str, list[str]] = defaultdict(list)  # new path → old paths in order
        for old in sorted(self.path, key=lambda f: (order.get(f, 10**6), f)):
            self.parts[self.path[old]].append(old)
        size = {f: len((root / f).read_bytes()) for f in self.files}
        self.primary = {new: new if new in olds else max(olds, key=size.get) for new, olds in self.parts.items()}
        self.text = {f: (root / f).read_text() for f in self.files if self.is_text(f)}
        self.tree = {f: ast.parse(t) for f, t in self.text.items() if f.endswith(".py")}
        self.mod = {module_of(f): f for f in self.files if module_of(f)}
        self.newmod = {m: module_of(self.path[f]) for m, f in self.mod.items()}
        self.packages = {module_of(f) for f in self.files if f.endswith("__init__.py") and module_of(f)}
        self.symbols = {m: top_level(self.tree[f]) for m, f in self.mod.items()}
        self.where: dict[tuple[str, str], str] = {}
        for module, names in self.symbols.items():
            for name in names:
                self.where[module, name] = self.newmod[module]
        self.extracted: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for module, names, target in rows("extracts.tsv"):
            if module not in self.mod:
                note(f"GONE module {module} of extracts.tsv")
                continue
            wanted = [n for n in names.split(",") if n in self.symbols[module]]
            for n in set(names.split(",")) - set(wanted):
                note(f"GONE {module}.{n} of extracts.tsv")
            wanted += self.only_used_by(module, set(wanted))
            for n in wanted:
                self.where[module, n] = target
            self.extracted[module][target] += wanted
        self.exports: dict[str, dict[str, str]] = {}  # package → exported name → defining old module
        for package in self.packages:
            found = {}
            tree = self.tree[self.mod[package]]
            for node in tree.body:
                if isinstance(node, ast.ImportFrom):
                    base = self.absolute(node, package, True)
                    if base and base.startswith(PKG):
                        for alias in node.names:
                            if f"{base}.{alias.name}" not in self.mod or base != package:
                                found[alias.asname or alias.name] = base
            self.exports[package] = found

    def is_text(self, f: str) -> bool:
        return f.endswith((".py", ".md", ".toml", ".in", ".txt", ".sh", ".yml", ".yaml", ".cfg", ".json")) or f in (
            "Makefile", ".gitignore", ".ci/run", "MANIFEST.in")

    def only_used_by(self, module: str, wanted: set[str]) -> list[str]:
        """Names of the module that nothing but the extracted ones uses."""
        tree = self.tree[self.mod[module]]
        found: list[str] = []
        imported = self.imported_elsewhere(module)
        while True:
            inside, outside = set(), set(imported)
            for node in tree.body:
                names = defined_by(node)
                used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - names
                if names & (wanted | set(found)):
                    inside |= used
                else:
                    outside |= used
            more = [n for n in self.symbols[module]
                    if n in inside and n not in outside and n not in wanted and n not in found and n != "logger"]
            if not more:
                return found
            found += more

    def imported_elsewhere(self, module: str) -> set[str]:
        found = set()
        last = module.rpartition(".")[2]
        for f, tree in self.tree.items():
            me = module_of(f)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and self.absolute(node, me, f.endswith("__init__.py")) == module:
                    found |= {a.name for a in node.names}
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == last:
                    found.add(node.attr)
        return found

    def absolute(self, node: ast.ImportFrom, module: str | None, package: bool) -> str | None:
        if not node.level:
            return node.module
        if module is None:
            return None
        parts = module.split(".")
        parts = parts[: len(parts) - node.level + (1 if package else 0)]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def locate(self, module: str, name: str) -> str:
        """New module of a symbol of an old module."""
        if (module, name) in self.where:
            return self.where[module, name]
        if module in self.packages and name in self.exports[module]:
            return self.locate(self.exports[module][name], name)
        if module in self.extracted:  # something imported there: it goes with what uses it
            goes = set()
            for node in self.tree[self.mod[module]].body:
                if not isinstance(node, (ast.Import, ast.ImportFrom)) and any(
                    isinstance(n, ast.Name) and n.id == name for n in ast.walk(node)
                ):
                    goes |= {self.where[module, d] for d in defined_by(node) if (module, d) in self.where} or {self.newmod[module]}
            if len(goes) == 1:
                return goes.pop()
        return self.newmod[module]

    def exporting(self, module: str, name: str) -> str:
        """New package that re-exports a symbol which an old package re-exported."""
        if module in self.packages and name in self.exports[module]:
            target = self.locate(self.exports[module][name], name)
            package = target.rpartition(".")[0]
            return package if package in EXPORTING else target
        return self.locate(module, name)

    def dotted(self, text: str) -> str:
        """A dotted name in a string or a document."""
        parts = text.split(".")
        for n in range(len(parts), 0, -1):
            module = ".".join(parts[:n])
            if module in self.newmod:
                if n == len(parts):
                    return SPLIT.get(module, self.newmod[module])
                if n == 1:
                    return text
                return ".".join([self.exporting(module, parts[n]), *parts[n:]])
        return text


# Where a module's name is taken in a file that imports it.
ALIASES = {
    ("srgan_plugin/__main__.py", "srgan_plugin.cli.upscale"): "upscale_command",
}
EXPORTING = {f"{PKG}.networks", f"{PKG}.losses", f"{PKG}.metrics", f"{PKG}.checkpoints", f"{PKG}.inference"}
SPLIT = {f"{PKG}.core": f"{PKG}.networks"}


def defined_by(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return set()


def top_level(tree: ast.Module) -> list[str]:
    found: list[str] = []
    for node in tree.body:
        inner = node.body if isinstance(node, (ast.If, ast.Try, ast.With)) else [node]
        for child in inner:
            found += [n for n in sorted(defined_by(child)) if n not in found]
    return found


# --- text edits ---------------------------------------------------------------------------------

def offsets(text: str) -> list[int]:
    starts, total = [0], 0
    for line in text.splitlines(keepends=True):
        total += len(line)
        starts.append(total)
    return starts


class Edits:
    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = offsets(text)
        self.lines = text.splitlines(keepends=True)
        self.edits: list[tuple[int, int, str]] = []

    def at(self, line: int, col: int) -> int:
        """Character offset of a line (from 1) and a column in UTF-8 bytes."""
        chars = len(self.lines[line - 1].encode()[:col].decode())
        return self.starts[line - 1] + chars

    def replace(self, node: ast.AST, new: str) -> None:
        self.edits.append((self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset), new))

    def span(self, start: int, end: int, new: str) -> None:
        self.edits.append((start, end, new))

    def done(self) -> str:
        text = self.text
        for start, end, new in sorted(set(self.edits), reverse=True):
            text = text[:start] + new + text[end:]
        return text


DOTTED = re.compile(rf"(?<![\w./-]){PKG}(?:\.[A-Za-z_]\w*)+")
PATHS = re.compile(rf"(?<![\w.-]){PKG}(?:/[\w.]+)+")
TEST_PATHS = re.compile(r"(?<![\w./-])tests(?:/[\w]+)+(?:\.py)?")


IN_TEXT = re.compile(rf"^(.*?)from ({PKG}(?:\.\w+)*) import (\w+(?:, \w+)*)", flags=re.M)


def rewrite_strings(plan: Plan, text: str) -> str:
    def imports(m: re.Match[str]) -> str:
        lead, base, names = m.groups()
        group: dict[str, list[str]] = defaultdict(list)
        for name in names.split(", "):
            if base in plan.newmod and base != PKG:
                group[plan.exporting(base, name)].append(name)
            else:
                group[base].append(name)
        return "\n".join(f"{lead}from {t} import {', '.join(n)}" for t, n in group.items())

    text = IN_TEXT.sub(imports, text)
    text = DOTTED.sub(lambda m: plan.dotted(m.group()), text)

    def path(m: re.Match[str]) -> str:
        old = m.group()
        bare = old.rstrip(".")
        if bare in plan.path:
            return plan.path[bare] + old[len(bare):]
        for a, b in rows("moves.tsv"):
            if not a.endswith("/") and old.startswith(a + "/"):
                return b + old[len(a):]
        best = None
        for a, b in rows("moves.tsv"):
            if a.endswith("/") and (old + "/").startswith(a) and (best is None or len(a) > len(best[0])):
                best = (a, b)
        if best:
            return (best[1] + (old + "/")[len(best[0]):]).rstrip("/")
        return old

    text = PATHS.sub(path, text)
    return TEST_PATHS.sub(path, text)


def rewrite(plan: Plan, file: str) -> str:
    """Text of a Python file with all imports and dotted strings of the new layout, absolute."""
    text, tree = plan.text[file], plan.tree[file]
    me = module_of(file)
    is_package = file.endswith("__init__.py")
    here = module_of(plan.path[file])
    edits = Edits(text)
    spans: list[tuple[int, int]] = []
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | {a.arg for a in ast.walk(tree) if isinstance(a, ast.arg)}
    names |= {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    parents = {c: p for p in ast.walk(tree) for c in ast.iter_child_nodes(p)}

    def uses_of(binding: str):
        return [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == binding]

    renamed: dict[str, str] = {}

    def module_import(old: str, binding: str, explicit: bool) -> list[str]:
        """Statements which import what an old module, bound to a name, has become."""
        targets: dict[str, list[ast.Name]] = defaultdict(list)
        direct: dict[str, None] = {}
        for use in uses_of(binding):
            up = parents.get(use)
            attr = None
            if isinstance(up, ast.Attribute) and up.value is use:
                attr = up.attr
            elif isinstance(up, ast.Call) and use in up.args and len(up.args) > 1 and isinstance(up.args[1], ast.Constant):
                attr = up.args[1].value
            if attr is None:
                target = SPLIT.get(old, plan.newmod[old])
            elif f"{old}.{attr}" in plan.newmod and attr not in plan.exports.get(old, {}):
                inner = plan.newmod[f"{old}.{attr}"]
                edits.replace(up, inner.rpartition(".")[2])
                direct[inner] = None
                continue
            else:
                target = plan.exporting(old, attr)
            if isinstance(use.ctx, ast.Store):
                note(f"{file}: {binding} is assigned, though it is a module")
                continue
            targets[target].append(use)
        if not targets and not direct:
            targets[SPLIT.get(old, plan.newmod[old])] = []
        lines = [f"from {inner.rpartition('.')[0]} import {inner.rpartition('.')[2]}" for inner in direct]
        for target, uses in sorted(targets.items()):
            parent, _, last = target.rpartition(".")
            new = binding if (explicit and len(targets) == 1) else last
            if (file, target) in ALIASES:
                new = ALIASES[file, target]
            elif new != binding and new in names:
                attrs = {parents[u].attr for u in uses if isinstance(parents.get(u), ast.Attribute)}
                if len(attrs) and all(isinstance(parents.get(u), ast.Attribute) for u in uses) and not attrs & names:
                    for use in uses:
                        edits.replace(parents[use], parents[use].attr)
                    lines.append(f"from {target} import {', '.join(sorted(attrs))}")
                    continue
                new = f"{last}_module" if f"{last}_module" not in names else f"{last}_"
                note(f"{file}: {last} is taken, imports {target} as {new}")
            lines.append(f"from {parent} import {last}" + (f" as {new}" if new != last else ""))
            for use in uses:
                if new != binding:
                    edits.replace(use, new)
        return lines

    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = plan.absolute(node, me, is_package)
            if not base or base.split(".")[0] != PKG:
                continue
            lines: list[str] = []
            group: dict[str, list[str]] = defaultdict(list)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                if full in plan.newmod and alias.name not in plan.exports.get(base, {}):
                    lines += module_import(full, alias.asname or alias.name, bool(alias.asname))
                elif base == PKG:
                    group[PKG].append(alias.name + (f" as {alias.asname}" if alias.asname else ""))
                else:
                    if base not in plan.newmod:
                        note(f"{file}: imports from {base}, which is unknown")
                        group[base].append(alias.name)
                        continue
                    target = plan.exporting(base, alias.name)
                    if (base, alias.name) not in plan.where and base not in plan.packages:
                        target = plan.newmod[base]  # a re-export of something imported there
                    if target == here:
                        if alias.asname:
                            note(f"{file}: {alias.name} as {alias.asname} was merged into the same module")
                        continue
                    group[target].append(alias.name + (f" as {alias.asname}" if alias.asname else ""))
            lines += [f"from {target} import {', '.join(found)}" for target, found in group.items()]
            by_parent: dict[str, list[str]] = defaultdict(list)
            for line in lines:
                parent, _, what = line.partition(" import ")
                by_parent[parent].append(what)
            lines = [f"{parent} import {', '.join(what)}" for parent, what in by_parent.items()]
            end = edits.at(node.end_lineno, node.end_col_offset)
            line_end = text.find("\n", end)
            comment = text[end:line_end].strip() if "#" in text[end:line_end] else ""
            start = edits.at(node.lineno, node.col_offset)
            indent = " " * node.col_offset
            new = f"\n{indent}".join(line + (f"  {comment}" if comment else "") for line in lines)
            if not lines:
                new = "pass" if isinstance(parents.get(node), (ast.FunctionDef, ast.If)) else ""
            edits.span(start, line_end if comment else end, new)
            spans.append((start, line_end if comment else end))
        elif isinstance(node, ast.Import):
            if any(a.name.split(".")[0] == PKG for a in node.names):
                start, end = edits.at(node.lineno, node.col_offset), edits.at(node.end_lineno, node.end_col_offset)
                parts = [plan.dotted(a.name) + (f" as {a.asname}" if a.asname else "") for a in node.names]
                edits.span(start, end, "import " + ", ".join(parts))
                spans.append((start, end))
    # Strings, comments and dotted uses, outside of what was edited.
    taken = sorted(edits.edits)
    out, at = [], 0
    for start, end, new in taken:
        out.append(rewrite_strings(plan, text[at:start]) + new)
        at = end
    out.append(rewrite_strings(plan, text[at:]))
    result = "".join(out)
    if is_package and "__all__" in result:
        head, _, tail = result.partition("__all__")
        for module, new in plan.newmod.items():
            if module.rpartition(".")[0] == me:
                tail = tail.replace(f'"{module.rpartition(".")[2]}"', f'"{new.rpartition(".")[2]}"')
        result = head + "__all__" + tail
    return result


# --- putting modules together --------------------------------------------------------------------

def chunks(text: str) -> tuple[str, list[tuple[ast.stmt, str]]]:
    """Docstring and the top-level statements with the comments above them."""
    tree = ast.parse(text)
    lines = text.splitlines(keepends=True)
    found = []
    at = 0
    docstring = ""
    for i, node in enumerate(tree.body):
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        end = node.end_lineno
        segment = "".join(lines[at:end])
        # A trailing comment line directly below belongs to the next statement.
        at = end
        if i == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            docstring = segment.strip()
            continue
        found.append((node, segment.strip("\n")))
    return docstring, found


def is_import(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom))


def assemble(plan: Plan) -> dict[str, str]:
    """Texts of all Python files at their new paths."""
    texts = {f: rewrite(plan, f) for f in plan.tree}
    pieces: dict[str, list[tuple[str, str]]] = defaultdict(list)  # new path → (imports, body)
    docs: dict[str, str] = {}
    incoming: dict[str, list[tuple[str, str]]] = defaultdict(list)
    new_path = {module_of(p): p for p in plan.parts if module_of(p)}
    changed: set[str] = set()
    for file, text in texts.items():
        module = module_of(file)
        moving = plan.extracted.get(module, {}) if module else {}
        merged = len(plan.parts[plan.path[file]]) > 1
        if not moving and not merged:
            continue
        changed.add(plan.path[file])
        docstring, found = chunks(text)
        if plan.primary[plan.path[file]] == file:
            docs[plan.path[file]] = docstring
        targets = {name: target for target, names in moving.items() for name in names}
        imports = "\n".join(segment for node, segment in found if is_import(node))
        stay = []
        logger = next((s for n, s in found if "logger" in defined_by(n)), None)
        leave: dict[str, list[str]] = defaultdict(list)
        for node, segment in found:
            if is_import(node):
                continue
            goes = {targets[n] for n in defined_by(node) if n in targets}
            if goes:
                leave[goes.pop()].append(segment)
            else:
                stay.append(segment)
        pieces[plan.path[file]].append((plan.parts[plan.path[file]].index(file), imports, stay))
        for target, segments in leave.items():
            if logger and any(re.search(r"\blogger\.", s) for s in segments):
                segments.insert(0, logger)
            path = new_path.get(target) or target_path(target)
            new_path[target] = path
            incoming[path].append((imports, segments))
            changed.add(path)
    texts = {f: deeper(t, plan.path[f].count("/") - f.count("/")) if f.startswith("tests/") else t for f, t in texts.items()}
    result = {plan.path[f]: t for f, t in texts.items() if plan.path[f] not in changed}
    for path in sorted(changed):
        primary = [f for f in plan.tree if plan.path[f] == path]
        if path not in pieces and primary:  # only receives
            docstring, found = chunks(texts[primary[0]])
            docs[path] = docstring
            pieces[path].append((0, "\n".join(s for n, s in found if is_import(n)), [s for n, s in found if not is_import(n)]))
        imports, body, seen = [], [], set()
        for _, its, segments in sorted(pieces[path], key=lambda piece: piece[0]):
            imports.append(its)
            for s in segments:
                if s not in seen:
                    body.append(s)
                seen.add(s)
        for its, segments in incoming[path]:
            imports.append(its)
            for s in segments:
                if s not in seen:
                    if s.startswith("logger = "):
                        body.insert(0, s)
                    else:
                        body.append(s)
                seen.add(s)
        result[path] = link(plan, path, docs.get(path, '"""TODO."""'), "\n".join(imports), body)
    return result


def deeper(text: str, by: int) -> str:
    """Paths relative to a file that moved `by` folders down."""
    if not by:
        return text
    text = re.sub(r"(__file__\)(?:\.resolve\(\))?)((?:\.parent)+)\b(?!s)", lambda m: m[1] + m[2] + ".parent" * by, text)
    return re.sub(r"(\.parents\[)(\d+)(\])", lambda m: f"{m[1]}{int(m[2]) + by}{m[3]}", text)


def target_path(module: str) -> str:
    base = module.replace(".", "/") + ".py"
    return base if module.startswith(PKG) else f"tools/{base}"


def link(plan: Plan, path: str, docstring: str, imports: str, body: list[str]) -> str:
    """A module from its parts, with imports of what its parts had as siblings before."""
    me = module_of(path)
    text = body[0] if body else ""
    for before, after in zip(body, body[1:]):
        both = [re.match(r"[A-Za-z_]\w*(: [^=\n]+)? = ", x) for x in (before, after)]
        close = "\n" in before or "\n" in after
        text += ("\n\n\n" if not all(both) else "\n\n" if close else "\n") + after
    tree = ast.parse(imports + "\n" + text)
    local = set(top_level(ast.parse(text)))
    kept = []
    for node in ast.parse(imports).body:
        if isinstance(node, ast.ImportFrom):
            if node.module == me:
                continue
            names = [a for a in node.names if not ((a.asname or a.name) in local and node.module.startswith(PKG))]
            if names:
                kept.append(ast.unparse(ast.ImportFrom(node.module, names, node.level)) + comment_of(imports, node))
        else:
            kept.append(ast.unparse(node) + comment_of(imports, node))
    bound = {(a.asname or a.name).split(".")[0] for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom)) for a in n.names}
    used = {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)}
    used |= set(re.findall(r'"([A-Za-z_]\w*)"', text)) & {n for (_, n), w in plan.where.items() if False}
    missing = used - local - bound - set(dir(builtins))
    for name in sorted(missing):
        homes = {w for (m, n), w in plan.where.items() if n == name and (plan.newmod[m] == me or me in plan.extracted.get(m, {}) )}
        homes -= {me}
        if len(homes) == 1:
            kept.append(f"from {homes.pop()} import {name}")
        elif homes:
            note(f"{path}: {name} could come from {sorted(homes)}")
    return f"{docstring}\n\n" + "\n".join(dict.fromkeys(kept)) + "\n\n\n" + text + "\n"


def comment_of(text: str, node: ast.stmt) -> str:
    line = text.splitlines()[node.end_lineno - 1]
    return "  #" + line.split("#", 1)[1] if "#" in line else ""


def relativize(path: str, text: str) -> str:
    """Imports from the same folder are written relative, all others absolute."""
    module = module_of(path)
    if module is None or (not module.startswith(PKG + ".") and "." not in module):
        return text
    package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
    if package == PKG:
        return text
    p = re.escape(package)
    text = re.sub(rf"^(\s*)from {p} import ", r"\1from . import ", text, flags=re.M)
    return re.sub(rf"^(\s*)from {p}\.([a-z_0-9]+) import ", r"\1from .\2 import ", text, flags=re.M)
