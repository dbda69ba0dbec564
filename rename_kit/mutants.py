"""Old name → new name of every module and function, for `tests/mutate.py --renames`."""

import ast
import fnmatch
import json
from pathlib import Path

from refactor import Plan, rows

HERE = Path(__file__).resolve().parent


def write(plan: Plan) -> None:
    table = [row for row in rows("names.tsv") if not row[0].startswith(">") and len(row) > 2]
    found: dict[str, str] = {}
    paths = {}
    for (module, name), target in plan.where.items():
        paths[target] = None

    def renamed(module: str, parts: list[str]) -> str:
        path = module.replace(".", "/") + ".py"
        path = path if module.startswith("srgan_plugin") else f"tools/{path}"
        result = []
        for depth, part in enumerate(parts):
            for roles, old, new, *scope in table:
                if part != old or set(roles) & set("TNS") and not set(roles) & set("AIPK"):
                    continue
                globs = (scope or ["*"])[0]
                if "G" in roles:
                    hit = globs == module and depth == 0
                else:
                    hit = any(fnmatch.fnmatch(path, g) for g in globs.split(","))
                if hit:
                    part = new
            result.append(part)
        return ".".join(result)

    def walk(module: str, node: ast.AST, parts: list[str], target: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
                here = [*parts, child.name]
                goes = target if parts else plan.where.get((module, child.name), target)
                found[f"{module}:{'.'.join(here)}"] = f"{goes}:{renamed(goes, here)}"
                walk(module, child, here, goes)
            else:
                walk(module, child, parts, target)

    for module, file in plan.mod.items():
        target = plan.newmod[module]
        found[module] = target
        walk(module, plan.tree[file], [], target)
    pairs = {old: new for old, new in found.items() if old != new}
    (HERE / "NAMES.json").write_text(json.dumps(pairs, indent=1, sort_keys=True) + "\n")
