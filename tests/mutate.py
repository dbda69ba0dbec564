"""Mutation testing: small faults in the package, drawn by a seed, that some test ought to catch.

    python tests/mutate.py --seed 0 --count 60 --packages networks hosts --out BEFORE.json
    python tests/mutate.py --like BEFORE.json --renames NAMES.json --out AFTER.json

A mutant is named `module:function:kind:ordinal`; NAMES.json maps old names, or beginnings of them
that end before a dot or colon, to new ones. All happens in a temporary copy of the tree. One run of
the tests notes which of them calls which function (OUT.map.json; it does not see subprocesses),
then each mutant meets the tests that call its function, the quick ones first. An interrupted run is
completed by the same command. Needs Python 3.11 (`co_qualname`).
"""

import argparse
import ast
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAME = "srgan_plugin"
PACKAGES = ["networks", "losses", "io", "data", "metrics", "checkpoints", "hosts"]
SECONDS = 45.0  # of tests for one mutant, as measured without it
CPU_LIMIT, LIMIT = 180, 900  # seconds of computing (an endless loop) and in all (a deadlock)
SKIPPED = {"annotation", "returns", "exc", "msg"}  # types and messages of errors
COPIED_NOT = (".git", ".*_cache", ".venv*", "__pycache__", "work_dirs", "build", "*.egg-info")

OPERATORS: dict[type, type] = {ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult}
PAIRS = ("Lt LtE", "Gt GtE", "Eq NotEq", "Is IsNot", "In NotIn", "Add Sub", "Mult Div", "And Or")
for pair in PAIRS:
    one, other = (getattr(ast, name) for name in pair.split())
    OPERATORS |= {one: other, other: one}
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}

Edit = Callable[[], None]


def plus_one(node: ast.expr) -> ast.expr:
    return ast.BinOp(node, ast.Add(), ast.Constant(1))


def edits(node: Any) -> Iterator[tuple[str, Edit]]:
    """The ways to spoil one node, by their kinds; each changes the tree in place."""

    def put(field: str, value: Any) -> Edit:
        return lambda: setattr(node, field, value)

    match node:
        case ast.Compare(ops=[op]) if type(op) in OPERATORS:
            yield "compare", put("ops", [OPERATORS[type(op)]()])
        case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op) if type(op) in OPERATORS:
            kind = "boolean" if isinstance(node, ast.BoolOp) else "arithmetic"
            yield kind, put("op", OPERATORS[type(op)]())
        case ast.UnaryOp(op=ast.Not()):
            yield "not", put("operand", ast.UnaryOp(ast.Not(), node.operand))
        case ast.UnaryOp(op=ast.USub()):
            yield "sign", put("op", ast.UAdd())
        case ast.If() | ast.IfExp() | ast.While():
            yield "negate", put("test", ast.UnaryOp(ast.Not(), node.test))
        case ast.Constant(value=bool() as value):
            yield "constant", put("value", not value)
        case ast.Constant(value=int() as value):
            yield "constant", put("value", value + 1)
        case ast.Constant(value=float() as value):
            yield "constant", put("value", value * 2 or 1.0)
        case ast.Slice():
            for field in ("lower", "upper"):
                if (bound := getattr(node, field)) and not isinstance(bound, ast.Constant):
                    yield "off by one", put(field, plus_one(bound))
        case ast.Call(func=ast.Name(id="range"), args=[*first, last]):
            yield "range", put("args", [*first, plus_one(last)])
        case ast.Call(func=ast.Name(id=name)) if name in CALLS:
            yield "call", put("func", ast.Name(CALLS[name]))
        case ast.Call(args=[one, two]) if not isinstance(two, ast.Starred):
            yield "swap", put("args", [two, one])
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            yield "return", put("value", ast.Constant(None))


def sites(node: ast.AST, scope: str = "") -> Iterator[tuple[str, str, Edit]]:
    """All mutants below a node: `scope:kind`, the code that is spoilt, and how."""
    for kind, edit in edits(node):
        yield f"{scope}:{kind}", ast.unparse(node).splitlines()[0], edit
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if field in SKIPPED or isinstance(child, ast.JoinedStr):
                continue
            if isinstance(child, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                if child.name not in ("__repr__", "__str__"):
                    yield from sites(child, f"{scope}.{child.name}".lstrip("."))
            elif isinstance(child, ast.AST):
                yield from sites(child, scope)


def source_of(root: Path, module: str) -> Path:
    return root / (module.replace(".", "/") + ".py")


def mutants(path: Path, module: str) -> Iterator[tuple[str, str, Callable[[], str]]]:
    """The mutants of a module: name, the code that is spoilt, and its source when it is."""
    tree = ast.parse(path.read_text()) if path.exists() else ast.Module([], [])

    def source(edit: Edit) -> str:
        edit()
        return ast.unparse(ast.fix_missing_locations(tree))

    counts: Counter[str] = Counter()
    for name, code, edit in sites(tree):
        yield f"{module}:{name}:{counts[name]}", code, lambda edit=edit: source(edit)
        counts[name] += 1


def draw(root: Path, packages: list[str], count: int, seed: int) -> list[dict[str, str]]:
    """As many of each package, whose kinds are equally likely."""
    rng, drawn = random.Random(seed), []
    for number, package in enumerate(packages):
        kinds: dict[str, list[dict[str, str]]] = defaultdict(list)
        for path in sorted((root / NAME / package).rglob("*.py")):
            for mutant, code, _ in mutants(path, ".".join(path.relative_to(root).parts)[:-3]):
                kinds[mutant.split(":")[2]].append({"mutant": mutant, "code": code, "of": package})
        for pool in kinds.values():
            rng.shuffle(pool)
        share = (count + number) // len(packages)
        for _ in range(min(share, sum(map(len, kinds.values())))):
            drawn.append(
                kinds[rng.choice(sorted(kind for kind, pool in kinds.items() if pool))].pop()
            )
    return drawn


def renamed(mutant: str, renames: dict[str, str]) -> str:
    for old in sorted(renames, key=len, reverse=True):
        if re.match(re.escape(old) + r"($|[.:])", mutant):
            return renames[old] + mutant[len(old) :]
    return mutant


class Calls:
    """A plugin of pytest's that notes which functions of the package each test calls."""

    def __init__(self, out: str) -> None:
        self.out, self.tests, self.codes = Path(out), {}, set()

    def _profile(self, frame: Any, event: str, arg: Any) -> None:
        self.codes.add(frame.f_code)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Any:
        self.codes.clear()
        start = time.process_time()
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)
        try:
            return (yield)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            test = self._test(item.nodeid)
            test["seconds"] += time.process_time() - start
            test["calls"] = sorted({*test["calls"], *self._names()})

    def _test(self, node: str) -> dict[str, Any]:
        new = {"seconds": 0.0, "calls": [], "passed": True}
        return self.tests.setdefault(node.partition("[")[0], new)

    def _names(self) -> Iterator[str]:
        for code in list(self.codes):
            _, inside, path = code.co_filename.rpartition(f"/{NAME}/")
            if inside:
                module = f"{NAME}/{path}".removesuffix(".py").replace("/", ".")
                yield f"{module}:{code.co_qualname.replace('.<locals>', '')}"

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self._test(report.nodeid)["passed"] = False

    def pytest_sessionfinish(self) -> None:
        self.out.write_text(json.dumps(self.tests, indent=0))


