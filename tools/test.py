"""Test a checkpoint on the benchmark sets: `python tools/test.py CONFIG CHECKPOINT`."""

import argparse
from collections import defaultdict
from typing import Any

from srgan_plugin.cli.configs import add_config_options, load_config, require_settings
from srgan_plugin.cli.errors import command
from srgan_plugin.cli.terminal import write_note
from srgan_plugin.errors import UserError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; the flags are MMagic's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "checkpoint",
        help="a path, a URL, the name of a published model, msrresnet or srgan for the bundled "
        "weights, or 'none' for configs without weights",
    )
    parser.add_argument("--work-dir", help="where the log goes")
    parser.add_argument("--out", metavar="FILE.json", help="write the measures there")
    parser.add_argument(
        "--protocol",
        nargs="+",
        default=[],
        metavar="NAME",
        help="measure under these protocols instead of the config's: openmmlab-2020, mmagic-1.x, "
        "basicsr, paper, y (docs/protocols.md)",
    )
    parser.add_argument("--save-images", metavar="DIR", help="write the images there, SET/NAME.png")
    parser.add_argument(
        "--metric",
        nargs="+",
        default=[],
        metavar="NAME",
        help="measure these as well: NIQE, LPIPS, DISTS, or any metric registered in mmengine",
    )
    parser.add_argument(
        "--tta",
        action="store_true",
        help="predict by the mean over flipped and transposed images (x8 self-ensemble): eight "
        "times the time",
    )
    add_config_options(parser)
    return parser.parse_args(argv)


_CONFIGS = {
    name: f"configs/{name.lower()}_x4c64b16_g1_1000k_div2k.py" for name in ("MSRResNet", "SRResNet")
}


def refuse_other_network(generator: Any, checkpoint: Any) -> None:
    """Refuse a checkpoint of another network or scale than a config tests.

    Networks that are not of this package are left to loading.
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
        raise UserError(f"expected {own}, as the config has, got {found}: test it with {config}")
    if (its := found.arguments["upscale_factor"]) != scale:
        raise UserError(
            f"expected x{scale}, as the config and its test sets have, got {found}: take a config "
            f"with upscale_factor={its}"
        )


def follow_checkpoint(model: Any, location: str, *, ours: bool) -> str:
    """Make a config's model the one that a checkpoint holds, and say what that changed.

    What our networks alone can be told is refused for `ours=False`, another toolbox's model.

    Returns where the checkpoint lies on this machine; locations that only mmengine knows, such as
    `s3://`, stay as they are.
    """
    from srgan_plugin.checkpoints import generator_changes, identify, load_checkpoint_file
    from srgan_plugin.checkpoints.hub import is_fetched_here, local_checkpoint
    from srgan_plugin.checkpoints.read_write import named
    from srgan_plugin.checkpoints.recorded_args import NON_INFERABLE_ARGS

    generator = model.get("generator")
    if not is_fetched_here(location):
        return location
    path = local_checkpoint(location)
    if generator is None:
        return str(path)
    checkpoint = load_checkpoint_file(path)
    with named(path):
        refuse_other_network(generator, checkpoint)
        changes = generator_changes(generator, checkpoint)
    if changes:
        if not ours and "." not in str(generator.type) and {*changes} & {*NON_INFERABLE_ARGS}:
            raise UserError(
                f"{path} holds {identify(checkpoint)}, which the config's {generator.type} does "
                f"not compute: set model.generator.type=srgan_plugin.{generator.type}"
            )
        words = ", ".join(f"{name}={value!r}" for name, value in changes.items())
        note = f"{path} holds {identify(checkpoint)}: testing with {words}, unlike the config"
        write_note(f"NOTE: {note}")
        generator.update(changes)
    if any(str(k).startswith("generator_ema.") for k in checkpoint.get("state_dict", ())):
        which = "those" if ours else f"not those, {model.type} has no place for them"
        write_note(f"NOTE: {path} has averaged weights: testing {which}")
        if ours:
            model["ema"] = model.get("ema") or {"decay": 0.999}  # of which a test makes no use
    return str(path)


def network_name(model: Any) -> str:
    """Return the generator's type without a prefix, or the model's if it has no generator."""
    return str((model.get("generator") or model).get("type")).rpartition(".")[2]


def by_set(measured: dict[str, float]) -> dict[str, dict[str, float]]:
    """Turn `{"Set5/PSNR": …}` into `{"Set5": {"PSNR": …}}`."""
    sets: dict[str, dict[str, float]] = defaultdict(dict)
    for name, value in measured.items():
        dataset, _, measure = name.rpartition("/")
        sets[dataset or "test"][measure] = float(value)
    return dict(sets)


def measure(runner: Any) -> dict[str, float]:
    """Test; MMagic's own loop returns nothing, but mmengine's hook keeps what it measured."""
    measured: dict[str, float] | None = runner.test()
    if measured is not None:
        return measured
    scalars = runner.message_hub.log_scalars
    timing = ("test/time", "test/data_time")
    names = [name for name in scalars if name.startswith("test/") and name not in timing]
    return {name.removeprefix("test/"): scalars[name].current() for name in names}


def scorer_of(runner: Any) -> Any:
    """Return what measured in the test loop, or None where only metrics of other kinds did."""
    metrics = getattr(getattr(runner.test_loop, "evaluator", None), "metrics", ())
    return next((m.scorer for m in metrics if hasattr(m, "scorer")), None)


def choose_metrics(cfg: Any, protocols: list[str], others: list[str]) -> None:
    """Let the config's `BenchmarkMetric` measure under `protocols`, and add other metrics."""
    given = cfg.test_evaluator
    evaluators = given if isinstance(given, list) else [given]
    if "metrics" in evaluators[0]:  # as in MMagic's configs, which have one for each test set
        for evaluator in evaluators:
            evaluator["metrics"] = _chosen(evaluator["metrics"], protocols, others)
    else:
        cfg.test_evaluator = _chosen(evaluators, protocols, others)


