"""Configs on the command line: read, changed by `--cfg-options`, refused in one line."""

import argparse
import ast
import inspect
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from srgan_plugin.errors import MissingFileError, UserError

from .errors import one_line

# What MMEditing 0.x and mmcv 1.x read from a config, and mmengine does not.
_OLD = ("data", "optimizers", "lr_config", "total_iters", "checkpoint_config", "evaluation")
# What visualisation backends import at their first use; beside them the package that brings it.
_VIS_BACKENDS = {
    "WandbVisBackend": {"wandb": "wandb"},
    "TensorboardVisBackend": {"tensorboard": "tensorboard"},
    "MLflowVisBackend": {"mlflow": "mlflow"},
    "ClearMLVisBackend": {"clearml": "clearml"},
    "NeptuneVisBackend": {"neptune": "neptune"},
    "DVCLiveVisBackend": {"dvclive": "dvclive", "pygit2": "pygit2"},
    "AimVisBackend": {"aim": "aim"},
}

# What sections of a config are, where they are given.
_SECTIONS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("env_cfg", "env_cfg.dist_cfg", "env_cfg.mp_cfg"), (dict,)),
    **dict.fromkeys(("train_cfg", "val_cfg", "test_cfg", "optim_wrapper"), (dict,)),
    **dict.fromkeys(("default_hooks", "visualizer", "log_processor"), (dict,)),
    **dict.fromkeys(("train_dataloader", "train_dataloader.dataset"), (dict,)),
    **dict.fromkeys(("val_dataloader", "val_evaluator", "param_scheduler"), (dict, list)),
    **dict.fromkeys(("test_dataloader", "test_evaluator"), (dict, list)),
    **dict.fromkeys(("custom_hooks", "train_dataloader.dataset.pipeline"), (list,)),
    **dict.fromkeys(("train_dataloader.sampler", "train_dataloader.batch_sampler"), (dict,)),
    "visualizer.vis_backends": (dict, list),
}


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add `--cfg-options`, for what reads a config and runs nothing."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help='change settings of the config: a.b=1 a.list="[1,2]" a.0.c=x',
    )


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add what every tool that runs a config takes, with MMagic's names."""
    add_cfg_options(parser)
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm"], default="none", help="job launcher"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show the whole log, with the config, on the console"
    )
    # torchrun sets LOCAL_RANK; torch.distributed.launch passed one of these flags instead.
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)


def load_config(args: argparse.Namespace) -> Any:
    """Return the mmengine config that the command line asks for.

    The work dir is `--work-dir`, else the config's, else `work_dirs/NAME_OF_CONFIG`. A config of
    another toolbox's makes that toolbox work first.

    Raises:
        MissingFileError: There is no such config.
        UserError: An option is not of the form KEY=VALUE or does not fit the config, or the
            config is broken, of MMEditing 0.x, without a model, or names a visualisation backend
            whose package is missing.
    """
    if args.launcher == "slurm" and "SLURM_PROCID" not in os.environ:
        raise UserError(
            "--launcher slurm: SLURM_PROCID is not set; start by tools/slurm_train.sh or srun"
        )
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    if not args.verbose:
        from .mmengine_console import quiet

        quiet()
    cfg = read_config(args.config, args.cfg_options)
    from srgan_plugin.registry import SCOPE_MODULES

    if not isinstance(model := cfg.get("model"), dict) or "type" not in model:
        raise UserError(f"{args.config} has no model; expected model = dict(type='SRModel', ...)")
    _check_sections(cfg)
    _check_vis_backends(cfg)
    if (scope := cfg.get("default_scope")) in SCOPE_MODULES:
        import_module(SCOPE_MODULES[scope])
    cfg.launcher = args.launcher
    cfg.work_dir = (
        args.work_dir or cfg.get("work_dir") or str(Path("work_dirs") / Path(args.config).stem)
    )
    return cfg


