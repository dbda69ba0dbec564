"""Find variables of a config that have no effect, because only its base config reads them."""

import ast
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from srgan_plugin import config_path
from srgan_plugin.errors import PluginWarning

from .cfg_options import runner_keys


def warn_of_unused_variables(path: Path) -> None:
    """Warn of variables that a config assigns and that only its base configs read.

    mmengine reads a base config before the file that inherits from it: `train_pipeline = […]` in
    that file does not change `train_dataloader`, unless the file sets it as well.
    """
    tree = _parse(path)
    bases = map(_parse, _find_bases(path, tree))
    used_in_bases = {name for base in bases for name in _find_assigned(base) & _find_read(base)}
    unused = (_find_assigned(tree) & used_in_bases) - _find_read(tree) - runner_keys()
    for name in sorted(unused):
        warnings.warn(
            f"{path}: {name} has no effect, because the base config has already used its own; "
            f"set the settings in which the base config uses {name}, too",
            PluginWarning,
            stacklevel=2,
        )


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _find_assigned(tree: ast.Module) -> set[str]:
    """Return the names that are assigned at the top level."""
    targets = [node.targets for node in tree.body if isinstance(node, ast.Assign)]
    return {node.id for each in targets for node in each if isinstance(node, ast.Name)}


def _find_read(tree: ast.Module) -> set[str]:
    """Return the names that are read anywhere."""
    names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return {node.id for node in names if isinstance(node.ctx, ast.Load)}


def _find_bases(path: Path, tree: ast.Module) -> Iterator[Path]:
    """Yield all Python files that a config inherits from, as far as they can be found."""
    for node in (node for node in tree.body if isinstance(node, ast.Assign)):
        if "_base_" not in _find_assigned(ast.Module([node], [])):
            continue
        try:
            given = ast.literal_eval(node.value)
        except ValueError:  # an expression
            continue
        for name in [given] if isinstance(given, str) else given:
            base = _locate(name, path.parent)
            if base is not None and base.suffix == ".py" and base.is_file():
                yield base
                yield from _find_bases(base, _parse(base))


def _locate(name: str, folder: Path) -> Path | None:
    """Return the file of an entry of `_base_`, such as `./a.py` or `srgan_plugin::a.py`."""
    package, separator, inner = name.partition("::")
    if not separator:
        return folder / name
    if package == "srgan_plugin":
        return Path(config_path(inner))
    spec = find_spec(package)
    found = spec.submodule_search_locations if spec else None
    return Path(found[0]) / ".mim/configs" / inner if found else None