def pytest_configure(config: Any) -> None:
    config.pluginmanager.register(Calls(os.environ["MUTATE_MAP"]))


def suited(tests: dict[str, Any], mutant: str, package: str) -> list[str]:
    """The tests that call a mutant's function; else, or outside any, what calls into its module."""
    module, scope = mutant.split(":")[:2]
    passed = [(name, test) for name, test in tests.items() if test["passed"]]
    calls = [(n, t["seconds"]) for n, t in passed if f"{module}:{scope}" in t["calls"]]
    into = [(n, t["seconds"]) for n, t in passed if f"{module}:" in " ".join(t["calls"])]
    chosen, left = [], SECONDS
    for name, seconds in sorted(
        calls or into, key=lambda x: (f"tests/{package}/" not in x[0], x[1])
    ):
        left -= seconds
        if left < 0 and chosen:
            break
        chosen.append(name)
    return chosen


def run(root: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Pytest on the copy."""
    variables = {"PYTHONPATH": f"{root}:{root}/tests", "PYTHONDONTWRITEBYTECODE": "1"}
    variables |= {"OMP_NUM_THREADS": "1", **options.pop("variables", {})}
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--hypothesis-seed=0", *arguments]
    options |= {"cwd": root, "env": os.environ | variables, "text": True, "capture_output": True}
    return subprocess.run(command, check=False, **options)


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT + 5))


def judge(root: Path, mutant: str, code: str, tests: list[str]) -> dict[str, Any]:
    """Write the mutant, run its tests, put the file back."""
    path = source_of(root, mutant.split(":")[0])
    kind = mutant.rpartition(":")[0]
    same = [
        site for site in mutants(path, mutant.split(":")[0]) if site[0].rpartition(":")[0] == kind
    ]
    # Where the function has changed, the same code counts more than the ordinal.
    same.sort(key=lambda site: (site[1] != code, site[0] != mutant))
    if not same:
        return {"result": "missing"}
    if not tests:
        return {"result": "survived", "by": "no test calls it"}
    original = path.read_text()
    path.write_text(same[0][2]())
    try:
        done = run(root, "-x", *tests, timeout=LIMIT, preexec_fn=limit)
    except subprocess.TimeoutExpired:
        return {"result": "timeout"}
    finally:
        path.write_text(original)
    if done.returncode < 0:
        return {"result": "timeout"}
    by = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.M)
    result = "caught" if done.returncode else "survived"
    return {"result": result, "by": by and by[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--packages", nargs="+", default=PACKAGES)
    parser.add_argument(
        "--tests", nargs="+", default=[f"tests/{p}" for p in (*PACKAGES, "inference")]
    )
    parser.add_argument("--like", type=Path, help="take the mutants of this earlier result")
    parser.add_argument("--renames", type=Path, help="JSON: old name to new name")
    parser.add_argument("--out", type=Path, default=Path("mutants.json"))
    args = parser.parse_args()
    renames = json.loads(args.renames.read_text()) if args.renames else {}
    results = json.loads(args.out.read_text()) if args.out.exists() else []
    map_file = args.out.with_suffix(".map.json").resolve()
    with tempfile.TemporaryDirectory() as made:
        root = Path(made, "tree")
        shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(*COPIED_NOT))
        if not map_file.exists():
            run(root, "-p", "mutate", *args.tests, variables={"MUTATE_MAP": str(map_file)})
        tests = json.loads(map_file.read_text())
        drawn = draw(root, args.packages, args.count, args.seed)
        for one in (json.loads(args.like.read_text()) if args.like else drawn)[len(results) :]:
            start = time.monotonic()
            mutant = renamed(one["mutant"], renames)
            found = judge(root, mutant, one["code"], suited(tests, mutant, one["of"]))
            found["seconds"] = round(time.monotonic() - start, 1)
            results.append({**one, "mutant": mutant, **found})
            args.out.write_text(json.dumps(results, indent=1))
            print(
                len(results), found["result"], mutant, found["seconds"], found.get("by"), flush=True
            )
    print(f"{len(results)} mutants:", dict(Counter(result["result"] for result in results)))


if __name__ == "__main__":
    main()
