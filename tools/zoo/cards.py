"""Model cards of the bundled weights, from the summary of their training and their scores."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from srgan_plugin.metrics import reference_results

from .scores import JPEG_QUALITY, ORIGINAL, Scores
from .tables import LABELS, Sets, conditions, full_table, short_table, table

#: Rows of OpenMMLab's table, and how those networks were trained.
PUBLISHED: Final = {
    "msrresnet": (
        "msrresnet_x4c64b16_1x16_300k_div2k",
        "300,000 iterations of 16 crops of 128 pixels on DIV2K",
    ),
    "srgan": (
        "srgan_x4c64b16_1x16_1000k_div2k",
        "a content loss on VGG-19's conv5_4; 400,000 iterations on DIV2K, 1,000,000 by its name",
    ),
}
AIM: Final = 3  # dB above bicubic on Set5, of MSRResNet
SHIFT: Final = 2  # levels of 255
LOSS: Final = 0.3  # dB below MSRResNet on clean LR images, of photo
_WHAT: Final = {
    "msrresnet": "Trained for the smallest error; detail that is not in the input remains soft.",
    "srgan": "The same network, trained further from `msrresnet` to look natural: it adds texture.",
    "photo": "MSRResNet, trained further on LR images with blur, noise and JPEG compression of "
    "quality 40 to 95: for photographs as people have them. On those it has some of the texture "
    "that SRGAN invents, on clean ones it is near MSRResNet.",
}
_LICENCE: Final = """\
The weights were trained on {training} photographs, and {held_out} others were held out to choose
the checkpoint.

