"""Parse the configs that mmengine writes, without executing them."""

import ast
from pathlib import Path
from typing import Any

from srgan_plugin.errors import UserError


def literal_config(text: str, path: Path) -> dict[str, Any]:
    """Parse a config that mmengine wrote, without executing it.

    Args:
        text: Content of the config: assignments of literals and of `dict(…)`.
        path: File of the config, for errors.

    Returns:
        {name: value} of the assignments. Tuples and sets are lists, as in JSON, because a config
        in JSON or YAML has no others.

    Raises:
        UserError: The config contains other code.
    """
    try:
        return dict(_assignment(statement) for statement in ast.parse(text).body)
    except (SyntaxError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: expected a config that mmengine wrote, with literals and dict() only, got "
            f"{error}"
        ) from None


def _assignment(statement: ast.stmt) -> tuple[str, Any]:
    if isinstance(statement, ast.Assign):
        target = statement.targets[0]
        if isinstance(target, ast.Name) and len(statement.targets) == 1:
            return target.id, _literal(statement.value)
    raise _other_code(statement)


def _literal(node: ast.expr) -> Any:
    """Return the value of what `Config.pretty_text` of mmengine 0.10 writes."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        found: dict[Any, Any] = {}
        for item in node.args:  # dict({'34': 1.0}), where a key is not an identifier
            found |= _literal(item)
        for word in node.keywords:
            if word.arg is None:
                raise _other_code(node)
            found[word.arg] = _literal(word.value)
        return found
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise _other_code(node)
        pairs = zip(node.keys, node.values, strict=True)
        return {_literal(key): _literal(value) for key, value in pairs if key}
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_literal(item) for item in node.elts]
    if isinstance(node, ast.Name) and node.id in ("inf", "nan"):  # `str` of a float
        return float(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_literal(node.operand)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise _other_code(node) from None


def _other_code(node: ast.stmt | ast.expr) -> ValueError:
    return ValueError(f"{ast.unparse(node)!r} in line {node.lineno}")
