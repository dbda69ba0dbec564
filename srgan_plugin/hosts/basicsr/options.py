"""BasicSR's options, checked before it builds anything: it answers a misspelt key with silence."""

import inspect
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from basicsr.utils import registry

from srgan_plugin.errors import UserError

REQUIRED = ("name", "model_type", "num_gpu", "datasets", "network_g", "path")

# The keys that BasicSR 1.4.2's SR models, loops and loaders read, by section.
_DATASET = (
    "name type dataroot_gt dataroot_lq meta_info_file filename_tmpl io_backend gt_size use_hflip "
    "use_rot use_shuffle num_worker_per_gpu batch_size_per_gpu dataset_enlarge_ratio prefetch_mode "
    "dataroot_flow num_prefetch_queue pin_memory persistent_workers mean std color phase scale"
)
_SECTIONS = {
    "": "name model_type scale num_gpu manual_seed datasets network_g network_d path train val "
    "logger dist_params find_unused_parameters",
    "path": "pretrain_network_g strict_load_g param_key_g pretrain_network_d strict_load_d "
    "param_key_d resume_state ignore_resume_networks",
    "train": "ema_decay optim_g optim_d scheduler total_iter warmup_iter pixel_opt ldl_opt "
    "perceptual_opt gan_opt net_d_iters net_d_init_iters",
    "val": "val_freq save_img suffix pbar metrics",
    "logger": "print_freq save_checkpoint_freq use_tb_logger wandb",
}


def check_options(opt: Mapping[str, Any]) -> None:
    """Find what BasicSR would overlook or fail on without saying where.

    A key that is merely unknown may be read by a model of the user's; one that resembles a known
    key is taken for a slip of the pen.

    Args:
        opt: The YAML's content.

    Raises:
        UserError: A key is missing, misspelt, or not an argument of the class; or a type is not
            registered.
    """
    if missing := [key for key in REQUIRED if key not in opt]:
        raise UserError(f"the options lack {', '.join(missing)}")
    for key in ("datasets", "network_g"):
        if not isinstance(opt[key], Mapping):
            raise UserError(f"{key}: expected options by name, got {opt[key]!r}")
    for section, known in _SECTIONS.items():
        _check_spelling(opt.get(section) if section else opt, known.split(), section)
    for name, dataset in opt["datasets"].items():
        if not isinstance(dataset, Mapping):
            raise UserError(f"datasets.{name}: expected options by name, got {dataset!r}")
        _check_spelling(dataset, _DATASET.split(), f"datasets.{name}")
        kind = _check_type(dataset, registry.DATASET_REGISTRY, f"datasets.{name}")
        if kind.__module__.startswith("srgan_plugin."):
            needed = ["dataroot_gt", *["gt_size"] * (name.split("_")[0] == "train")]
            if missing := [key for key in needed if dataset.get(key) is None]:
                raise UserError(f"datasets.{name} lacks {', '.join(missing)}")
            if "scale" not in {**opt, **dataset}:
                raise UserError("the options lack scale")
    _check_type({"type": opt["model_type"]}, registry.MODEL_REGISTRY, "model_type")
    for section in ("network_g", "network_d"):
        if opt.get(section):
            _check_arguments(opt[section], registry.ARCH_REGISTRY, section)
    train = opt.get("train") or {}
    for section in ("pixel_opt", "perceptual_opt", "gan_opt"):
        if train.get(section):
            _check_arguments(train[section], registry.LOSS_REGISTRY, f"train.{section}")


def _check_spelling(given: Mapping[str, Any] | None, known: Iterable[str], section: str) -> None:
    known = set(known)
    for key in given or {}:
        near = [] if key in known else get_close_matches(key, known, n=1, cutoff=0.8)
        if near:
            raise UserError(f"{f'{section}.{key}'.lstrip('.')}: no such option, write {near[0]}")


def _check_type(given: Mapping[str, Any], names: Any, section: str) -> Any:
    kind = given.get("type")
    if kind not in names and f"{kind}_basicsr" not in names:
        near = get_close_matches(str(kind), list(names.keys()), n=3, cutoff=0.5)
        raise UserError(f"{section}: no class is called {kind!r}; nearest: {', '.join(near)}")
    return names.get(kind if kind in names else f"{kind}_basicsr")


def _check_arguments(given: Mapping[str, Any], names: Any, section: str) -> None:
    parameters = inspect.signature(_check_type(given, names, section)).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    if unknown := [key for key in given if key != "type" and key not in parameters]:
        raise UserError(f"{section}.{unknown[0]}: {given['type']} takes {', '.join(parameters)}")
