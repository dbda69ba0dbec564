"""`make demo`: train a small MSRResNet, then SRGAN, on photographs that come with scikit-image."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from srgan_plugin.cli.errors import command
from srgan_plugin.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
TRAIN = ("astronaut.png", "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png",
         "motorcycle_right.png", "retina.jpg", "rocket.jpg")  # fmt: skip
APART = ("chelsea.png", "coffee.png")
# A telling 96x96 window of each photograph kept apart: top, left.
WINDOWS = {"chelsea": (96, 108), "coffee": (120, 220)}
SHIPPED = {"msrresnet": "MSRResNet, shipped", "srgan": "SRGAN, shipped"}
COLUMNS = ("LR", "bicubic", "MSRResNet", "SRGAN", *SHIPPED.values(), "HR")
CONFIGS = {"msrresnet": "demo_msrresnet_x4c32b6", "srgan": "demo_srgan_x4c32b6"}


def say(text: str) -> None:
    """Print what happens next."""
    print(f"\n== {text}", flush=True)


def run(tool: str, *arguments: str) -> None:
    """Run one of our tools as a user would."""
    line = [sys.executable, str(ROOT / "tools" / tool), *arguments]
    if status := subprocess.run(line, check=False).returncode:
        raise UserError(f"tools/{tool} ended with status {status}; its message is above")


def copy_photographs(work: Path) -> None:
    """Put scikit-image's photographs where the configs look for them."""
    import skimage

    from srgan_plugin.io.images import read_image
    from srgan_plugin.io.writers import write_image

    source = Path(skimage.__file__).parent / "data"
    for folder, names in (("train", TRAIN), ("test", APART)):
        for name in names:
            photograph = read_image(source / name)
            write_image((work / "photographs" / folder / name).with_suffix(".png"), photograph)


def means(scores: Sequence[Mapping[Any, float]]) -> dict[str, float]:
    """Average PSNR and SSIM over photographs."""
    return {m: sum(s[m] for s in scores) / len(scores) for m in ("PSNR", "SSIM")}


def bicubic(work: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """Score bicubic on the photographs kept apart; return LR, bicubic and GT pictures as well."""
    import numpy as np

    from srgan_plugin.data.benchmark_sets import find_benchmark
    from srgan_plugin.data.resize import imresize
    from srgan_plugin.metrics.protocol import EvaluationProtocol
    from srgan_plugin.metrics.psnr_ssim import quantize

    protocol, scores, images = EvaluationProtocol(border=4), [], {}
    pairs = find_benchmark("test", work / "photographs", 4).pairs
    for pair in (pairs[i] for i in range(len(pairs))):
        lr, gt = np.asarray(pair.lr), np.asarray(pair.gt)
        large = imresize(lr / 255, 4)
        scores.append(protocol.score(large, gt))
        images[pair.key] = {"LR": lr.repeat(4, 0).repeat(4, 1), "HR": gt}
        images[pair.key]["bicubic"] = quantize(large)
    return means(scores), images


def train_and_test(name: str, work: Path, *options: str) -> dict[str, float]:
    """Train one of the demo's configs and return its scores."""
    from srgan_plugin.hosts.mmengine.engine.checkpoint_hook import last_checkpoint

    config, folder = str(ROOT / "configs" / f"{CONFIGS[name]}.py"), work / name
    run("train.py", config, "--work-dir", str(folder), "--cfg-options", *options)
    checkpoint = last_checkpoint(folder)
    out = folder / "test.json"
    images = str(folder / "images")
    run("test.py", config, checkpoint, "--work-dir", str(folder), "--out", str(out),
        "--save-images", images, "--cfg-options", f"test_dataloader.0.dataset.data_root={work}/photographs")  # fmt: skip # noqa: E501
    scores = json.loads(out.read_text())["test"]
    return {measure: scores[measure] for measure in ("PSNR", "SSIM")}


def shipped(images: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Add what the weights that ship make of the photographs kept apart; return their scores."""
    import numpy as np

    from srgan_plugin.inference import Upscaler, open_model
    from srgan_plugin.metrics.protocol import EvaluationProtocol

    protocol, results = EvaluationProtocol(border=4), {}
    for name, upscale in {name: Upscaler(open_model(name)) for name in SHIPPED}.items():
        scores = []
        for row in images.values():
            row[SHIPPED[name]] = upscale(np.ascontiguousarray(row["LR"][::4, ::4]))
            scores.append(protocol.score(row[SHIPPED[name]], row["HR"]))
        results[f"{name}, shipped"] = means(scores)
    return results


def draw_comparison(rows: dict[str, dict[str, Any]], target: Path) -> None:
    """Write one labelled row of enlarged windows for each photograph."""
    from srgan_plugin.io.writers import write_image
    from srgan_plugin.reports.contact_sheet import Region, sheet

    lines = [
        {n: Region(*WINDOWS[name], 96, 96).of(images[n]) for n in COLUMNS if n in images}
        for name, images in rows.items()
    ]
    write_image(target, sheet(lines, zoom=3))


@command
def main(argv: list[str] | None = None) -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/demo"))
    work = parser.parse_args(argv).work_dir
    started = time.monotonic()
    say("photographs from scikit-image, and an uncompressed LMDB store of those for training")
    copy_photographs(work)
    run("create_store.py", str(work / "photographs/train"), "--out", str(work / "store"), "--force")
    results = {}
    results["bicubic"], images = bicubic(work)
    store = f"train_dataloader.dataset.gt={work}/store"

    say("MSRResNet: 32 features, 6 blocks, L1 loss")
    results["msrresnet"] = train_and_test("msrresnet", work, store)

    from srgan_plugin.hosts.mmengine.engine.checkpoint_hook import last_checkpoint
    from srgan_plugin.networks.vgg import torchvision_file

    with_content = torchvision_file().is_file()
    say(
        "SRGAN from it, with the VGG-19 content loss"
        if with_content
        else "SRGAN from it, WITHOUT the VGG-19 content loss: its weights are not at hand (put "
        f"{torchvision_file().name} into {torchvision_file().parent}); expect more noise than "
        "texture"
    )
    options = [] if with_content else ["model.perceptual_loss=None"]
    options = [f"load_from={last_checkpoint(work / 'msrresnet')}", *options]
    results["srgan"] = train_and_test("srgan", work, store, *options)

    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.io.images import read_image

    for name, row in images.items():
        for label, folder in (("MSRResNet", "msrresnet"), ("SRGAN", "srgan")):
            row[label] = read_image(work / folder / "images" / "test" / f"{name}.png")
    say("the weights that ship, which learned from other photographs, on the same two")
    try:
        results |= shipped(images)
    except FileNotFoundError as error:
        say(f"left out: {error}")
    draw_comparison(images, work / "comparison.png")
    write_text(json.dumps(results, indent=2) + "\n", work / "results.json")
    say(f"done in {time.monotonic() - started:.0f} s; PSNR and SSIM (RGB) on {', '.join(APART)}")
    for name, scores in results.items():
        print(f"{name:18s} {scores['PSNR']:7.3f} dB  {scores['SSIM']:.4f}")
    print(f"look at {work}/comparison.png; numbers in {work}/results.json")


if __name__ == "__main__":
    main()
