#!/usr/bin/env python
"""Measure published, bundled and other models on all test sets, beside published values.

python tools/make_table.py --checkpoint srresnet=work_dirs/srresnet/iter_1000000.pth
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from srgan_plugin.cli.errors import command, one_line
from srgan_plugin.cli.parser import Parser
from srgan_plugin.cli.progress import progress_bar
from srgan_plugin.errors import MissingFileError, UserError, prefix_errors

SCALE = 4
#: The bundled networks, and the published model that each is compared with.
BUNDLED = {
    "msrresnet": "msrresnet_x4c64b16_1x16_300k_div2k",
    "srgan": "srgan_x4c64b16_1x16_1000k_div2k",
}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--checkpoint",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FILE",
        help="measure this file as NAME, a row of the tables or any other name",
    )
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of NAME.json")
    parser.add_argument(
        "--sets",
        nargs="+",
        default=["Set5", "Set14", "B100", "DIV2K"],
        metavar="NAME",
        help="test sets (default: Set5 Set14 B100 DIV2K)",
    )
    parser.add_argument("--offline", action="store_true", help="download nothing")
    parser.add_argument("--no-bundled", action="store_true", help="skip the bundled networks")
    parser.add_argument("--mirror", metavar="URL", help="URL of a folder of the published files")
    args = parser.parse_args(argv)
    if wrong := [given for given in args.checkpoint if "=" not in given]:
        parser.error(f"--checkpoint: expected NAME=FILE, got {wrong[0]!r}")
    args.checkpoint = dict(given.split("=", 1) for given in args.checkpoint)
    return args


def say(text: str) -> None:
    """Print a message to stderr, apart from the tables."""
    print(text, file=sys.stderr)


class Refusals(dict[str, str]):
    """Reasons for which checkpoints are not measured, by name."""

    @contextmanager
    def collect(self, name: str) -> Iterator[None]:
        """Record and print a `UserError`, so that the other checkpoints are measured."""
        try:
            yield
        except UserError as error:
            self[name] = one_line(error)
            say(f"{name} is not measured: {self[name]}")


def published_checkpoints(
    folder: Path, *, mirror: str | None, known: Any, refusals: Refusals
) -> dict[str, str]:
    """Download and convert the published files.

    Args:
        folder: Folder to write to.
        mirror: URL of a folder of the files instead of the official ones.
        known: Names to skip.
        refusals: Takes why a file is not used.

    Returns:
        Path by name.
    """
    from srgan_plugin.checkpoints.convert import convert
    from srgan_plugin.checkpoints.hub import PUBLISHED, local_checkpoint

    files = {}
    for name, url in PUBLISHED.items():
        if name in known:
            continue
        with refusals.collect(name):
            try:
                with progress_bar(name, unit="B") as progress:
                    location = f"{mirror.rstrip('/')}/{url.rsplit('/', 1)[-1]}" if mirror else url
                    fetched = local_checkpoint(location, folder=folder, progress=progress)
            except OSError as error:
                say(f"{name} is skipped: {error}")
                continue
            done = convert(fetched, folder / f"{name}.pth", to="plugin", origin="mmagic")
            say(f"{name}: {done.detected}, verified and converted")
            files[name] = str(done.path)
    return files


def bundled_checkpoints() -> dict[str, str]:
    """Return the paths of the bundled weights by name."""
    from srgan_plugin.checkpoints.hub import local_checkpoint

    return {name: str(local_checkpoint(name)) for name in BUNDLED}


def bicubic(lr: Any) -> Any:
    """Upscale an image (h, w, 3), uint8, by MATLAB's bicubic, to floats with white at 1."""
    from srgan_plugin.data.resize import imresize

    return imresize(lr / 255, SCALE)


