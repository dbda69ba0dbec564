"""Summarise the training of a network, for its card and its curves."""

from collections.abc import Mapping
from typing import Any, Final

from .selection import Log

_POINTS: Final = 200  # points of a curve
_NOT_SHOWN: Final = ("type", "pretrained", "by_epoch")  # keys of configs

Curve = list[tuple[int, float]]


def recipe(config: Any) -> dict[str, str]:
    """Summarise the config of a training for a model card.

    Args:
        config: mmengine config with `SRModel` or `SRGAN`.

    Returns:
        {name of a setting: description}, without settings that the config does not have.
    """
    loader, model = config.train_dataloader, config.model
    wrapper, schedule = config.optim_wrapper, config.param_scheduler
    wrapper = wrapper if "optimizer" in wrapper else wrapper.generator
    schedule = schedule if isinstance(schedule, list) else [schedule]
    summary = {
        "generator": _description(model.generator),
        "discriminator": _description(model.get("discriminator")),
        "pixel loss": _description(model.get("pixel_loss")),
        "content loss": _description(model.get("perceptual_loss")),
        "adversarial loss": _description(model.get("gan_loss")),
        "optimiser": _description(wrapper.optimizer),
        "gradients clipped": _description(wrapper.get("clip_grad")),
        "learning rate": "; ".join(map(_description, schedule)),
        "average of the weights": _description(model.get("ema")),
        "degradation of LR": _description(_degradation(loader)),
        "batch": f"{loader.batch_size} crops of {_crop_size(loader)} pixels (HR)",
    }
    return {name: value for name, value in summary.items() if value}


def curves(log: Log, held_out: Mapping[int, Mapping[str, float]]) -> dict[str, Curve]:
    """Return the curves of the losses and of the scores on the held-out photographs."""
    names = {name for line in log.steps.values() for name in line if name.startswith("loss_")}
    losses = {
        name: [(step, line[name]) for step, line in sorted(log.steps.items()) if name in line]
        for name in sorted(names)
    }
    scores = {
        f"held-out {name}": [(step, line[name]) for step, line in sorted(held_out.items())]
        for name in next(iter(held_out.values()), {})
    }
    return {name: _thin(curve) for name, curve in (losses | scores).items()}


def append_stage(before: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """Summarise a training that started from the weights of an earlier one.

    Args:
        before: Summary of the earlier training, which may have several stages itself. If its last
            one is `last`, by config and start, that is replaced.
        last: Summary of the last stage.

    Returns:
        `last` with the summaries of the earlier stages as `earlier`, the iterations before it as
        `start`, and the curves of all stages in one; that of another pixel loss, or of other
        targets than GT, has its name.
    """
    same = ("config", "start_sha256")
    if "start_sha256" in last and all(before.get(key) == last[key] for key in same):
        *others, previous = before["earlier"]
        start = before["start"] - previous["chosen"]
        before = {**previous, "earlier": others, "start": start, "curves": before["curves"]}
    start = before.get("start", 0) + before["chosen"]
    added = dict(last["curves"])
    first_stage = next(iter(before.get("earlier", [])), before)
    (_, before_loss), (targets, loss) = (
        [stage.get("recipe", {}).get(row, "") for row in ("targets", "pixel loss")]
        for stage in (first_stage, last)
    )
    if (targets or loss != before_loss) and "loss_pix" in added:
        other = loss.partition(",")[0] + ", other targets" * bool(targets)
        added[f"loss_pix ({other})"] = added.pop("loss_pix")
    curves = {}
    for name in before["curves"].keys() | added.keys():
        first = [(x, y) for x, y in before["curves"].get(name, []) if x <= start]
        curve = first + _thin([(start + x, y) for x, y in added.get(name, [])])
        if curve:
            curves[name] = curve
    stage = {k: v for k, v in before.items() if k not in ("curves", "earlier", "start")}
    earlier = [*before.get("earlier", []), stage]
    return {**last, "earlier": earlier, "start": start, "curves": dict(sorted(curves.items()))}


def validations(log: Log) -> dict[int, dict[str, float]]:
    """Return PSNR on the held-out photographs in a log, by iteration."""
    return {
        step: {"PSNR": value}
        for step, line in log.held_out.items()
        for name, value in line.items()
        if name.rpartition("/")[2] == "PSNR"
    }


def _thin(curve: Curve) -> Curve:
    step = max(1, -(-len(curve) // _POINTS))
    return [(iteration, round(value, 5)) for iteration, value in curve[step - 1 :: step]]


def _crop_size(loader: Any) -> Any:
    sizes = (transform.get("gt_patch_size") for transform in loader.dataset.pipeline)
    return next(size for size in sizes if size)


def _degradation(loader: Any) -> Mapping[str, Any] | None:
    return next((t for t in loader.dataset.pipeline if t["type"] == "DegradeLR"), None)


def _description(part: Mapping[str, Any] | None) -> str:
    """Format a nested config as `Type, argument value, …`, without files."""
    if not part:
        return ""
    arguments = {k: v for k, v in part.items() if k not in _NOT_SHOWN}
    listed = [f"{name} {_plain(value)}" for name, value in arguments.items()]
    return ", ".join([part["type"], *listed] if "type" in part else listed)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key} x {weight:g}" for key, weight in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