def read_config(path: str | Path, cfg_options: Sequence[str] = ()) -> Any:
    """Return an mmengine config with what `--cfg-options` changes in it.

    Raises:
        MissingFileError: There is no such config.
        UserError: An option is not of the form KEY=VALUE or does not fit the config, or the
            config is broken or of MMEditing 0.x.
    """
    path = Path(path)
    if not path.is_file():
        near = ", ".join(sorted(other.name for other in path.parent.glob("*.py"))) or "none"
        raise MissingFileError(f"there is no config at {path}; configs in that folder: {near}")
    if wrong := [option for option in cfg_options if "=" not in option]:
        raise UserError(f"--cfg-options: expected KEY=VALUE, got {wrong[0]!r}")
    from mmengine.config import Config

    import srgan_plugin.registry  # noqa: F401 - `_base_ = 'srgan_plugin::…'` and scopes need it

    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is the user's own code, which can fail in any way
        raise UserError(_broken_config(path, error)) from error
    _check_generation(cfg, path)
    _merge(cfg, cfg_options)
    return cfg


def _check_sections(cfg: Any) -> None:
    for name, kinds in _SECTIONS.items():
        value = cfg
        for key in name.split("."):
            value = value.get(key) if hasattr(value, "get") else None
        if value is not None and not isinstance(value, kinds):
            expected = " or a ".join(kind.__name__ for kind in kinds)
            raise UserError(f"{name}: expected a {expected}, got {value!r}")


def _check_generation(cfg: Any, path: Path) -> None:
    """Refuse a config of MMEditing 0.x, whose parts mmengine calls otherwise."""
    old = [name for name in _OLD if name in cfg]
    if len(old) < 2 or "train_dataloader" in cfg:
        return
    model = cfg.get("model") if isinstance(cfg.get("model"), dict) else {}
    gan = "discriminator" in model or model.get("type") in ("SRGAN", "ESRGAN")
    scale = (model.get("generator") or {}).get("upscale_factor", 4)
    ours = "srgan_x4c64b16_g1_1000k_div2k" if gan else f"msrresnet_x{scale}c64b16_g1_1000k_div2k"
    raise UserError(
        f"{path} is a config of MMEditing 0.x (it has {', '.join(old)}), which neither MMagic nor "
        f"this package runs; start from configs/{ours}.py and change its settings (see "
        "docs/from-mmagic.md); checkpoints of MMEditing 0.x load as they are"
    )


def _check_vis_backends(cfg: Any) -> None:
    """Refuse a backend whose package is missing, which mmengine finds out late."""
    visualizer = cfg.get("visualizer")
    backends = visualizer.get("vis_backends") if isinstance(visualizer, dict) else None
    backends = [backends] if isinstance(backends, dict) else backends or []
    given = (one.get("type") for one in backends if isinstance(one, dict))
    for kind in (str(name).rpartition(".")[2] for name in given):
        needed = _VIS_BACKENDS.get(kind, {})
        missing = [package for module, package in needed.items() if find_spec(module) is None]
        if missing:
            raise UserError(
                f"visualizer.vis_backends: {kind} needs {' and '.join(missing)}; "
                f"run: pip install {' '.join(missing)}, or leave that backend out"
            )


def _broken_config(path: Path, error: Exception) -> str:
    """One line on why a config could not be read, with the line's number."""
    if isinstance(error, SyntaxError):  # mmengine's message has the file and the line
        return one_line(error)
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.name == "<module>" and frame.filename.endswith(".py")
    ]
    where = f"{own[-1].filename}, line {own[-1].lineno}" if own else str(path)
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return f"{where}: {kind}{one_line(error)}"


def _merge(cfg: Any, cfg_options: Sequence[str]) -> None:
    from mmengine.config import DictAction

    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={})
    pairs = [option.partition("=") for option in cfg_options]
    mappings = {key: _mapping(cfg, key, text) for key, _, text in pairs if text[:1] == "{"}
    others = [f"{key}={text}" for key, _, text in pairs if key not in mappings]
    try:
        arguments = ["--cfg-options", *others] if others else []
        options = {**parser.parse_args(arguments).cfg_options, **mappings}
        for key in options:
            _check_fits(cfg, key)
        cfg.merge_from_dict(options)
    # Unclosed brackets; a=1 beside a.b=1, also in a list.
    except (AssertionError, AttributeError, KeyError, TypeError) as error:
        raise UserError(f"--cfg-options: {one_line(error)}") from error