{about}"""


def card(name: str, results: Mapping[str, Any], training_summary: Mapping[str, Any]) -> str:
    """Format the model card of a network as Markdown.

    Args:
        name: "msrresnet", "srgan" or "photo".
        results: `docs/zoo/results.json`: sets, jpeg, weights and lr_origins.
        training_summary: `docs/zoo/training.json`: photographs, models by name, and notes.

    Returns:
        The page, with a newline at its end.
    """
    training = training_summary["models"][name]
    weights = results["weights"][name]
    parts = {
        f"# {LABELS[name]} x4": f"`srgan-plugin upscale photo.jpg photo_x4.png --model {name}`\n\n"
        f"{_WHAT[name]} {weights['parameters']:,} parameters in half precision, "
        f"{weights['bytes'] / 1e6:.1f} MB, SHA-256 `{weights['sha256']}`.\n\n"
        f"**{how(name, training)}**",
        "## Data and licence": _LICENCE.format(**training_summary["photographs"]),
        "## Training": _training(name, training, training_summary.get("note", "")),
        "## Measured": _format_measured(name, results),
        "## What was reached, and what was not": format_aims(
            name, results["sets"], results["jpeg"]
        ),
    }
    return "\n\n".join(f"{title}\n\n{text}" for title, text in parts.items()) + "\n"


def how(name: str, training: Mapping[str, Any]) -> str:
    """Describe duration and device of a training in one or two sentences."""
    first = f"Trained on {_effort(training)}"
    if not training["cpu"]:
        return f"{first}."
    published = f", not the published schedule ({PUBLISHED[name][1]})" if name in PUBLISHED else ""
    return (
        f"{first}; this is a short schedule for a CPU{published}. The recipe for a GPU, not run "
        f"yet, is `configs/{training['gpu_config']}`."
    )


def format_aims(name: str, sets: Sets, jpeg: Sets) -> str:
    """Format the aims, and by how much each was reached or missed, as a list.

    Args:
        name: "msrresnet", "srgan" or "photo".
        sets: Scores by test set and method.
        jpeg: The same for LR images that were compressed before; for "photo" only.

    Returns:
        A line for each aim, as Markdown.
    """
    lines = _against_published(name, sets)
    if name == "msrresnet":
        gains = {s: _gain(scores, name, "bicubic", "PSNR") for s, scores in sets.items()}
        listed = ", ".join(f"{gain:+.2f} dB on {s}" for s, gain in gains.items())
        aim = _verdict(gains.get("Set5", 0) >= AIM)
        lines.append(f"PSNR (RGB) against bicubic: {listed}; aim of {AIM} dB on Set5: {aim}.")
    elif name == "srgan":
        lines.append(_naturalness(sets))
    else:
        lines += _against_clean(sets, jpeg)
    shift = max(scores[name]["colour_shift"] for scores in sets.values())
    boards = [
        f"{scores[name]['checkerboard']:.2f} on {s} (originals {scores['HR']['checkerboard']:.2f})"
        for s, scores in sets.items()
    ]
    lines.append(
        f"Colour shift: at most {shift:.2f} levels of 255, on the worst image; aim of "
        f"{SHIFT}: {_verdict(shift <= SHIFT)}."
    )
    regular = [s[name]["checkerboard"] <= s[ORIGINAL]["checkerboard"] for s in sets.values()]
    lines.append(
        f"Checkerboard, in levels: {', '.join(boards)}; aim of at most that of the originals: "
        f"{_verdict(all(regular))}."
    )
    return "\n".join(f"* {line}" for line in lines)


def readme(results: Mapping[str, Any], training_summary: Mapping[str, Any]) -> str:
    """Format the section of the README about the weights: image, table, training."""
    models = training_summary["models"]
    efforts = ", ".join(f"{LABELS[name]} on {_effort(models[name])}" for name in models)
    *first, last = (f"[{LABELS[n]}](srgan_plugin/checkpoints/weights/{n}.md)" for n in models)
    cards = f"{', '.join(first)} and {last}" if first else last
    short = (
        "These are short schedules for a CPU, not the published ones; `make train-zoo` has recipes "
        "for a GPU, too. "
    )
    shift = max(scores["srgan"]["colour_shift"] for scores in results["sets"].values())
    methods = [name for name in LABELS if name != "photo"]
    blind = "`--model photo` is for JPEG blocks and noise. " if "photo" in models else ""
    off = f"SRGAN shifts colours by up to {shift:.0f} levels of 255. " if shift > SHIFT else ""
    sections = (
        f"x4; PSNR higher, NIQE lower is better. Trained: {efforts}. "
        f"{short if any(models[name]['cpu'] for name in models) else ''}"
        f"{off}{blind}All scores, data, licence and missed aims are on the cards: {cards}."
    )
    return (
        "![bicubic, MSRResNet, SRGAN and the original](docs/zoo/before_after.webp)\n\n"
        f"{short_table(results['sets'], methods)}\n\n"
        f"{textwrap.fill(sections, 100, break_long_words=False, break_on_hyphens=False)}"
    )


def _stages(training: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the summaries of all stages of a training, in their order."""
    return [*training.get("earlier", []), training]


def _effort(training: Mapping[str, Any]) -> str:
    stages = _stages(training)
    hours = sum(stage["hours"] for stage in stages)
    *first, last = (f"{stage['iterations']:,}" for stage in stages)
    iterations = f"stages of {', '.join(first)} and {last}" if first else last
    return f"{training['device']} for {hours:.1f} hours ({iterations} iterations)"


def _format_measured(name: str, results: Mapping[str, Any]) -> str:
    sections = [full_table(results["sets"]), conditions(results["lr_origins"])]
    if name == "photo":
        jpeg = results["jpeg"]
        sections += [
            f"LR compressed as JPEG of quality {JPEG_QUALITY} (chroma 4:2:0):",
            short_table(jpeg, next(iter(jpeg.values()))),
            f"![bicubic, MSRResNet, photo and the original, of JPEG of quality {JPEG_QUALITY}]"
            "(../../../docs/zoo/photo.webp)",
        ]
    return "\n\n".join(sections)


