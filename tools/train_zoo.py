#!/usr/bin/env python
"""Train the bundled weights, MSRResNet and then the others, or one of them (`make train-zoo`).

A second run resumes the first. Do not run two at a time, because they write to the same files.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srgan_plugin.cli.errors import command
from srgan_plugin.cli.parser import Parser
from srgan_plugin.errors import UserError

if TYPE_CHECKING:
    from zoo.bundling import Training

ROOT = Path(__file__).resolve().parent.parent
#: In the order of their training; the others start from the first.
NETWORKS = ("msrresnet", "srgan", "photo")
#: Options that train a bundled network further, and their data in addition to the pieces.
FURTHER = {
    "finetune": "",
    "distill": ", towards outputs of networks",
    "augment": ", on downscaled and rotated copies of the photographs as well",
    "soap": ", by SOAP, on more copies",
}
#: Arguments of `write_copies` by the option that trains on copies.
COPIES: dict[str, dict[str, Any]] = {
    "augment": {},
    "soap": {"count": 15, "originals": True},
}
#: Copies that the short recipe of a network is on.
CPU_COPIES = {"photo": "soap"}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--photographs", type=Path, required=True, help="folder of photographs (nested or not)"
    )
    parser.add_argument(
        "--vgg", type=Path, required=True, help="VGG-19 weights down to conv2_2, for SRGAN"
    )
    parser.add_argument(
        "--network",
        choices=NETWORKS,
        help="train this network only (srgan and photo from the bundled MSRResNet) and keep the "
        "weights and records of the others and, unless given again, the texts (default: all)",
    )
    parser.add_argument("--cpu", action="store_true", help="use the short recipes for a CPU")
    further = parser.add_mutually_exclusive_group()
    for name, data in FURTHER.items():
        further.add_argument(
            f"--{name}",
            action="store_true",
            help=f"train the bundled network further, by the recipe configs/zoo_NETWORK_…_{name}.py"
            f"{data} (with --network)",
        )
    parser.add_argument(
        "--benchmarks", type=Path, help="folder of Set5, Set14, B100, Kodak24 (default: data)"
    )
    parser.add_argument(
        "--dataset-card",
        type=Path,
        help="Markdown about the photographs and their licence, for the model cards (that of the "
        "bundled weights: docs/zoo/photographs.md); required if --network is trained on another "
        "number of photographs",
    )
    parser.add_argument(
        "--training-notes",
        type=Path,
        help="Markdown about the training that the logs do not contain, for the model cards (that "
        "of the bundled weights: docs/zoo/note.md)",
    )
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/zoo"))
    args = parser.parse_args(argv)
    args.further = next((name for name in FURTHER if getattr(args, name)), None)
    if args.further and not args.network:
        parser.error(f"--{args.further}: expected --network NAME beside it, got none")
    files = {
        "--vgg": args.vgg,
        "--dataset-card": args.dataset_card,
        "--training-notes": args.training_notes,
    }
    for flag, path in files.items():
        if path is not None and not path.is_file():
            parser.error(f"{flag}: expected a file, got {path}")
    return args


def check(
    vgg: Path, benchmarks: Path | None, network: str | None = None, further: str | None = None
) -> None:
    """Check before the training that all files which are needed after it exist.

    Args:
        vgg: VGG-19's weights.
        benchmarks: Folder of the test sets; None for the data root.
        network: Network that is trained; None for all.
        further: Option that trains it further.

    Raises:
        UserError: A file is missing or incomplete.
    """
    from zoo.scores import SETS, require_complete

    from srgan_plugin.checkpoints.hub import local_checkpoint
    from srgan_plugin.data.benchmark_sets import data_root, find_benchmark
    from srgan_plugin.metrics.niqe import pristine_model
    from srgan_plugin.networks.vgg import load_vgg19

    load_vgg19(vgg, "conv2_2")
    pristine_model()
    for name in SETS:
        require_complete(find_benchmark(name, benchmarks or data_root()))
    if network == "photo":
        local_checkpoint("msrresnet" if further else "srgan")


def say(text: str) -> None:
    """Print a heading of the next step."""
    print(f"\n== {text}", flush=True)


def run(tool: str, *arguments: str | Path) -> None:
    """Run a script of tools/ in a process."""
    line = [sys.executable, str(ROOT / "tools" / tool), *map(str, arguments)]
    if status := subprocess.run(line, check=False).returncode:
        raise UserError(f"tools/{tool}: expected status 0, got {status}; its message is above")


def prepare(photographs: Path, data: Path, *, cpu: bool) -> dict[str, int]:
    """Hold out photographs and make the training store.

    Args:
        photographs: Folder of photographs.
        data: Folder to write to.
        cpu: Whether to train on pieces of photographs, as the recipes for a CPU do.

    Returns:
        Number of photographs for training and of held-out ones.
    """
    from zoo.photographs import link, split, write_pieces

    training, held_out = split(photographs)
    for name, found in (("photographs", training), ("HeldOut", held_out)):
        made = data / name
        if not made.exists():
            link(found, made)
        elif {path.name for path in made.iterdir()} != {path.name for path in found}:
            raise UserError(
                f"{made}: expected the photographs of {photographs}, got others; use "
                "another --work-dir"
            )
        elif not all(path.exists() for path in made.iterdir()):  # they were moved
            shutil.rmtree(made)
            link(found, made)
    if cpu and not (data / "pieces_store").exists():
        if not (data / "pieces").exists():
            write_pieces(training, data / "pieces")
        run("create_store.py", data / "pieces", "--out", data / "pieces_store")
        shutil.rmtree(data / "pieces")
    if not cpu and not (data / "train").exists():
        run("create_store.py", data / "photographs", "--out", data / "train")
    return {"training": len(training), "held_out": len(held_out)}


def check_summary(training_summary: Any, path: Path, network: str | None) -> None:
    """Check a summary of earlier trainings.

    Args:
        training_summary: Content of the file.
        path: The file.
        network: Network that is trained further; None if none is.

    Raises:
        UserError: The content is of another file, or has no training of `network`.
    """
    is_summary = isinstance(training_summary, dict) and all(
        isinstance(training_summary.get(key), dict) for key in ("photographs", "models")
    )
    if not is_summary or (network and network not in training_summary["models"]):
        expected = f"one with the training of {network}" if network else "one of this tool"
        raise UserError(
            f"{path}: expected a summary of trainings, {expected}, got another; train without "
            "--network, or restore the file"
        )


def describe(
    training_summary: dict[str, Any], counts: dict[str, int], card: Path | None, notes: Path | None
) -> None:
    """Put the photographs, and the texts about them and the training, into the summary.

    Args:
        training_summary: Summary of trainings, changed in place.
        counts: Numbers of photographs, as returned by `prepare`.
        card: File of the text about the photographs; None keeps the text in the summary.
        notes: File of the text about the training; None keeps the text in the summary.

    Raises:
        UserError: The summary describes other photographs, and `card` is None.
    """
    from srgan_plugin.io.text_files import read_text

    photographs = training_summary["photographs"]
    if photographs and not card and not counts.items() <= photographs.items():
        expected, got = (
            ", ".join(f"{name} {of.get(name)}" for name in counts) for of in (photographs, counts)
        )
        raise UserError(
            f"--photographs: expected those of the earlier training ({expected}), got others "
            f"({got}); add --dataset-card FILE about the photographs of all networks"
        )
    photographs |= counts
    if card:
        photographs["about"] = read_text(card, "a dataset card").strip()
    photographs.setdefault("about", "Their licence is not recorded.")
    if notes:
        training_summary["note"] = read_text(notes, "notes").strip()


def make_targets(start: Path, store: Path, training: "Training", clean_weights: Path) -> Path:
    """Make the store of targets, unless it exists.

    Args:
        start: Weights of the network whose outputs are the targets.
        store: Training store.
        training: The training.
        clean_weights: Weights of the network for targets of clean LR images, for `photo`.

    Returns:
        Folder of the store, whose name has a hash of what the targets depend on.
    """
    from zoo.distillation import write_restored_targets, write_targets

    from srgan_plugin.cli.configs import read_config
    from srgan_plugin.data.degradation import check_degradation
    from srgan_plugin.inference import Upscaler, open_model
    from srgan_plugin.io.download import sha256

    parts = [store, sha256(start)]
    if training.name == "photo":
        values = dict(read_config(ROOT / "configs" / training.config).target_degradation)
        values.pop("type")
        params = check_degradation(values)
        parts += [sha256(clean_weights), params]
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:8]
    targets = training.run / f"targets_{digest}_store"
    if targets.exists():
        return targets
    if training.name == "photo":
        restore, upscale = (Upscaler(str(path)) for path in (start, clean_weights))
        write_restored_targets(restore, upscale, params, store, targets)
    else:
        write_targets(open_model(str(start)), store, targets)
    return targets


def make_copies(data: Path, option: str) -> Path:
    """Make the store of the photographs' copies, unless it exists.

    Args:
        data: Folder that `prepare` wrote to.
        option: Option that trains on them, a key of `COPIES`.

    Returns:
        Folder of the store.
    """
    from zoo.augmentation import write_copies

    store, pieces = data / f"{option}_store", data / f"{option}_pieces"
    if not store.exists():
        if not pieces.exists():
            photographs = sorted((data / "photographs").iterdir())
            write_copies(photographs, pieces, **COPIES[option])
        run("create_store.py", pieces, "--out", store)
        shutil.rmtree(pieces)
    return store


def train(training: "Training", store: Path, *options: str) -> Any:
    """Train, or resume the training, unless it is complete; return the config."""
    from srgan_plugin.cli.configs import read_config
    from srgan_plugin.hosts.mmengine.engine.checkpoint_files import checkpoint_name

    path = ROOT / "configs" / training.config
    config = read_config(path)
    paths = [f"train_dataloader.dataset.gt={store}"]
    if config.get("val_dataloader"):
        paths.append(f"val_dataloader.0.dataset.data_root={training.work / 'data'}")
    if not (training.run / checkpoint_name(config.train_cfg.max_iters)).is_file():
        run(
            "train.py", path, "--work-dir", training.run, "--resume", "--cfg-options",
            "randomness.seed=0", *paths, *options,
        )  # fmt: skip
    return config


@command
def main(argv: list[str] | None = None) -> None:
    """Train the networks and bundle their weights."""
    args = parse_args(argv)
    from zoo.bundling import Training, bundle, keep_start
    from zoo.training_summary import append_stage

    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.io.text_files import read_json

    suffix = "_cpu" * args.cpu + (f"_{args.further}" if args.further else "")
    trainings = [
        Training(
            name,
            f"zoo_{name}_x4c64b16{suffix}.py",
            args.work_dir,
            args.further,
            args.further if args.further in COPIES else CPU_COPIES.get(name) if args.cpu else None,
        )
        for name in ([args.network] if args.network else NETWORKS)
    ]
    for training in trainings:
        if not (ROOT / "configs" / training.config).is_file():
            found = sorted((ROOT / "configs").glob(f"zoo_*_{args.further}.py"))
            raise UserError(
                f"--{args.further}: expected the recipe configs/{training.config}, got no such "
                f"file, but {', '.join(path.name for path in found)}; choose --network and --cpu "
                "as in one of them, or write it"
            )
    check(args.vgg, args.benchmarks, args.network, args.further)
    records = ROOT / "docs/zoo/training.json"
    training_summary: dict[str, Any] = {"photographs": {}, "note": "", "models": {}}
    if args.network:
        training_summary = read_json(records, "a summary of earlier trainings")
        check_summary(training_summary, records, args.network if args.further else None)
    say("photographs: some held out, the others into a store")
    data = args.work_dir / "data"
    counts = prepare(args.photographs, data, cpu=args.cpu)
    describe(training_summary, counts, args.dataset_card, args.training_notes)
    weights = ROOT / "srgan_plugin/checkpoints/weights"
    first = weights / f"{NETWORKS[0]}.safetensors"
    for training in trainings:
        name = training.name
        say(f"{name}: train, choose a checkpoint, bundle it")
        start = weights / f"{name}.safetensors" if args.further else first
        store = data / ("pieces_store" if args.cpu else "train")
        options: list[str] = []
        if name != NETWORKS[0] or args.further:
            start = keep_start(training, start)
            options.append(f"load_from={start}")
        if training.copies:
            store = make_copies(data, training.copies)
        if args.distill:
            store = make_targets(start, store, training, first)
        if name == "srgan":
            options.append(f"model.perceptual_loss.pretrained={args.vgg}")
        config = train(training, store, *options)
        chosen, summary = bundle(training, config, start, weights, cpu=args.cpu)
        if name == NETWORKS[0]:
            first = chosen
        if args.further:
            summary = append_stage(training_summary["models"][name], summary)
        training_summary["models"][name] = summary
    write_text(json.dumps(training_summary) + "\n", records)
    say("scores, cards, curves, images")
    run("zoo_cards.py", *(["--benchmarks", args.benchmarks] if args.benchmarks else []))


if __name__ == "__main__":
    main()