def _mapping(cfg: Any, key: str, text: str) -> dict[str, Any]:
    """Return the value of KEY="{...}", which mmengine takes for text, and which replaces a dict."""
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise UserError(f"--cfg-options {key}: expected a dict of Python, got {text}")
    there = cfg
    for part in key.split("."):
        there = there.get(part) if hasattr(there, "get") else None
    return {**value, "_delete_": True} if isinstance(there, Mapping) else value


def _check_fits(cfg: Any, key: str) -> None:
    """Refuse a setting that nobody reads, lies beyond the end of a list, or inside a number."""
    first, *_ = parts = key.split(".")
    if first not in (known := _read_by_runners()):
        if first in cfg:
            raise UserError(
                f"--cfg-options {key}: {first} has gone into other settings when the config was "
                "read; change those (see tools/analysis_tools/print_config.py), or it in the file"
            )
        near = [] if len(parts) > 1 else [name for name in _paths(cfg) if name.endswith(f".{key}")]
        near = near or get_close_matches(first, [*cfg, *known], n=1, cutoff=0.6)
        hint = f"; nearest: {', '.join(near[:3])}" if near else ""
        raise UserError(f"--cfg-options {key}: nothing reads {first}, nor has the config it{hint}")
    node = cfg
    for depth, part in enumerate(parts):
        place = ".".join(parts[:depth]) or "the config"
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise UserError(
                    f"--cfg-options {key}: {place} is a list of {len(node)}; "
                    f"expected an index below that, got {part!r}"
                )
            node = node[int(part)]
        elif hasattr(node, "keys"):
            if part not in node:
                return
            node = node[part]
        else:
            raise UserError(f"--cfg-options {key}: {place} is {node!r}, which has no {part!r}")


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all settings in nested dicts, those of few dots first."""
    inner = []
    for name, value in node.items():
        yield f"{prefix}{name}"
        if isinstance(value, Mapping):
            inner.append((value, f"{prefix}{name}."))
    for value, below in inner:
        yield from _paths(value, below)


def _read_by_runners() -> set[str]:
    """Return the keys that a runner reads from a config."""
    from mmengine.runner import Runner

    return {
        *inspect.signature(Runner.__init__).parameters,
        *("model_wrapper_cfg", "find_unused_parameters", "sync_bn", "compile", "reference_model"),
    } - {"self", "cfg"}


def require_settings(cfg: Any, *names: str, hint: str) -> None:
    """Refuse a config without a setting.

    Args:
        cfg: mmengine's config.
        names: The settings, such as `model.generator`.
        hint: What to do where one is missing.

    Raises:
        UserError: A setting is missing or empty; the message names all of these.
    """

    def get(node: Any, key: str) -> Any:
        return node.get(key) if hasattr(node, "get") else None

    if missing := ", ".join(name for name in names if not reduce(get, name.split("."), cfg)):
        raise UserError(f"{cfg.filename}: expected {', '.join(names)}, has no {missing}; {hint}")


def check_resumable(path: str | Path) -> int:
    """Refuse a checkpoint that a run cannot go on from. Remote ones are left to mmengine.

    Returns:
        How many iterations it has; -1 for a remote one.

    Raises:
        MissingFileError: There is no such file.
        UserError: It is no checkpoint, or has no iteration or no optimizer's state.
    """
    if "://" in str(path):
        return -1
    from srgan_plugin.checkpoints import load_checkpoint_file

    checkpoint = load_checkpoint_file(path)
    meta = checkpoint.get("meta")
    if not isinstance(meta, dict) or "iter" not in meta or "optimizer" not in checkpoint:
        raise UserError(
            f"--resume: {path} holds weights only; to start from them, leave --resume out and use "
            f"--cfg-options load_from={path}"
        )
    return int(meta["iter"])
