"""Test a checkpoint on the test sets of a config: `python tools/test.py CONFIG CHECKPOINT`."""

import argparse
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from srgan_plugin.cli.configs import add_config_options, load_config, require_settings
from srgan_plugin.cli.errors import command
from srgan_plugin.cli.options import check_output
from srgan_plugin.cli.parser import Parser
from srgan_plugin.cli.terminal import write_lines, write_note
from srgan_plugin.errors import UserError, check_option, prefix_errors

# For the hint to a config, by network and scale.
_CONFIGS = {
    (network, scale): f"configs/{network.lower()}_x{scale}c64b16_g1_1000k_div2k.py"
    for network, scale in (("MSRResNet", 2), ("MSRResNet", 3), ("MSRResNet", 4), ("SRResNet", 4))
}
_NETWORKS = ("MSRResNet", "SRResNet")
# By hand, because `srgan_plugin.metrics` imports torch, for which --help would wait.
_PERCEPTUAL = ("NIQE", "LPIPS", "DISTS")
_PROTOCOLS = ("openmmlab-2020", "mmagic-1.x", "basicsr", "paper", "y")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; flags shared with MMagic keep their names."""
    parser = Parser(description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "checkpoint",
        help="path, URL, hf://OWNER/NAME[@REVISION], name of a published checkpoint, 'msrresnet', "
        "'srgan' or 'photo' (bundled), or 'none' if the network has no weights (bicubic)",
    )
    parser.add_argument("--work-dir", help="folder of the log")
    parser.add_argument("--out", metavar="FILE.json", help="file to write the results to")
    parser.add_argument(
        "--protocol",
        nargs="+",
        default=[],
        metavar="NAME",
        help="protocols to use instead of those in the config: "
        f"{', '.join(_PROTOCOLS)} (docs/protocols.md)",
    )
    parser.add_argument("--save-images", metavar="DIR", help="save images as DIR/SET/NAME.png")
    parser.add_argument(
        "--metric",
        nargs="+",
        default=[],
        metavar="NAME",
        help="further metrics: NIQE, LPIPS, DISTS, or any metric registered in mmengine",
    )
    parser.add_argument(
        "--tta",
        action="store_true",
        help="average predictions over flipped and transposed images (x8 self-ensemble), which "
        "takes eight times as long",
    )
    add_config_options(parser)
    args = parser.parse_args(argv)
    check_protocols("--protocol", args.protocol)
    if args.checkpoint.endswith(".py"):
        parser.error(f"arguments: expected CONFIG CHECKPOINT, got {args.config} {args.checkpoint}")
    if args.out:
        check_output(args.out)
    return args


def check_protocols(name: str, protocols: Iterable[str]) -> None:
    """Raise `UserError` for an unknown protocol.

    Args:
        name: Name of the flag or setting, for the message.
        protocols: Names to check.
    """
    if protocols := list(protocols):
        from srgan_plugin.metrics import PROTOCOLS

        for protocol in protocols:
            check_option(name, protocol, PROTOCOLS)


def require_matching_network(generator: Any, checkpoint: Any) -> None:
    """Check that the checkpoint's network and scale are those of the config.

    Skipped for networks of other packages, which mmengine checks on load.

    Args:
        generator: Config of the generator.
        checkpoint: Content of the checkpoint.

    Raises:
        UserError: The checkpoint is of another network or scale, or not of a generator.
    """
    from srgan_plugin.checkpoints import identify

    expected, scale = network_name({"generator": generator}), generator.get("upscale_factor", 4)
    if expected not in _NETWORKS:
        return
    found = identify(checkpoint)
    network = found.layout.network
    if network not in _NETWORKS:
        raise UserError(f"expected a generator, got {found}")
    factor = found.arguments["upscale_factor"]
    if network != expected:
        config = _CONFIGS.get((network, factor), f"a config of {network} x{factor}")
        raise UserError(f"expected {expected} as in the config, got {found}; test it with {config}")
    if factor != scale:
        raise UserError(
            f"expected x{scale} as in the config and its test sets, got {found}; use a config with "
            f"upscale_factor={factor}"
        )


def adapt_generator_to_checkpoint(model: Any, location: str, *, is_plugin: bool) -> str:
    """Set the generator of a config to the one in a checkpoint, and print the changes.

    Args:
        model: Config of the model, changed in place.
        location: Path, URL or name of the checkpoint.
        is_plugin: Whether the model is defined in this package. A foreign network is refused if the
            checkpoint needs arguments that only the plugin's networks have (`NON_INFERABLE_ARGS`).

    Returns:
        The path of the checkpoint, or `location` if only mmengine can read it, such as `s3://`.

    Raises:
        MissingFileError: The checkpoint does not exist.
        UserError: The file is not a checkpoint, or of a network that the config cannot build.
    """
    from srgan_plugin.checkpoints import generator_changes, load_checkpoint_file
    from srgan_plugin.checkpoints.hub import is_supported_location, local_checkpoint

    generator = model.get("generator")
    if not is_supported_location(location):
        return location
    path = local_checkpoint(location)
    if generator is None:
        return str(path)
    checkpoint = load_checkpoint_file(path)
    with prefix_errors(path):
        require_matching_network(generator, checkpoint)
        changes = generator_changes(generator, checkpoint)
    if changes:
        is_foreign = not is_plugin and "." not in str(generator.type)
        _apply_changes(generator, changes, path, checkpoint, is_foreign=is_foreign)
    _use_ema_weights(model, checkpoint, path, is_plugin=is_plugin)
    return str(path)


def _apply_changes(
    generator: Any, changes: dict[str, Any], path: Any, checkpoint: Any, *, is_foreign: bool
) -> None:
    """Change the arguments of a generator, and print them.

    Args:
        generator: Config of the generator, changed in place.
        changes: Arguments to set.
        path: Path of the checkpoint, for messages.
        checkpoint: Content of the checkpoint.
        is_foreign: Whether the generator is a network of another package.

    Raises:
        UserError: A foreign network has no such argument.
    """
    from srgan_plugin.checkpoints import identify
    from srgan_plugin.checkpoints.recorded_args import NON_INFERABLE_ARGS

    if is_foreign and set(changes) & set(NON_INFERABLE_ARGS):
        raise UserError(
            f"{path}: expected a network for the config's {generator.type}, got "
            f"{identify(checkpoint)}; set model.generator.type=srgan_plugin.{generator.type}"
        )
    settings = ", ".join(f"{name}={value!r}" for name, value in changes.items())
    write_note(
        f"NOTE: {path} holds {identify(checkpoint)}: testing with {settings}, unlike the config"
    )
    generator.update(changes)


def _use_ema_weights(model: Any, checkpoint: Any, path: Any, *, is_plugin: bool) -> None:
    """Enable the EMA of a model of this package if the checkpoint has EMA weights."""
    if not any(str(key).startswith("generator_ema.") for key in checkpoint.get("state_dict", ())):
        return
    if is_plugin:
        write_note(f"NOTE: {path}: testing the EMA weights")
        model["ema"] = model.get("ema") or {"decay": 0.999}  # a test does not use the decay
    else:
        write_note(f"NOTE: {path}: testing the non-averaged weights: {model.type} has no EMA")


def network_name(model: Any) -> str:
    """Return the type without a prefix of the generator, or of the model if it has no generator."""
    return str((model.get("generator") or model).get("type")).rpartition(".")[2]


def group_by_dataset(metrics: dict[str, float]) -> dict[str, dict[str, float]]:
    """Convert `{"Set5/PSNR": …}` to `{"Set5": {"PSNR": …}}`."""
    sets: dict[str, dict[str, float]] = defaultdict(dict)
    for name, value in metrics.items():
        dataset, _, metric = name.rpartition("/")
        sets[dataset or "test"][metric] = float(value)
    return dict(sets)


def run_test(runner: Any) -> dict[str, float]:
    """Run the test loop and return its metrics.

    MMagic's loop returns None; its metrics are read from the message hub.
    """
    metrics: dict[str, float] | None = runner.test()
    if metrics is not None:
        return metrics
    scalars = runner.message_hub.log_scalars
    timing = ("test/time", "test/data_time")
    names = [name for name in scalars if name.startswith("test/") and name not in timing]
    return {name.removeprefix("test/"): scalars[name].current() for name in names}


def find_scorer(runner: Any) -> Any:
    """Return the scorer of the test loop, or None if it has only other metrics."""
    metrics = getattr(getattr(runner.test_loop, "evaluator", None), "metrics", ())
    return next((m.scorer for m in metrics if hasattr(m, "scorer")), None)


def choose_metrics(cfg: Any, protocols: list[str], others: list[str]) -> None:
    """Set the protocols of the config's `BenchmarkMetric`, and add other metrics.

    Args:
        cfg: Config, changed in place.
        protocols: Names of protocols; empty for those in the config.
        others: Types of further metrics.

    Raises:
        UserError: A protocol or metric is unknown, or protocols are given, but the config has no
            `BenchmarkMetric`.
    """
    if (cfg.get("default_scope") or "") != "srgan_plugin":  # MMagic's NIQE fails on its samples
        others = [f"srgan_plugin.{name}" if name in _PERCEPTUAL else name for name in others]
    _check_metrics(cfg, others)
    given = cfg.test_evaluator
    evaluators = given if isinstance(given, list) else [given]
    if "metrics" in evaluators[0]:  # MMagic configs have an evaluator for each test set
        for evaluator in evaluators:
            evaluator["metrics"] = _select_metrics(evaluator["metrics"], protocols, others)
    else:
        cfg.test_evaluator = _select_metrics(evaluators, protocols, others)


def _check_metrics(cfg: Any, names: Iterable[str]) -> None:
    """Raise an error for an unknown metric, before test sets are looked for."""
    from mmengine.registry import METRICS

    with METRICS.switch_scope_and_registry(cfg.get("default_scope")) as registry:
        for name in names:
            try:
                found = registry.get(name)  # registries of this package name the nearest one
            except RuntimeError:  # raised by mmengine for a name that cannot be imported either
                found = None
            if found is None:
                parent = registry.parent.module_dict if registry.parent else ()
                check_option("--metric", name, sorted({*registry.module_dict, *parent}))


def _select_metrics(metrics: list[Any], protocols: list[str], others: list[str]) -> list[Any]:
    """Return the metrics of a test set with these protocols, and further metrics."""
    chosen = [metric for metric in metrics if str(metric.get("type")).endswith("BenchmarkMetric")]
    if protocols and not chosen:
        raise UserError(
            "--protocol: expected a BenchmarkMetric in the config's test_evaluator, got "
            f"{', '.join(str(metric.get('type')) for metric in metrics)}; add "
            "dict(type='srgan_plugin.BenchmarkMetric')"
        )
    for metric in chosen:
        if protocols:
            metric["protocols"] = protocols
        check_protocols("protocols", metric.get("protocols") or ())
    measured = {str(metric.get("type")).rpartition(".")[2] for metric in metrics}
    measured |= {"PSNR", "SSIM"} if chosen else set()
    if repeated := measured & {name.rpartition(".")[2] for name in others}:
        raise UserError(
            f"--metric: expected metrics besides those of the config, got {min(repeated)}, which "
            "the table has already; --protocol chooses how PSNR and SSIM are measured"
        )
    # MMagic configs set the name of the test set in every metric, the same in all of a set.
    prefix = {"prefix": metrics[0]["prefix"]} if "prefix" in metrics[0] else {}
    return [*metrics, *({"type": name, **prefix} for name in dict.fromkeys(others))]


def set_test_checkpoint(cfg: Any, location: str) -> None:
    """Set `load_from`, and the generator to the one in the checkpoint.

    Args:
        cfg: Config, changed in place.
        location: Path, URL or name of the checkpoint; `none` loads no weights.

    Raises:
        MissingFileError: The checkpoint does not exist.
        UserError: The checkpoint does not match the config, is `none` for a network with weights,
            or is another for one without.
    """
    from srgan_plugin.hosts.mmengine.compat import is_plugin_model

    network, has_weights = network_name(cfg.model), location.lower() != "none"
    if has_weights and network == "Bicubic":
        raise UserError(
            f"checkpoint: expected 'none' for {cfg.filename}, whose network has no weights, got "
            f"{location}"
        )
    if not has_weights and network != "Bicubic":
        raise UserError(
            f"checkpoint: expected one for the network {network} of {cfg.filename}, got 'none', "
            "which is for configs without weights such as bicubic_x4.py"
        )
    if has_weights:
        cfg.load_from = adapt_generator_to_checkpoint(
            cfg.model, location, is_plugin=is_plugin_model(cfg)
        )


def drop_training_settings(cfg: Any) -> None:
    """Remove the settings of training and validation, so that no data or VGG weights are needed.

    Args:
        cfg: Config, changed in place.
    """
    if "perceptual_loss" in cfg.model:
        cfg.model.perceptual_loss = None
    training = ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler")
    validation = ("val_dataloader", "val_cfg", "val_evaluator")
    for name in training + validation:
        cfg[name] = None


def use_self_ensemble(cfg: Any) -> None:
    """Enable x8 self-ensemble.

    Args:
        cfg: Config, changed in place.

    Raises:
        UserError: The model is not defined in this package.
    """
    from srgan_plugin.hosts.mmengine.compat import is_plugin_model
    from srgan_plugin.registry import SCOPE

    if not is_plugin_model(cfg):
        raise UserError(
            f"--tta: expected a model of {SCOPE}, got {cfg.model.type}; set "
            f"--cfg-options model.type={SCOPE}.SRModel"
        )
    cfg.model.test_cfg = {**(cfg.model.get("test_cfg") or {}), "tta": True}


def report(runner: Any, results: dict[str, dict[str, float]], out: str | None) -> None:
    """Print the table of results, and write them to a file.

    Args:
        runner: Runner after the test.
        results: Values by test set and metric.
        out: JSON file to write; None for no file. The name of a test set there has the transforms
            that change its images, such as `Set5 (DegradeLR)`, because it is not comparable with
            the set.
    """
    from srgan_plugin.hosts.mmengine.engine.multi_loops import MultiTestLoop
    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.metrics.results_files import results_text
    from srgan_plugin.metrics.tables import format_table

    loop = runner.test_loop
    counts, lr_origins, missing_images, changed_by = {}, {}, {}, {}
    if isinstance(loop, MultiTestLoop):  # other loops do not record these
        counts = loop.image_counts()
        lr_origins = loop.notes("lr_origin")
        missing_images = loop.notes("missing_images")
        changed_by = loop.notes("changed_by")
    table = format_table(
        results,
        scorer=find_scorer(runner),
        lr_origins=lr_origins,
        missing_images=missing_images,
        changed_by=changed_by,
        model=runner.cfg.get("reference_model"),
    )
    write_lines(table.splitlines())
    if out:
        names = {n: f"{n} ({changed_by[n]})" if changed_by.get(n) else n for n in results}
        results = {names[n]: row for n, row in results.items()}
        write_text(results_text(results, {names.get(n, n): c for n, c in counts.items()}), out)


@command
def main(argv: list[str] | None = None) -> None:
    """Test a checkpoint and print a table."""
    args = parse_args(argv)
    cfg = load_config(args)
    require_settings(
        cfg,
        "test_dataloader",
        "test_cfg",
        "test_evaluator",
        hint="copy them from another config",
    )
    set_test_checkpoint(cfg, args.checkpoint)
    drop_training_settings(cfg)
    choose_metrics(cfg, args.protocol, args.metric)
    if args.tta:
        use_self_ensemble(cfg)
    if args.save_images:
        saving = {"type": "SaveImagesHook", "out_dir": args.save_images}
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), saving]
    # Imported here, so that an error in the command line does not wait for torch and mmengine.
    from mmengine.dist import is_main_process

    from srgan_plugin.cli.mmengine_console import open_runner
    from srgan_plugin.hosts.mmengine.compat import convert_on_load
    from srgan_plugin.hosts.mmengine.engine.distributed import join_process_group

    join_process_group(args.launcher, cfg)
    runner = open_runner(cfg, verbose=args.verbose)
    convert_on_load(runner.model)  # so that MMagic models also load BasicSR's layouts
    results = group_by_dataset(run_test(runner))
    if is_main_process():
        report(runner, results, args.out)


if __name__ == "__main__":
    main()
