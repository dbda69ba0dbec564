"""Check BasicSR's options before it builds anything; BasicSR ignores misspelt keys."""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

import torch
from basicsr.utils import registry

from srgan_plugin.data.degradation import check_degradation
from srgan_plugin.errors import UserError, check_option, prefix_errors

from .archs import SUFFIX

REQUIRED = ("name", "model_type", "num_gpu", "datasets", "network_g", "path")
REQUIRED_TO_TRAIN: Final = {
    "train": ("total_iter", "optim_g", "scheduler"),
    "datasets": ("train",),
    "logger": ("print_freq", "save_checkpoint_freq"),
}
#: What `val` needs in a training, if there is one.
REQUIRED_TO_VALIDATE: Final = ("val_freq", "save_img")

# The keys that BasicSR 1.4.2's SR models, loops and loaders read, by section, and `degradation`,
# which our dataset reads.
DATASET = (
    "name type dataroot_gt dataroot_lq meta_info_file filename_tmpl io_backend gt_size use_hflip "
    "use_rot use_shuffle num_worker_per_gpu batch_size_per_gpu dataset_enlarge_ratio prefetch_mode "
    "dataroot_flow num_prefetch_queue pin_memory persistent_workers mean std color phase scale "
    "degradation"
)
SECTIONS = {
    "": "name model_type scale num_gpu manual_seed datasets network_g network_d path train val "
    "logger dist_params find_unused_parameters",
    "path": "pretrain_network_g strict_load_g param_key_g pretrain_network_d strict_load_d "
    "param_key_d resume_state ignore_resume_networks",
    "train": "ema_decay optim_g optim_d scheduler total_iter warmup_iter pixel_opt ldl_opt "
    "perceptual_opt gan_opt net_d_iters net_d_init_iters",
    "val": "val_freq save_img suffix pbar metrics",
    "logger": "print_freq save_checkpoint_freq use_tb_logger wandb",
}
_LQ_ALONE = "; for images without GT set type: SingleImageDataset"


class Kind(NamedTuple):
    """Kind of value of an option: its description, a function that checks a value, and a schema."""

    name: str
    fits: Callable[[Any], bool]
    schema: Mapping[str, Any]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _or_none(kind: str, **limits: Any) -> dict[str, Any]:
    return {"type": [kind, "null"], **limits}


_MAP: Final = Kind("options by name", lambda v: isinstance(v, Mapping), {"type": "object"})
_MAP_OR_NONE: Final = Kind(_MAP.name, lambda v: v is None or _MAP.fits(v), _or_none("object"))
_WHOLE: Final = Kind(
    "a whole number",
    lambda v: v is None or (isinstance(v, int) and not isinstance(v, bool)),
    _or_none("integer"),
)
_COUNT: Final = Kind(
    "a whole number from 0",
    lambda v: v is None or (_WHOLE.fits(v) and v >= 0),
    _or_none("integer", minimum=0),
)
_SIZE: Final = Kind(
    "a whole number from 1",
    lambda v: v is None or (_WHOLE.fits(v) and v >= 1),
    _or_none("integer", minimum=1),
)
_POSITIVE: Final = Kind(
    "a number above 0",
    lambda v: v is None or (_is_number(v) and v > 0),
    _or_none("number", exclusiveMinimum=0),
)
_FLAG: Final = Kind(
    "true or false", lambda v: v is None or v in (0, 1), {"enum": [True, False, 0, 1, None]}
)
_NAME: Final = Kind(
    "text", lambda v: isinstance(v, str) and v != "", {"type": "string", "minLength": 1}
)
_NUMBER: Final = Kind("a number", lambda v: v is None or _is_number(v), _or_none("number"))
_BETAS: Final = Kind(
    "two numbers from 0 to below 1",
    lambda v: (
        v is None
        or (
            isinstance(v, list | tuple)
            and len(v) == 2
            and all(_is_number(beta) and 0 <= beta < 1 for beta in v)
        )
    ),
    _or_none(
        "array",
        items={"type": "number", "minimum": 0, "exclusiveMaximum": 1},
        minItems=2,
        maxItems=2,
    ),
)
_TEXT: Final = Kind("text", lambda v: v is None or isinstance(v, str), _or_none("string"))
#: Kind of value by pattern of the option's name; the first pattern that matches counts.
_KINDS: Final = {
    **dict.fromkeys(("datasets", "datasets.*", "network_g", "path", "train"), _MAP),
    **dict.fromkeys(("network_d", "val", "logger", "train.*_opt", "logger.wandb"), _MAP_OR_NONE),
    **dict.fromkeys(("train.optim_?", "train.scheduler", "val.metrics.*"), _MAP),
    "val.metrics": _MAP_OR_NONE,
    "val.metrics.*.crop_border": _COUNT,
    "num_gpu": Kind(
        f"{_COUNT.name}, or auto",
        lambda v: v == "auto" or _COUNT.fits(v),
        {"anyOf": [{"const": "auto"}, _COUNT.schema]},
    ),
    "scale": _SIZE,
    "manual_seed": _WHOLE,
    **dict.fromkeys(("name", "model_type", "datasets.*.name"), _NAME),
    **dict.fromkeys(("path.pretrain_*", "datasets.*.dataroot_*", "val.suffix"), _TEXT),
    "datasets.*.meta_info_file": _TEXT,
    "datasets.*.degradation": _MAP_OR_NONE,
    **dict.fromkeys(("path.strict_load_?", "val.save_img", "logger.use_tb_logger"), _FLAG),
    **dict.fromkeys(("datasets.*.use_*", "datasets.*.pin_memory"), _FLAG),
    "datasets.*.num_worker_per_gpu": _COUNT,
    **dict.fromkeys(("datasets.*.gt_size", "datasets.*.*_per_gpu", "datasets.*.scale"), _SIZE),
    "train.optim_?.betas": _BETAS,
    "datasets.*.dataset_enlarge_ratio": _POSITIVE,
    **dict.fromkeys(("val.val_freq", "logger.*_freq"), _POSITIVE),
    **dict.fromkeys(("train.total_iter", "train.warmup_iter", "train.ema_decay"), _NUMBER),
    "train.optim_?.lr": _NUMBER,
}
# Kind of value of an argument by the type of its default.
KINDS_BY_DEFAULT: Final = {
    int: _WHOLE,
    float: _NUMBER,
    str: _TEXT,
    bool: Kind("true or false", lambda v: v is None or isinstance(v, bool), _or_none("boolean")),
}


