#!/usr/bin/env python
"""`make train-zoo`: train the weights that ship, MSRResNet and then SRGAN; put them in place.

Run again, it goes on where it stopped. One at a time: two runs would write over each other.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from srgan_plugin.cli.errors import command
from srgan_plugin.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


class Place(NamedTuple):
    """What is trained, by which recipe, where."""

    name: str
    config: str
    work: Path

    @property
    def run(self) -> Path:
        """The folder of its training."""
        return self.work / Path(self.config).stem


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--photographs", type=Path, required=True, help="folder of photographs (nested or not)"
    )
    parser.add_argument(
        "--vgg", type=Path, required=True, help="VGG-19 weights of SRGAN's content loss, to conv2_2"
    )
    parser.add_argument("--cpu", action="store_true", help="the short recipes for a CPU")
    parser.add_argument(
        "--benchmarks", type=Path, help="folder of Set5, Set14, B100, Kodak24 (default: data)"
    )
    parser.add_argument(
        "--dataset-card",
        type=Path,
        help="Markdown on the photographs and their licence, for the cards (of those that made the "
        "weights that ship: docs/zoo/photographs.md)",
    )
    parser.add_argument(
        "--training-notes",
        type=Path,
        help="Markdown on what the logs do not tell of the training, for the cards (of the weights "
        "that ship: docs/zoo/note.md)",
    )
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/zoo"))
    args = parser.parse_args(argv)
    files = {
        "--vgg": args.vgg,
        "--dataset-card": args.dataset_card,
        "--training-notes": args.training_notes,
    }
    for flag, path in files.items():
        if path is not None and not path.is_file():
            parser.error(f"{flag}: expected a file, got {path}")
    return args


def check(vgg: Path, benchmarks: Path | None) -> None:
    """Find out before hours of training whether something is missing that is needed after them."""
    from zoo.scores import SETS, whole

    from srgan_plugin.data.benchmark_sets import data_root, find_benchmark
    from srgan_plugin.metrics.niqe import pristine_model
    from srgan_plugin.networks.vgg import load_vgg19

    load_vgg19(vgg, "conv2_2")
    pristine_model()
    for name in SETS:
        whole(find_benchmark(name, benchmarks or data_root()))


def say(text: str) -> None:
    """Print what happens next."""
    print(f"\n== {text}", flush=True)


def run(tool: str, *arguments: str | Path) -> None:
    """Run one of our tools as a user would."""
    line = [sys.executable, str(ROOT / "tools" / tool), *map(str, arguments)]
    if status := subprocess.run(line, check=False).returncode:
        raise UserError(f"tools/{tool} ended with status {status}; its message is above")


def prepare(photographs: Path, data: Path, *, cpu: bool) -> dict[str, int]:
    """Hold photographs out and make the store that is trained on; tell how many there are."""
    from zoo.photographs import link, split, write_pieces

    training, held_out = split(photographs)
    for name, found in (("photographs", training), ("HeldOut", held_out)):
        if not (data / name).exists():
            link(found, data / name)
        elif {path.name for path in (data / name).iterdir()} != {path.name for path in found}:
            raise UserError(
                f"{data / name} holds others than those of {photographs}: choose another --work-dir"
            )
    if cpu and not (data / "pieces_store").exists():
        if not (data / "pieces").exists():
            write_pieces(training, data / "pieces")
        run("create_store.py", data / "pieces", "--out", data / "pieces_store")
        shutil.rmtree(data / "pieces")
    if not cpu and not (data / "train").exists():
        run("create_store.py", data / "photographs", "--out", data / "train")
    return {"training": len(training), "held_out": len(held_out)}


def check_start(place: Place, start: Path) -> None:
    """Refuse to go on with, or to ship, what was trained from other weights than `start`."""
    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.io.download import sha256

    note, digest = place.run / "trained_from.sha256", sha256(start)
    if not place.run.exists():
        place.run.mkdir(parents=True)
        write_text(digest, note)
    if not note.is_file() or note.read_text() != digest:
        raise UserError(
            f"{place.run} was trained from other weights than {start}: move it away to train anew"
        )


def train(place: Place, store: Path, *options: str) -> Any:
    """Train, or go on, unless that is done; return the config."""
    from srgan_plugin.cli.configs import read_config
    from srgan_plugin.hosts.mmengine.engine.checkpoint_hook import checkpoint_name

    path = ROOT / "configs" / place.config
    config = read_config(path)
    places = [f"train_dataloader.dataset.gt={store}"]
    if config.get("val_dataloader"):
        places.append(f"val_dataloader.0.dataset.data_root={store.parent}")
    if not (place.run / checkpoint_name(config.train_cfg.max_iters)).is_file():
        run(
            "train.py", path, "--work-dir", place.run, "--resume", "--cfg-options",
            "randomness.seed=0", *places, *options,
        )  # fmt: skip
    return config


def choose(
    place: Place, held_out: Path, iterations: int
) -> tuple[Path, str, dict[int, dict[str, float]]]:
    """Choose the checkpoint by the held-out photographs; tell by what, and the measures."""
    from zoo.selection import best_by_niqe, best_by_psnr, read_log
    from zoo.training_summary import validations

    from srgan_plugin.data.benchmark_sets import find_benchmark
    from srgan_plugin.hosts.mmengine.engine.checkpoint_hook import checkpoint_name

    benchmark = find_benchmark(held_out.name, held_out.parent)
    if place.name == "msrresnet":
        best = best_by_psnr(place.run, place.run / checkpoint_name(iterations), benchmark)
        return best, "PSNR on the held-out photographs", validations(read_log(place.run))
    chosen, measures = best_by_niqe(place.run, benchmark, print)
    return chosen, "NIQE on the held-out photographs", measures


def ship(place: Place, config: Any, *, cpu: bool) -> tuple[Path, dict[str, Any]]:
    """Put the chosen weights in place; return the checkpoint, and how it came to be."""
    from zoo.selection import read_log
    from zoo.training_summary import curves, recipe

    from srgan_plugin.checkpoints.convert import convert
    from srgan_plugin.hosts.mmengine.engine.checkpoint_hook import iteration_of

    iterations = config.train_cfg.max_iters
    chosen, chosen_by, measures = choose(place, place.work / "data" / "HeldOut", iterations)
    target = ROOT / "srgan_plugin/checkpoints/weights" / f"{place.name}.safetensors"
    print("\n".join(convert(chosen, target, to="plugin", half=True).report()))
    log = read_log(place.run)
    return chosen, {
        "config": place.config,
        "gpu_config": place.config.replace("_cpu", ""),
        "cpu": cpu,
        "device": device(cpu=cpu),
        "seconds": round(log.seconds, 3),
        "hours": round(log.seconds * iterations / 3600, 2),
        "iterations": iterations,
        "chosen": iteration_of(chosen),
        "chosen_by": chosen_by,
        "recipe": recipe(config),
        "curves": curves(log, measures),
    }


def device(*, cpu: bool) -> str:
    """Name what training runs on here."""
    import torch

    if cpu or not torch.cuda.is_available():
        return f"{os.cpu_count()} CPU cores"
    return f"one {torch.cuda.get_device_name()}"


@command
def main(argv: list[str] | None = None) -> None:
    """Train and put in place."""
    args = parse_args(argv)
    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.io.text_files import read_text

    check(args.vgg, args.benchmarks)
    say("photographs: some held out, the others into a store")
    data, suffix = args.work_dir / "data", "_cpu" if args.cpu else ""
    facts: dict[str, Any] = {"photographs": prepare(args.photographs, data, cpu=args.cpu)}
    about = (
        read_text(args.dataset_card, "a dataset card")
        if args.dataset_card
        else "Their licence was not told."
    )
    facts["photographs"]["about"] = about.strip()
    facts["note"] = read_text(args.training_notes, "notes").strip() if args.training_notes else ""
    facts["models"] = {}
    options: list[str] = []
    start: Path | None = None
    for name in ("msrresnet", "srgan"):
        say(f"{name}: train, choose, put in place")
        place = Place(name, f"zoo_{name}_x4c64b16{suffix}.py", args.work_dir)
        if start is not None:
            check_start(place, start)
        config = train(place, data / ("pieces_store" if args.cpu else "train"), *options)
        start, facts["models"][name] = ship(place, config, cpu=args.cpu)
        options = [f"load_from={start}", f"model.perceptual_loss.pretrained={args.vgg}"]
    write_text(json.dumps(facts) + "\n", ROOT / "docs/zoo/training.json")
    say("measures, cards, curves, images")
    run("zoo_cards.py", *(["--benchmarks", args.benchmarks] if args.benchmarks else []))


if __name__ == "__main__":
    main()
