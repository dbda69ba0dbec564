"""Upscale two photographs by the bundled weights, then run a short training (`make demo`).

The photographs are from scikit-image. The training is a smoke test of the installation; its
networks are trained too little to be useful.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.parser import Parser
from srgan_plugin.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
TRAIN = ("astronaut.png", "hubble_deep_field.jpg", "ihc.png", "motorcycle_left.png",
         "motorcycle_right.png", "retina.jpg", "rocket.jpg")  # fmt: skip
APART = ("chelsea.png", "coffee.png")
# A 96x96 window with visible differences of each test image: top, left.
WINDOWS = {"chelsea": (96, 108), "coffee": (120, 220)}
BUNDLED = {"msrresnet": "MSRResNet", "srgan": "SRGAN"}
COLUMNS = ("LR", "bicubic", *BUNDLED.values(), "HR")
CONFIGS = {"msrresnet": "demo_msrresnet_x4c32b6", "srgan": "demo_srgan_x4c32b6"}


def say(text: str) -> None:
    """Print a heading of the next step."""
    print(f"\n== {text}", flush=True)


def run(tool: str, *arguments: str) -> None:
    """Run a script of tools/ in a process.

    Raises:
        UserError: The script failed.
    """
    line = [sys.executable, str(ROOT / "tools" / tool), *arguments]
    if status := subprocess.run(line, check=False).returncode:
        raise UserError(f"tools/{tool}: expected status 0, got {status}; its message is above")


def copy_photographs(work: Path) -> None:
    """Copy the photographs of scikit-image to the folders in the configs."""
    import skimage

    from srgan_plugin.io.images import read_image
    from srgan_plugin.io.writers import write_image

    source = Path(skimage.__file__).parent / "data"
    for folder, names in (("train", TRAIN), ("test", APART)):
        for name in names:
            photograph = read_image(source / name)
            write_image((work / "photographs" / folder / name).with_suffix(".png"), photograph)


def upscale_photographs(work: Path) -> tuple[dict[str, dict[str, float]], list[dict[str, Any]]]:
    """Upscale the test images.

    Returns:
        The scores of bicubic and of the bundled weights, and a row of images for each test image.
    """
    import numpy as np

    from srgan_plugin.data.benchmark_sets import find_benchmark
    from srgan_plugin.data.resize import imresize
    from srgan_plugin.inference import Upscaler, open_model
    from srgan_plugin.metrics import Scorer, average, quantize
    from srgan_plugin.reports.contact_sheet import Region

    methods: dict[str, Callable[[Any], Any]] = {
        "bicubic": lambda lr: quantize(imresize(lr / 255, 4))
    }
    for model, label in BUNDLED.items():
        try:
            methods[label] = Upscaler(open_model(model))
        except FileNotFoundError as error:
            say(f"skipped: {error}")
    scorer, rows = Scorer(["basicsr"], border=4), []
    scores: dict[str, list[Mapping[Any, float]]] = {label: [] for label in methods}
    pairs = find_benchmark("test", work / "photographs", 4).pairs
    for pair in (pairs[i] for i in range(len(pairs))):
        lr, gt = np.asarray(pair.lr), np.asarray(pair.gt)
        row = {"LR": lr.repeat(4, 0).repeat(4, 1), "HR": gt}
        for label, method in methods.items():
            row[label] = method(lr)
            scores[label].append(scorer.score(row[label], gt))
        window = Region(*WINDOWS[pair.key], 96, 96)
        rows.append({label: window.of(row[label]) for label in COLUMNS if label in row})
    return {label: average(each) for label, each in scores.items()}, rows


def train_and_test(name: str, work: Path, *options: str) -> dict[str, float]:
    """Train one of the demo's configs and return its scores.

    Args:
        name: Name in `CONFIGS`.
        work: Folder of the demo.
        options: Arguments of `--cfg-options` of the training.
    """
    from srgan_plugin.hosts.mmengine.engine.checkpoint_files import last_checkpoint

    config, folder = str(ROOT / "configs" / f"{CONFIGS[name]}.py"), work / name
    run("train.py", config, "--work-dir", str(folder), "--cfg-options", *options)
    checkpoint = last_checkpoint(folder)
    out = folder / "test.json"
    images = str(folder / "images")
    run("test.py", config, checkpoint, "--work-dir", str(folder), "--out", str(out),
        "--save-images", images, "--cfg-options", f"test_dataloader.0.dataset.data_root={work}/photographs")  # fmt: skip # noqa: E501
    scores = json.loads(out.read_text())["test"]
    return {metric: scores[metric] for metric in ("PSNR", "SSIM")}


def print_scores(results: Mapping[str, Mapping[str, float]]) -> None:
    """Print a line for each method."""
    for name, scores in results.items():
        print(f"  {name:24s} {scores['PSNR']:7.3f} dB  {scores['SSIM']:.4f}")


def smoke_test(work: Path) -> dict[str, dict[str, float]]:
    """Train and test MSRResNet and SRGAN for a few steps; return their scores."""
    from srgan_plugin.hosts.mmengine.engine.checkpoint_files import last_checkpoint
    from srgan_plugin.networks.vgg import torchvision_file

    run("create_store.py", str(work / "photographs/train"), "--out", str(work / "store"), "--force")
    store = f"train_dataloader.dataset.gt={work}/store"
    say("smoke test: MSRResNet, 32 features, 6 blocks, 320 steps of L1")
    results = {"MSRResNet, 320 steps": train_and_test("msrresnet", work, store)}
    options = [store, f"load_from={last_checkpoint(work / 'msrresnet')}"]
    content = "with the VGG-19 content loss"
    if not torchvision_file().is_file():
        options.append("model.perceptual_loss=None")
        content = f"WITHOUT the VGG-19 content loss: {torchvision_file()} is missing"
    say(f"smoke test: SRGAN from it, 30 steps, {content}")
    return results | {"SRGAN, 30 steps": train_and_test("srgan", work, *options)}


@command
def main(argv: list[str] | None = None) -> None:
    """Run the demo."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/demo"))
    work = parser.parse_args(argv).work_dir
    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.io.writers import write_image
    from srgan_plugin.reports.contact_sheet import sheet

    started = time.monotonic()
    copy_photographs(work)
    say(f"x4 by the bundled weights: {', '.join(APART)} of scikit-image, PSNR and SSIM over RGB")
    results, rows = upscale_photographs(work)
    write_image(work / "comparison.png", sheet(rows, zoom=3))
    print_scores(results)
    print(f"images: {work}/comparison.png")
    trained = smoke_test(work)
    write_text(json.dumps(results | trained, indent=2) + "\n", work / "results.json")
    say(
        f"done in {time.monotonic() - started:.0f} s; the smoke test's networks, on the same images"
    )
    print_scores(trained)
    print(
        "everything works; for useful networks, train configs/msrresnet_x4c64b16_g1_1000k_div2k.py"
        f"\nimages: {work}/comparison.png; scores: {work}/results.json"
    )


if __name__ == "__main__":
    main()
