#!/usr/bin/env python
"""Save training samples after crop and flips: LR (by nearest neighbour) beside GT.

python tools/analysis_tools/browse_dataset.py configs/srgan_x4c64b16_g1_1000k_div2k.py
"""

import argparse
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from srgan_plugin.cli.configs import add_cfg_options, read_config, require_settings
from srgan_plugin.cli.errors import command
from srgan_plugin.cli.parser import Parser
from srgan_plugin.cli.progress import progress_bar
from srgan_plugin.errors import UserError


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "--output-dir", default="work_dirs/browse", help="default: work_dirs/browse"
    )
    parser.add_argument("--number", type=int, default=16, help="samples (default: 16)")
    parser.add_argument(
        "--phase", choices=("train", "val", "test"), default="train", help="default: train"
    )
    parser.add_argument(
        "--not-show", action="store_true", help="ignored, as in OpenMMLab: nothing is displayed"
    )
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if args.number < 1:
        parser.error(f"--number: expected at least 1, got {args.number}")
    return args


def is_bgr(metainfo: Any, key: str) -> bool:
    """Return whether an image is in BGR, as from MMagic's loader."""
    return str(metainfo.get(f"{key}_channel_order")).upper() == "BGR"


def side_by_side(sample: dict[str, Any]) -> Any:
    """Concatenate LR (by nearest neighbour) and GT horizontally: RGB, (H, 2W, 3), uint8."""
    import numpy as np

    metainfo = sample["data_samples"].metainfo
    lr, gt = (
        np.asarray(image.permute(1, 2, 0))[..., :: -1 if is_bgr(metainfo, key) else 1]
        for key, image in (("img", sample["inputs"]), ("gt", sample["data_samples"].gt_img))
    )
    scale = gt.shape[0] // lr.shape[0]
    return np.hstack([lr.repeat(scale, axis=0).repeat(scale, axis=1), gt])


@command
def main(argv: list[str] | None = None) -> None:
    """Save the first samples of a run."""
    args = parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    require_settings(cfg, f"{args.phase}_dataloader", hint="choose another --phase")
    loaders = cfg[f"{args.phase}_dataloader"]
    from mmengine.registry import init_default_scope

    from srgan_plugin.io.writers import write_image
    from srgan_plugin.registry import DATA_SAMPLERS, DATASETS, SCOPE, SCOPE_MODULES

    scope = cfg.get("default_scope") or SCOPE
    if scope in SCOPE_MODULES:
        import_module(SCOPE_MODULES[scope])
    init_default_scope(scope)  # for nested configs of the dataset

    loader = loaders[0] if isinstance(loaders, list) else loaders
    if not {"dataset", "sampler"} <= {*loader}:
        raise UserError(
            f"{args.phase}_dataloader: expected dataset and sampler, got {', '.join(loader)}"
        )
    dataset = DATASETS.build({"_scope_": scope, **loader.dataset})
    seed = (cfg.get("randomness") or {}).get("seed") or 0
    options = {**loader.sampler, "dataset": dataset, "seed": seed}
    sampler = DATA_SAMPLERS.build({"_scope_": scope, **options})
    out = Path(args.output_dir)
    with progress_bar(args.phase) as show:
        for number, index in enumerate(islice(sampler, args.number)):
            sample = dataset[index]
            metainfo = sample["data_samples"].metainfo  # MMagic samples have no key
            key = str(metainfo.get("key") or Path(metainfo["gt_path"]).stem).replace("/", "_")
            write_image(out / f"{number:04d}_{key}.png", side_by_side(sample))
            show(number + 1, args.number)
    print(f"saved to {out}")


if __name__ == "__main__":
    main()