def check_options(opt: Mapping[str, Any], *, test: bool = False) -> None:
    """Raise `UserError` for options that BasicSR would ignore, or fail on without naming them.

    An unknown key is allowed, because another model may read it, unless it resembles a known key.

    Args:
        opt: Content of the YAML file.
        test: Whether to check the options of a test, even if the file also has those of a training.

    Raises:
        UserError: A key is missing, misspelt, or not an argument of the class, a value is of the
            wrong kind, or a type is not registered.
    """
    if missing := [key for key in REQUIRED if key not in opt]:
        raise _missing(missing)
    for name, value in _entries(opt):
        if kind := expected_kind(name):
            _check_kind(name, value, kind)
    for section, known in SECTIONS.items():
        _check_spelling(opt.get(section) if section else opt, known.split(), section)
    if test:
        _check_test(opt.get("val") or {})
    elif "train" in opt:
        _check_training(opt)
    for name, dataset in opt["datasets"].items():
        _check_spelling(dataset, DATASET.split(), f"datasets.{name}")
        dataset_class = _check_type(dataset, registry.DATASET_REGISTRY, f"datasets.{name}")
        if dataset_class.__module__.startswith("srgan_plugin."):
            needed = ["dataroot_gt", *["gt_size"] * (name.split("_")[0] == "train")]
            if missing := [key for key in needed if dataset.get(key) is None]:
                raise _missing([f"datasets.{name}.{key}" for key in missing], _LQ_ALONE * test)
            if "scale" not in {**opt, **dataset}:
                raise _missing(["scale"])
            with prefix_errors(f"datasets.{name}.degradation"):
                check_degradation(dataset.get("degradation") or {})
        elif (
            dataset_class.__module__.startswith("basicsr.")
            and dataset.get("degradation") is not None
        ):
            raise UserError(
                f"datasets.{name}.degradation: expected the type PairedImageDataset_{SUFFIX}, got "
                f"{dataset['type']}, which ignores it"
            )
    _check_type({"type": opt["model_type"]}, registry.MODEL_REGISTRY, "model_type")
    for section in ("network_g", "network_d"):
        if opt.get(section):
            _check_arguments(opt[section], registry.ARCH_REGISTRY, section)
    train = opt.get("train") or {}
    for section in ("pixel_opt", "perceptual_opt", "gan_opt"):
        if train.get(section):
            _check_arguments(train[section], registry.LOSS_REGISTRY, f"train.{section}")
    if not test:
        for section in ("pixel_opt", "gan_opt"):
            if train.get(section):
                _check_values(train[section], registry.LOSS_REGISTRY, f"train.{section}")
        _check_optimizers(opt["model_type"], train)
    for name, metric in ((opt.get("val") or {}).get("metrics") or {}).items():
        _check_metric(f"val.metrics.{name}", metric, opt["datasets"])