def upscaler(path: str) -> Callable[[Any], Any]:
    """Return a function that upscales an image (h, w, 3), uint8, to floats with white at 1.

    Raises:
        UserError: The checkpoint is damaged, or is not of an x4 generator.
    """
    import torch

    from srgan_plugin.checkpoints import identify, load_checkpoint_file

    checkpoint = load_checkpoint_file(path)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with prefix_errors(path):
        found = identify(checkpoint)
        if found.arguments.get("upscale_factor") != SCALE:
            raise UserError(f"checkpoint: expected an x{SCALE} generator, got {found}")
        network = found.build().to(device)

    @torch.inference_mode()
    def upscale(lr: Any) -> Any:
        image = torch.from_numpy(lr).to(device).permute(2, 0, 1)[None].float() / 255
        return network(image)[0].permute(1, 2, 0).cpu().numpy()

    return upscale


def test_sets(names: list[str]) -> list[Any]:
    """Find the test sets that exist; print a message about the others.

    Raises:
        MissingFileError: None of them exists.
    """
    from srgan_plugin.data.benchmark_sets import data_root, find_benchmark

    found = []
    for name in names:
        try:
            found.append(find_benchmark(name, data_root(), SCALE))
        except FileNotFoundError as error:
            say(f"skipped: {error}")
    if not found:
        raise MissingFileError(f"--sets: expected at least one of {', '.join(names)}, got none")
    return found


def print_tables(
    measured: dict[str, dict[str, Any]], sets: list[Any], scorer: Any, refusals: Refusals
) -> None:
    """Print the table of each measured, published or refused model, then the conditions.

    Args:
        measured: Scores by model, test set and metric.
        sets: The test sets.
        scorer: The metrics.
        refusals: Reason by name of a model that was not measured.
    """
    from srgan_plugin.metrics import format_comparison, format_conditions, format_metrics
    from srgan_plugin.metrics.reference_results import MODELS

    missing = {each.name: each.missing_images for each in sets}
    for name in dict.fromkeys((*measured, *MODELS, *refusals)):
        results = measured.get(name) or {each.name: {} for each in sets}
        model = BUNDLED.get(name, name)
        beside = f", beside {model}" if model != name else ""
        reason = refusals.get(name, "no checkpoint (--checkpoint)")
        absent = "" if name in measured else f" – not measured: {reason}"
        parts = [f"{name}{beside}{absent}"]
        if name in measured:
            parts.append(format_metrics(results, scorer))
        if model in MODELS:
            parts.append(format_comparison(results, model, missing))
        print("\n\n".join(filter(None, parts)), end="\n\n")
    origins = {each.name: each.lr_origin for each in sets}
    print(format_conditions(origins, scorer, origins, missing))


@command
def main(argv: list[str] | None = None) -> None:
    """Measure, write `results/*.json`, print the tables; then name the refused checkpoints."""
    args = parse_args(argv)
    from srgan_plugin.io.atomic import write_text
    from srgan_plugin.metrics import DEFAULT_PROTOCOLS, PROTOCOLS, Scorer, evaluate
    from srgan_plugin.metrics.results_files import results_text

    sets = test_sets(args.sets)
    scorer = Scorer(dict.fromkeys([*DEFAULT_PROTOCOLS, *PROTOCOLS]), border=SCALE)
    files = {} if args.no_bundled else bundled_checkpoints()
    files |= args.checkpoint
    refusals = Refusals()
    if not args.offline:
        files |= published_checkpoints(
            args.out / "checkpoints", mirror=args.mirror, known=args.checkpoint, refusals=refusals
        )
    methods: dict[str, Callable[[Any], Any]] = {"bicubic": bicubic}
    for name, path in files.items():
        with refusals.collect(name):
            methods[name] = upscaler(path)
    measured: dict[str, dict[str, Any]] = {}
    counts = {each.name: len(each.pairs) for each in sets}
    for name, upscale in methods.items():
        say(f"measuring {name}")
        measured[name] = {each.name: evaluate(upscale, each, scorer) for each in sets}
        write_text(results_text(measured[name], counts), args.out / f"{name}.json")
    print_tables(measured, sets, scorer, refusals)
    if refusals:
        raise UserError("; ".join(f"{name}: {reason}" for name, reason in refusals.items()))


if __name__ == "__main__":
    main()
