"""Read and check mmengine configs, with one line on an error in a config."""

import argparse
import os
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from srgan_plugin.errors import MissingFileError, UserError, check_option

from .cfg_options import apply_cfg_options, get_setting
from .config_variables import warn_of_unused_variables
from .errors import one_line

# Keys of configs of MMEditing 0.x and mmcv 1.x that mmengine does not read.
_MMEDITING_KEYS = (
    "data",
    "optimizers",
    "lr_config",
    "total_iters",
    "checkpoint_config",
    "evaluation",
)
# Modules that visualisation backends import at first use, and their packages.
_VIS_BACKENDS = {
    "WandbVisBackend": {"wandb": "wandb"},
    "TensorboardVisBackend": {"tensorboard": "tensorboard"},
    "MLflowVisBackend": {"mlflow": "mlflow"},
    "ClearMLVisBackend": {"clearml": "clearml"},
    "NeptuneVisBackend": {"neptune": "neptune"},
    "DVCLiveVisBackend": {"dvclive": "dvclive", "pygit2": "pygit2"},
    "AimVisBackend": {"aim": "aim"},
}

_DATASETS = ("BenchmarkDataset", "PairedImageDataset")  # scale 4 is their default
_FAILED_IMPORT = "Failed to import custom modules from "  # start of mmengine's message
# Types of the sections of a config, all of which are optional.
_SECTIONS: dict[str, tuple[type, ...]] = {
    "env_cfg": (dict,),
    "env_cfg.dist_cfg": (dict,),
    "env_cfg.mp_cfg": (dict,),
    "train_cfg": (dict,),
    "val_cfg": (dict,),
    "test_cfg": (dict,),
    "optim_wrapper": (dict,),
    "param_scheduler": (dict, list, tuple),
    "default_hooks": (dict,),
    "custom_hooks": (list, tuple),
    "log_processor": (dict,),
    "visualizer": (dict,),
    "visualizer.vis_backends": (dict, list, tuple),
    "randomness": (dict,),
    "train_dataloader": (dict,),
    "train_dataloader.dataset": (dict,),
    "train_dataloader.dataset.pipeline": (list, tuple),
    "train_dataloader.sampler": (dict,),
    "train_dataloader.batch_sampler": (dict,),
    "val_dataloader": (dict, list),
    "val_evaluator": (dict, list),
    "test_dataloader": (dict, list),
    "test_evaluator": (dict, list),
}


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Add `--cfg-options`, for tools that read a config."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help='change settings of the config: a.b=1 a.list="[1,2]" a.0.c=x',
    )


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of tools that run a config, with the names they have in MMagic."""
    add_cfg_options(parser)
    parser.add_argument(
        "--launcher", choices=["none", "pytorch", "slurm"], default="none", help="job launcher"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show the full log, with the config, on the console"
    )
    # torchrun sets LOCAL_RANK; torch.distributed.launch passed one of these flags instead.
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0)


def load_config(args: argparse.Namespace) -> Any:
    """Return the config of a run, with the settings of the command line.

    The work dir is `--work-dir`, otherwise `work_dir` of the config, otherwise
    `work_dirs/NAME_OF_CONFIG`. If the config has the scope of another toolbox, this toolbox is
    patched and imported.

    Args:
        args: Arguments of `add_config_options`, `config` (str) and `work_dir` (str or None).

    Raises:
        MissingFileError: The config does not exist.
        UserError: Slurm did not start this process; an option is not of the form KEY=VALUE, or it
            or a section does not fit; the scales of generator and dataset differ; or the config is
            broken, of MMEditing 0.x, without a model, or needs a visualisation backend whose
            package is not installed.
    """
    if args.launcher == "slurm" and "SLURM_PROCID" not in os.environ:
        raise UserError(
            "--launcher slurm: expected SLURM_PROCID in the environment, got none; start by "
            "tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR or srun"
        )
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    if not args.verbose:
        from .mmengine_console import quiet

        quiet()
    cfg = read_config(args.config, args.cfg_options)
    if args.config.endswith(".py"):
        warn_of_unused_variables(Path(args.config))
    from srgan_plugin.registry import SCOPE_MODULES

    if not isinstance(model := cfg.get("model"), dict) or "type" not in model:
        raise UserError(
            f"{args.config}: expected model = dict(type='SRModel', ...), got {model!r:.80}"
        )
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
    """Return an mmengine config with some settings changed.

    Args:
        path: File of the config.
        cfg_options: Changes of the form KEY=VALUE, as for `--cfg-options`.

    Raises:
        MissingFileError: The config does not exist.
        UserError: A change is not of the form KEY=VALUE or does not fit the config, or the config
            is broken or of MMEditing 0.x.
    """
    path = Path(path)
    if not path.is_file():
        near = ", ".join(sorted(other.name for other in path.parent.glob("*.py"))) or "none"
        raise MissingFileError(
            f"{path}: expected a config, got none; configs in that folder: {near}"
        )
    if path.suffix in (".yml", ".yaml") and "network_g:" in path.read_text(errors="replace"):
        raise UserError(
            f"{path}: expected a config of mmengine, got options of BasicSR; run: python "
            f"tools/basicsr_train.py -opt {path}"
        )
    if wrong := [option for option in cfg_options if "=" not in option]:
        raise UserError(f"--cfg-options: expected KEY=VALUE, got {wrong[0]!r}")
    from mmengine.config import Config

    import srgan_plugin.registry  # noqa: F401 - `_base_ = 'srgan_plugin::…'` and scopes need it

    try:
        cfg = Config.fromfile(path)
    except Exception as error:  # a config is code of the user, which can fail in any way
        raise UserError(_explain_broken_config(path, error)) from error
    _check_not_mmediting(cfg, path)
    apply_cfg_options(cfg, cfg_options)
    return cfg


def _check_sections(cfg: Any) -> None:
    """Raise `UserError` for a section whose type is not in `_SECTIONS`."""
    for name, kinds in _SECTIONS.items():
        value = cfg
        for key in name.split("."):
            value = value.get(key) if hasattr(value, "get") else None
        if value is not None and not isinstance(value, kinds):
            expected = " or a ".join(kind.__name__ for kind in kinds)
            raise UserError(f"{name}: expected a {expected}, got {value!r}")
    for name, hook in (cfg.get("default_hooks") or {}).items():
        if isinstance(hook, dict) and "type" not in hook:
            near = get_close_matches(name, [other for other in cfg.default_hooks if other != name])
            hint = f"; nearest: {near[0]}" if near else ""
            raise UserError(f"default_hooks.{name}: expected a hook with type, got {hook!r}{hint}")
    for name in cfg.get("randomness") or {}:
        check_option("randomness", name, ("seed", "diff_rank_seed", "deterministic"))
    _check_scales(cfg)


def _check_scales(cfg: Any) -> None:
    """Raise `UserError` if the generator and a dataset of this package have different scales."""
    factor = reduce(get_setting, ("model", "generator", "upscale_factor"), cfg)
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        given = cfg.get(name)
        loaders = given if isinstance(given, list) else [given]
        for index, loader in enumerate(loaders):
            dataset = get_setting(loader, "dataset")
            is_known = _type_name(get_setting(dataset, "type")) in _DATASETS
            scale = dataset.get("scale", 4) if is_known else None
            if None not in (factor, scale) and factor != scale:
                place = f"{name}.{index}" if isinstance(given, list) else name
                raise UserError(
                    f"model.generator.upscale_factor: expected {scale}, the scale of "
                    f"{place}.dataset, got {factor}; set {place}.dataset.scale, too, with "
                    "images of that scale"
                )


def _type_name(kind: Any) -> str:
    """Return the name of a class that a config gives as a name or, since mmengine 0.8, itself."""
    return str(getattr(kind, "__name__", kind)).rpartition(".")[2]


def _check_not_mmediting(cfg: Any, path: Path) -> None:
    """Raise `UserError` for a config of MMEditing 0.x, which mmengine cannot run."""
    old = [name for name in _MMEDITING_KEYS if name in cfg]
    if len(old) < 2 or "train_dataloader" in cfg:
        return
    model = cfg.get("model") if isinstance(cfg.get("model"), dict) else {}
    gan = "discriminator" in model or model.get("type") in ("SRGAN", "ESRGAN")
    scale = get_setting(model.get("generator"), "upscale_factor")
    scale = scale if scale in (2, 3) else 4
    start = "srgan_x4c64b16_g1_1000k_div2k" if gan else f"msrresnet_x{scale}c64b16_g1_1000k_div2k"
    raise UserError(
        f"{path}: expected a config of mmengine, got one of MMEditing 0.x (it has "
        f"{', '.join(old)}), which neither MMagic nor this package runs; start from "
        f"configs/{start}.py and change its settings: each key and its new name are in "
        "docs/from-mmagic.md#a-config-of-mmediting-0x ; checkpoints of MMEditing 0.x load without "
        "conversion"
    )


def _check_vis_backends(cfg: Any) -> None:
    """Raise `UserError` for a backend whose package is missing; mmengine would fail later."""
    visualizer = cfg.get("visualizer")
    backends = visualizer.get("vis_backends") if isinstance(visualizer, dict) else None
    backends = [backends] if isinstance(backends, dict) else backends or []
    types = (backend.get("type") for backend in backends if isinstance(backend, dict))
    for kind in map(_type_name, types):
        needed = _VIS_BACKENDS.get(kind, {})
        missing = [package for module, package in needed.items() if find_spec(module) is None]
        if missing:
            raise UserError(
                f"visualizer.vis_backends: expected {' and '.join(missing)}, which {kind} needs, "
                f"got none; run: pip install {' '.join(missing)}, or remove that backend"
            )


def _explain_broken_config(path: Path, error: Exception) -> str:
    """Return one line on why a config could not be read, with its file and line."""
    if isinstance(error, SyntaxError):
        if error.filename != "<unknown>":  # otherwise the message of mmengine has both
            return one_line(error)
        files = [
            name
            for frame, _ in traceback.walk_tb(error.__traceback__)
            if isinstance(name := frame.f_locals.get("filename"), str) and name.endswith(".py")
        ]
        return f"{files[-1] if files else path}, line {error.lineno}: {error.msg}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.name == "<module>" and frame.filename.endswith(".py")
    ]
    if isinstance(error, FileNotFoundError) and str(error.filename).endswith(".py") and not frames:
        return f"{path}: _base_: expected a config, got no file {error.filename}"
    if (line := _explain_failed_import(error)) is not None:
        return f"{path}: {line}"
    place = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else str(path)
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return f"{place}: {kind}{one_line(error)}"


def _explain_failed_import(error: Exception) -> str | None:
    """Return the line on a module of `custom_imports` that mmengine could not import."""
    by_mmengine = error.__cause__
    cause = by_mmengine and by_mmengine.__context__
    if not str(error).startswith(_FAILED_IMPORT) or cause is None:
        return None
    module = str(by_mmengine).rpartition(" ")[2]
    if isinstance(cause, ModuleNotFoundError) and f"{module}.".startswith(f"{cause.name}."):
        return (
            f"custom_imports: expected modules that can be imported, got {module}; set PYTHONPATH "
            "to the folder that contains it, or install it"
        )
    return f"custom_imports: expected modules that can be imported, got {module}: {one_line(cause)}"


def require_settings(cfg: Any, *names: str, hint: str) -> None:
    """Check that a config has some settings.

    Args:
        cfg: Config of mmengine.
        names: Names of the settings, such as `model.generator`.
        hint: Advice at the end of the error.

    Raises:
        UserError: A setting is missing or empty. The message lists all missing settings.
    """
    if missing := ", ".join(
        name for name in names if not reduce(get_setting, name.split("."), cfg)
    ):
        raise UserError(f"{cfg.filename}: expected {', '.join(names)}, got no {missing}; {hint}")


def check_resumable(path: str | Path, name: str = "--resume") -> int:
    """Check that a run can be resumed from a checkpoint. Remote checkpoints are not checked.

    Args:
        path: The checkpoint.
        name: Origin of the request, for messages: `--resume`, or `resume=True` of a config.

    Returns:
        Iteration of the checkpoint; -1 for a remote one.

    Raises:
        MissingFileError: The file does not exist.
        OSError: The file cannot be read.
        UserError: The file is not an mmengine checkpoint, or has no iteration or optimizer state.
    """
    if "://" in str(path):
        return -1
    from srgan_plugin.checkpoints import load_checkpoint_file

    checkpoint = load_checkpoint_file(path)
    if "optimizers" in checkpoint and "schedulers" in checkpoint:
        raise UserError(
            f"{name}: expected a checkpoint of mmengine, got {path}, a training state of BasicSR "
            "without weights; resume it by tools/basicsr_train.py, or start from the weights in "
            f"models/net_g_{checkpoint.get('iter', 'ITER')}.pth by --cfg-options load_from=…"
        )
    meta = checkpoint.get("meta")
    iteration = meta.get("iter") if isinstance(meta, dict) else None
    by_flag = f"replace --resume by --cfg-options load_from={path}"
    change = by_flag if name == "--resume" else f"remove {name}, keep load_from={path}"
    if not isinstance(iteration, int) or "optimizer" not in checkpoint:
        raise UserError(
            f"{name}: expected a checkpoint of a training, got {path} with weights only; to start "
            f"from them, {change}"
        )
    if "message_hub" not in checkpoint:
        raise UserError(
            f"{name}: expected a checkpoint of mmengine, got {path} of mmcv 1.x (MMEditing 0.x); "
            f"to start from its weights, {change}"
        )
    return iteration
