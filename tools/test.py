"""Test a checkpoint on the benchmark sets: `python tools/test.py CONFIG CHECKPOINT`."""

import argparse
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from srgan_plugin.cli.configs import add_config_options, load_config, require_settings
from srgan_plugin.cli.errors import command
from srgan_plugin.cli.parser import Parser
from srgan_plugin.cli.terminal import write_lines, write_note
from srgan_plugin.errors import UserError, check_option, prefix_errors


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; flags are those of MMagic."""
    parser = Parser(description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "checkpoint",
        help="a path, a URL, the name of a published model, msrresnet or srgan for the bundled "
        "weights, or 'none' for configs without weights",
    )
    parser.add_argument("--work-dir", help="folder of the log")
    parser.add_argument("--out", metavar="FILE.json", help="file to write the results to")
    parser.add_argument(
        "--protocol",
        nargs="+",
        default=[],
        metavar="NAME",
        help="protocols to use instead of those in the config: openmmlab-2020, mmagic-1.x, "
        "basicsr, paper, y (docs/protocols.md)",
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
    return args


def check_protocols(name: str, protocols: Iterable[str]) -> None:
    """Refuse an unknown protocol; the message names the nearest one."""
    if protocols := list(protocols):
        from srgan_plugin.metrics import PROTOCOLS

        for protocol in protocols:
            check_option(name, protocol, PROTOCOLS)


_CONFIGS = {
    name: f"configs/{name.lower()}_x4c64b16_g1_1000k_div2k.py" for name in ("MSRResNet", "SRResNet")
}


def refuse_other_network(generator: Any, checkpoint: Any) -> None:
    """Refuse a checkpoint of another network or scale than that of the config.

    Networks of another package are checked when they are loaded.
    """
    from srgan_plugin.checkpoints import identify

    own, scale = network_name({"generator": generator}), generator.get("upscale_factor", 4)
    if own not in _CONFIGS:
        return
    found = identify(checkpoint)
    if found.layout.network not in _CONFIGS:
        raise UserError(f"expected a generator, got {found}")
    if found.layout.network != own:
        config = _CONFIGS[found.layout.network]
        raise UserError(f"expected {own} as in the config, got {found}; test it with {config}")
    if (factor := found.arguments["upscale_factor"]) != scale:
        raise UserError(
            f"expected x{scale} as in the config and its test sets, got {found}; use a config with "
            f"upscale_factor={factor}"
        )


def follow_checkpoint(model: Any, location: str, *, is_plugin: bool) -> str:
    """Set the generator of a config to that in a checkpoint, and print the changes.

    Args:
        model: Config of the model, changed in place.
        location: Path, URL or name of the checkpoint.
        is_plugin: Whether the model is of this package. Arguments that models of another toolbox
            do not have are refused for those.

    Returns:
        The path of the checkpoint, or `location` if only mmengine can read it, such as `s3://`.
    """
    from srgan_plugin.checkpoints import generator_changes, identify, load_checkpoint_file
    from srgan_plugin.checkpoints.hub import is_fetched_here, local_checkpoint
    from srgan_plugin.checkpoints.recorded_args import NON_INFERABLE_ARGS

    generator = model.get("generator")
    if not is_fetched_here(location):
        return location
    path = local_checkpoint(location)
    if generator is None:
        return str(path)
    checkpoint = load_checkpoint_file(path)
    with prefix_errors(path):
        refuse_other_network(generator, checkpoint)
        changes = generator_changes(generator, checkpoint)
    if changes:
        foreign = not is_plugin and "." not in str(generator.type)
        if foreign and {*changes} & {*NON_INFERABLE_ARGS}:
            raise UserError(
                f"{path}: expected a network for the config's {generator.type}, got "
                f"{identify(checkpoint)}; set model.generator.type=srgan_plugin.{generator.type}"
            )
        settings = ", ".join(f"{name}={value!r}" for name, value in changes.items())
        note = f"{path} holds {identify(checkpoint)}: testing with {settings}, unlike the config"
        write_note(f"NOTE: {note}")
        generator.update(changes)
    if any(str(k).startswith("generator_ema.") for k in checkpoint.get("state_dict", ())):
        which = "those" if is_plugin else f"the others, because {model.type} has no average"
        write_note(f"NOTE: {path} has averaged weights: testing {which}")
        if is_plugin:
            model["ema"] = model.get("ema") or {"decay": 0.999}  # a test does not use the decay
    return str(path)


def network_name(model: Any) -> str:
    """Return the type of the generator, or of a model without one, without a prefix."""
    return str((model.get("generator") or model).get("type")).rpartition(".")[2]


def by_set(measured: dict[str, float]) -> dict[str, dict[str, float]]:
    """Convert `{"Set5/PSNR": …}` to `{"Set5": {"PSNR": …}}`."""
    sets: dict[str, dict[str, float]] = defaultdict(dict)
    for name, value in measured.items():
        dataset, _, measure = name.rpartition("/")
        sets[dataset or "test"][measure] = float(value)
    return dict(sets)


def measure(runner: Any) -> dict[str, float]:
    """Test, and return the results, for MMagic's loop from the log of mmengine's hook."""
    measured: dict[str, float] | None = runner.test()
    if measured is not None:
        return measured
    scalars = runner.message_hub.log_scalars
    timing = ("test/time", "test/data_time")
    names = [name for name in scalars if name.startswith("test/") and name not in timing]
    return {name.removeprefix("test/"): scalars[name].current() for name in names}


def scorer_of(runner: Any) -> Any:
    """Return the scorer of the test loop, or None if it has only other metrics."""
    metrics = getattr(getattr(runner.test_loop, "evaluator", None), "metrics", ())
    return next((m.scorer for m in metrics if hasattr(m, "scorer")), None)


def choose_metrics(cfg: Any, protocols: list[str], others: list[str]) -> None:
    """Set the protocols of the config's `BenchmarkMetric`, and add other metrics.

    Args:
        cfg: Config, changed in place.
        protocols: Names of protocols; empty for those in the config.
        others: Types of further metrics.
    """
    _check_metrics(cfg, others)
    given = cfg.test_evaluator
    evaluators = given if isinstance(given, list) else [given]
    if "metrics" in evaluators[0]:  # configs of MMagic have an evaluator for each test set
        for evaluator in evaluators:
            evaluator["metrics"] = _chosen(evaluator["metrics"], protocols, others)
    else:
        cfg.test_evaluator = _chosen(evaluators, protocols, others)


def _check_metrics(cfg: Any, names: Iterable[str]) -> None:
    """Refuse an unknown metric, before test sets are looked for."""
    from mmengine.registry import METRICS

    with METRICS.switch_scope_and_registry(cfg.get("default_scope")) as registry:
        for name in names:
            registry.get(name)  # of this package's, raises an error that names the nearest one


def _chosen(metrics: list[Any], protocols: list[str], others: list[str]) -> list[Any]:
    """Return the metrics of a test set with these protocols, and further metrics."""
    prefix = {"prefix": metrics[0]["prefix"]} if "prefix" in metrics[0] else {}
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
    return [*metrics, *({"type": name, **prefix} for name in others)]


def choose_checkpoint(cfg: Any, location: str) -> None:
    """Set `load_from`, and the generator to that in the checkpoint; `none` loads no weights."""
    from srgan_plugin.hosts.mmengine.compat import scope_of
    from srgan_plugin.registry import SCOPE

    if location.lower() != "none":
        is_plugin = scope_of(cfg) == SCOPE
        cfg.load_from = follow_checkpoint(cfg.model, location, is_plugin=is_plugin)
    elif (network := network_name(cfg.model)) != "Bicubic":
        raise UserError(
            f"checkpoint: expected one for the network {network} of {cfg.filename}, got 'none', "
            "which is for configs without weights such as bicubic_x4.py"
        )


def keep_test_settings(cfg: Any) -> None:
    """Remove the settings of training and validation from a config."""
    if "perceptual_loss" in cfg.model:
        cfg.model.perceptual_loss = None  # VGG-19 weights may be missing
    for name in (
        *("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"),
        *("val_dataloader", "val_cfg", "val_evaluator"),
    ):
        cfg[name] = None


def use_self_ensemble(cfg: Any) -> None:
    """Set x8 self-ensemble, which only models of this package have."""
    from srgan_plugin.hosts.mmengine.compat import scope_of
    from srgan_plugin.registry import SCOPE

    is_plugin = str(cfg.model.type).startswith(f"{SCOPE}.") or (
        "." not in str(cfg.model.type) and scope_of(cfg) == SCOPE
    )
    if not is_plugin:
        raise UserError(
            f"--tta: expected a model of {SCOPE}, got {cfg.model.type}; set "
            f"--cfg-options model.type={SCOPE}.SRModel"
        )
    cfg.model.test_cfg = {**(cfg.model.get("test_cfg") or {}), "tta": True}


@command
def main(argv: list[str] | None = None) -> None:
    """Build the runner, test, print the table."""
    args = parse_args(argv)
    cfg = load_config(args)
    require_settings(
        cfg,
        *("test_dataloader", "test_cfg", "test_evaluator"),
        hint="copy them from another config",
    )
    choose_checkpoint(cfg, args.checkpoint)
    keep_test_settings(cfg)
    choose_metrics(cfg, args.protocol, args.metric)
    if args.tta:
        use_self_ensemble(cfg)
    if args.save_images:
        saving = {"type": "SaveImagesHook", "out_dir": args.save_images}
        cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), saving]
    from mmengine.dist import is_main_process

    from srgan_plugin.cli.mmengine_console import open_runner
    from srgan_plugin.hosts.mmengine.compat import convert_on_load
    from srgan_plugin.hosts.mmengine.engine.distributed import join_process_group
    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.metrics.results_files import results_text
    from srgan_plugin.metrics.tables import format_table

    join_process_group(args.launcher, cfg)
    runner = open_runner(cfg, verbose=args.verbose)
    convert_on_load(runner.model)
    results = by_set(measure(runner))
    if not is_main_process():
        return
    if args.out:
        counts: dict[str, int] = getattr(runner.test_loop, "image_counts", dict)()  # of our loop
        write_text(results_text(results, counts), args.out)
    notes: Any = getattr(runner.test_loop, "notes", lambda key: {})
    table = format_table(
        results,
        scorer=scorer_of(runner),
        lr_origins=notes("lr_origin"),
        missing_images=notes("missing_images"),
        model=cfg.get("reference_model"),
    )
    write_lines(table.splitlines())


if __name__ == "__main__":
    main()