def expected_kind(name: str) -> Kind | None:
    """Return the kind of value of an option by its dotted name; None if any value is allowed."""
    return next((kind for key, kind in _KINDS.items() if _matches(name, key)), None)


def argument_kind(parameter: inspect.Parameter) -> Kind | None:
    """Return the kind of value of an argument; None if any value is allowed."""
    kind = type(parameter.default)
    # BasicSR does not annotate: `res_scale=1` of its EDSR is 0.1 in its own files.
    counts = re.fullmatch(r"num_\w+|\w+_size|upscale", parameter.name)
    if kind is int and parameter.annotation is parameter.empty and not counts:
        kind = float
    return KINDS_BY_DEFAULT.get(kind)


def _entries(opt: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every option with its dotted name, sections before their entries."""
    for key, value in opt.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from _entries(value, f"{prefix}{key}.")


def _missing(names: Iterable[str], hint: str = "") -> UserError:
    return UserError(f"options: expected {', '.join(names)}, got none{hint}")


def _matches(name: str, pattern: str) -> bool:
    return name.count(".") == pattern.count(".") and fnmatchcase(name, pattern)


def _check_kind(name: str, value: Any, kind: Kind) -> None:
    if kind.fits(value):
        return
    hint = ""
    if isinstance(value, str) and re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", value):
        hint = "; write it without quotes, and 1e-4 as 1.0e-4 (in --force_yml as '!!float 1e-4')"
    raise UserError(f"{name}: expected {kind.name}, got {value!r}{hint}")


def _check_training(opt: Mapping[str, Any]) -> None:
    """Check that all options of a training exist."""
    for section, keys in REQUIRED_TO_TRAIN.items():
        given = opt.get(section) or {}
        if missing := [f"{section}.{key}" for key in keys if given.get(key) is None]:
            raise _missing(missing)
    val = opt.get("val")
    if val is not None and (missing := [key for key in REQUIRED_TO_VALIDATE if key not in val]):
        raise _missing([f"val.{key}" for key in missing])
    for name in ("optim_g", "scheduler"):
        if not opt["train"][name].get("type"):
            raise _missing([f"train.{name}.type"])
    for name, dataset in opt["datasets"].items():
        size, scale = dataset.get("gt_size"), opt.get("scale", dataset.get("scale"))
        paired = str(dataset.get("type")).startswith("PairedImageDataset")
        if paired and size and scale and size % scale:
            raise UserError(
                f"datasets.{name}.gt_size: expected a multiple of the scale {scale}, got {size}"
            )
    scheduler, last = opt["train"]["scheduler"], opt["train"]["total_iter"]
    periods = scheduler.get("periods")
    counted = isinstance(periods, list) and all(map(_is_number, periods))
    if scheduler["type"] == "CosineAnnealingRestartLR" and counted and sum(periods) < last:
        raise UserError(
            f"train.scheduler.periods: expected at least train.total_iter = {last} iterations "
            f"in all, got {sum(periods)}"
        )


def _check_test(val: Mapping[str, Any]) -> None:
    needed = ["save_img", *["suffix"] * bool(val.get("save_img"))]
    if missing := [key for key in needed if key not in val]:
        value = "false" if missing[0] == "save_img" else "none"
        raise UserError(
            f"options: expected val.{missing[0]}, which a test reads, got none; for example "
            f"--force_yml val:{missing[0]}={value}"
        )


def _check_spelling(given: Mapping[str, Any] | None, known: Iterable[str], section: str) -> None:
    """Raise `UserError` for an unknown key that resembles a known one."""
    known = set(known)
    for key in given or {}:
        near = [] if key in known else get_close_matches(key, known, n=1, cutoff=0.8)
        if near:
            name = f"{section}.{key}".lstrip(".")
            raise UserError(f"{name}: expected a known option, got {key!r}; nearest: {near[0]}")


def _check_type(given: Mapping[str, Any], classes: Any, section: str) -> Any:
    """Return the class of the `type` in a section, from a registry of BasicSR."""
    name = given.get("type")
    if name is None:
        raise UserError(f"{section}: expected a class by its type, got none")
    if name not in classes and f"{name}_basicsr" not in classes:
        near = get_close_matches(str(name), list(classes.keys()), n=3, cutoff=0.5)
        if (ours := f"{name}_{SUFFIX}") in classes:
            near = [ours]
        hint = f"; nearest: {', '.join(near)}" if near else ""
        raise UserError(f"{section}: expected a registered class, got {name!r}{hint}")
    return classes.get(name if name in classes else f"{name}_basicsr")


def _check_arguments(given: Mapping[str, Any], classes: Any, section: str) -> None:
    """Check the values and the names of the arguments of a section's class."""
    parameters = inspect.signature(_check_type(given, classes, section)).parameters
    for key in given.keys() & parameters.keys():
        if kind := argument_kind(parameters[key]):
            _check_kind(f"{section}.{key}", given[key], kind)
    if given["type"].startswith("MSRResNet") and "upscale" in given:
        check_option(f"{section}.upscale", given["upscale"], (2, 3, 4))
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    if unknown := [key for key in given if key != "type" and key not in parameters]:
        raise UserError(
            f"{section}.{unknown[0]}: expected an argument of {given['type']} "
            f"({', '.join(parameters)}), got {unknown[0]!r}"
        )


def _check_values(given: Mapping[str, Any], classes: Any, section: str) -> None:
    """Build an object of this package, whose values are then checked by its constructor."""
    found = _check_type(given, classes, section)
    if found.__module__.startswith("srgan_plugin."):
        with prefix_errors(section):
            found(**{key: value for key, value in given.items() if key != "type"})


def _check_optimizers(model_type: str, train: Mapping[str, Any]) -> None:
    """Build the optimisers of one number, unless the model has a `get_optimizer` of its own."""
    from basicsr.models.base_model import BaseModel

    model = _check_type({"type": model_type}, registry.MODEL_REGISTRY, "model_type")
    build: Any = BaseModel.get_optimizer
    if not hasattr(model, "get_optimizer") or model.get_optimizer is not build:
        return
    for section in ("optim_g", "optim_d"):
        if not (given := dict(train.get(section) or {})):
            continue
        name = given.pop("type", None)
        try:
            build(None, name, [torch.zeros(1, requires_grad=True)], **given)
        except NotImplementedError:
            hint = "; SOAP is for mmengine (tools/train.py)" if name == "SOAP" else ""
            raise UserError(
                f"train.{section}.type: expected an optimizer of BasicSR, such as Adam, got "
                f"{name!r}{hint}"
            ) from None
        except (TypeError, ValueError) as error:
            raise UserError(f"train.{section}: expected arguments of {name}: {error}") from None


def _check_metric(section: str, given: Mapping[str, Any], datasets: Mapping[str, Any]) -> None:
    """Check the arguments of a metric, and that the images that it measures have a GT.

    BasicSR's own functions accept any keyword and ignore those that they do not have.

    Args:
        section: Dotted name of the metric's options.
        given: Options of the metric.
        datasets: Options of the datasets.

    Raises:
        UserError: An argument is missing, misspelt or of the wrong kind, or there is no GT.
    """
    function = _check_type(given, registry.METRIC_REGISTRY, section)
    images, known = ("img", "img2"), {"type", "better"}
    arguments = inspect.signature(function).parameters
    for key, parameter in arguments.items():
        if key in images or parameter.kind is parameter.VAR_KEYWORD:
            continue
        known.add(key)
        if key in given and (kind := argument_kind(parameter)):
            _check_kind(f"{section}.{key}", given[key], kind)
        elif parameter.default is parameter.empty and given.get(key) is None:
            raise _missing([f"{section}.{key}"])
    _check_spelling(given, known, section)
    unknown = [key for key in given if key not in known]
    if unknown and function.__module__.startswith("basicsr."):
        raise UserError(
            f"{section}.{unknown[0]}: expected an argument of {given['type']} "
            f"({', '.join(sorted(known - {'type'}))}), got {unknown[0]!r}"
        )
    for name, dataset in datasets.items():
        if dataset["type"] == "SingleImageDataset" and "img2" in arguments:
            raise UserError(
                f"{section}: expected test sets with GT, got datasets.{name}, a "
                f"SingleImageDataset without; test it by a file without {given['type']}"
            )