def _training(name: str, training: Mapping[str, Any], note: str) -> str:
    stages = _stages(training)
    sections = []
    for number, stage in enumerate(stages, 1):
        if len(stages) > 1:
            sections.append(f"Stage {number} of {len(stages)}:")
        sections.append(_stage_table(stage))
    recipe = f"--photographs FOLDER --vgg FILE --network {name}{' --cpu' * training['cpu']}"
    flags = [f"`--{Path(stage['config']).stem.rpartition('_')[2]}`" for stage in stages[1:]]
    listed = " and ".join(filter(None, [", ".join(flags[:-1]), *flags[-1:]]))
    more = f", and then with {listed} those of the later stages" if flags else ""
    repeat = f'`make train-zoo ARGS="{recipe}"` repeats the recipe{more}.'
    curves = f"![training curves](../../../docs/zoo/{name}.svg)"
    return "\n\n".join(filter(None, [*sections, note, repeat, curves]))


def _stage_table(stage: Mapping[str, Any]) -> str:
    rows = [["", ""], ["config", f"`configs/{stage['config']}`"]]
    rows += [[key, value] for key, value in stage["recipe"].items()]
    rows += [
        ["iterations", f"{stage['iterations']:,}, {stage['seconds']} s each"],
        ["time", f"{stage['hours']} hours on {stage['device']}, without validation"],
        ["chosen", f"iteration {stage['chosen']:,}, by {stage['chosen_by']}"],
    ]
    return table(rows)


def _against_published(name: str, sets: Sets) -> list[str]:
    lines = []
    for dataset, scores in sets.items() if name in PUBLISHED else ():
        published = reference_results(PUBLISHED[name][0], dataset)
        if not published:
            continue
        own, value = scores[name], {function: entry.value for function, entry in published.items()}
        difference = own["PSNR"] - value["PSNR"]
        # SRGAN has other losses than the published one, and its aim is not PSNR.
        verdict = f": {_verdict(difference >= 0)}" if name == "msrresnet" else ""
        lines.append(
            f"{dataset}: {own['PSNR']:.4f} dB (RGB), published {value['PSNR']:.4f} dB, "
            f"{difference:+.2f} dB{verdict}. SSIM of the blue channel, as published: "
            f"{own['SSIM_B']:.4f}, published {value['SSIM']:.4f}, "
            f"{own['SSIM_B'] - value['SSIM']:+.4f}; of RGB: {own['SSIM']:.4f}."
        )
    return lines


def _against_clean(sets: Sets, jpeg: Sets) -> list[str]:
    """Compare `photo` with MSRResNet on clean LR images, and with it and bicubic on JPEG."""
    losses = {name: -_gain(scores, "photo", "msrresnet", "PSNR") for name, scores in sets.items()}
    listed = ", ".join(f"{loss:.2f} dB on {name}" for name, loss in losses.items())
    lines = [
        f"Clean LR images, PSNR (RGB) below that of MSRResNet: {listed}; aim of at most {LOSS} dB: "
        f"{_verdict(max(losses.values()) <= LOSS)}."
    ]
    for metric, unit, sign in (("PSNR", " dB", 1), ("NIQE", "", -1)):
        for other in ("bicubic", "msrresnet"):
            gains = {name: _gain(scores, "photo", other, metric) for name, scores in jpeg.items()}
            listed = ", ".join(f"{gain:+.2f}{unit} on {name}" for name, gain in gains.items())
            met = all(sign * gain > 0 for gain in gains.values())
            lines.append(
                f"JPEG of quality {JPEG_QUALITY}, {metric} against {LABELS[other]}: {listed}; aim "
                f"of {'more' if sign > 0 else 'less'} on every set: {_verdict(met)}."
            )
    return lines


def _naturalness(sets: Sets) -> str:
    gains = {name: _gain(scores, "srgan", "msrresnet", "NIQE") for name, scores in sets.items()}
    listed = ", ".join(f"{gain:+.2f} on {name}" for name, gain in gains.items())
    better = sum(gain < 0 for gain in gains.values())
    return (
        f"NIQE against that of MSRResNet (lower is better): {listed}: better on {better} of "
        f"{len(gains)} sets."
    )


def _verdict(met: bool) -> str:
    return "reached" if met else "not reached"


def _gain(scores: Mapping[str, Scores], name: str, other: str, metric: str) -> float:
    return scores[name][metric] - scores[other][metric]