def _chosen(metrics: list[Any], protocols: list[str], others: list[str]) -> list[Any]:
    """Return the metrics of a test set, measured under `protocols`, and others behind them."""
    prefix = {"prefix": metrics[0]["prefix"]} if "prefix" in metrics[0] else {}
    ours = [metric for metric in metrics if str(metric.get("type")).endswith("BenchmarkMetric")]
    if protocols and not ours:
        raise UserError(
            "--protocol: expected a BenchmarkMetric in the config's test_evaluator, got "
            f"{', '.join(str(metric.get('type')) for metric in metrics)}; add "
            "dict(type='srgan_plugin.BenchmarkMetric')"
        )
    for metric in ours if protocols else ():
        metric["protocols"] = protocols
    return [*metrics, *({"type": name, **prefix} for name in others)]


def choose_checkpoint(cfg: Any, location: str) -> None:
    """Set `load_from`, and the model to what that checkpoint holds; `none` is for no weights."""
    from srgan_plugin.hosts.mmengine.compat import scope_of
    from srgan_plugin.registry import SCOPE

    if location.lower() != "none":
        cfg.load_from = follow_checkpoint(cfg.model, location, ours=scope_of(cfg) == SCOPE)
    elif (network := network_name(cfg.model)) != "Bicubic":
        raise UserError(
            f"'none' is for configs without weights such as bicubic_x4.py; "
            f"{cfg.filename} has the network {network}: name a checkpoint"
        )


def keep_test_settings(cfg: Any) -> None:
    """Remove from a config what only training and validation need."""
    if "perceptual_loss" in cfg.model:
        cfg.model.perceptual_loss = None  # VGG-19's weights need not be there
    for name in (
        *("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"),
        *("val_dataloader", "val_cfg", "val_evaluator"),
    ):
        cfg[name] = None


def use_self_ensemble(cfg: Any) -> None:
    """Let the model predict by x8 self-ensemble, which only our models have."""
    from srgan_plugin.hosts.mmengine.compat import scope_of
    from srgan_plugin.registry import SCOPE

    ours = str(cfg.model.type).startswith(f"{SCOPE}.") or (
        "." not in str(cfg.model.type) and scope_of(cfg) == SCOPE
    )
    if not ours:
        raise UserError(
            f"--tta: expected a model of ours, got {cfg.model.type}: set "
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
        hint="take them from another config",
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
    print(table)


if __name__ == "__main__":
    main()
