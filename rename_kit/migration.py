"""The migration table (old → new) for the changelog, from the same tables as the renames."""

import re
from pathlib import Path

from refactor import rows

HERE = Path(__file__).resolve().parent
KEYS = [
    ("`train_cfg.stretch`", "`train_cfg.max_steps_per_hook_call`"),
    ("`train_cfg.device_resident`", "`train_cfg.cache_dataset_on_gpu`"),
    ("`optim_wrapper.max_skipped`", "`optim_wrapper.max_nonfinite_steps`"),
    ("`published`", "`reference_model`"),
    ("`default_hooks.watch`, its `winning`", "`default_hooks.discriminator_monitor`, its `loss_threshold`"),
    ("`default_hooks.pictures`", "`default_hooks.val_images`"),
    ("log entry `waiting`", "`data_wait_fraction`"),
]
FLAGS = [
    ("`--told`", "`--arch-option`"),
    ("`--part`", "`--network`"),
    ("`train_zoo.py --about`, `--note`", "`--dataset-card`, `--training-notes`"),
    ("`benchmark.py --against plain`, `bare`", "`--against baseline`, `no-hooks`"),
]


def dotted(path: str) -> str:
    return path.removesuffix("/__init__.py").removesuffix(".py").removeprefix("srgan_plugin/").replace("/", ".") if not path.startswith("tools/") else path


def modules() -> list[tuple[str, str]]:
    found: dict[str, list[str]] = {}
    for old, new in rows("moves.tsv"):
        if old.startswith("srgan_plugin/") and old.endswith(".py") and old != new and "__init__" not in old:
            found.setdefault(dotted(new), []).append(dotted(old))
    table = [(", ".join(f"`{o}`" for o in olds), f"`{new}`") for new, olds in found.items()]
    table.append(("`core`", "`networks`, `losses`"))
    table.append(("`zoo/weights`", "`checkpoints/weights`"))
    return table


def names() -> list[tuple[str, str]]:
    found = []
    for row in rows("names.tsv"):
        if row[0].startswith(">") or len(row) < 3:
            continue
        roles, old, new = row[:3]
        if not re.fullmatch(r"[A-Za-z]\w*", old) or not re.fullmatch(r"[A-Za-z]\w*", new):
            continue
        public = roles == "W" and len(row) == 3 or roles.startswith("G") and row[3].startswith("srgan_plugin")
        if roles == "A" and old in ("features", "enlarge", "reach", "signs", "words", "lacks"):
            public = True
        if public and not old.startswith("gpu_train"):
            found.append((f"`{old}`", f"`{new}`"))
    return list(dict.fromkeys(found))


def table(head: str, lines: list[tuple[str, str]]) -> str:
    return f"| {head} | now |\n|---|---|\n" + "\n".join(f"| {old} | {new} |" for old, new in lines)


def text() -> str:
    return "\n\n".join(
        [
            "### Changed",
            "- Modules, classes, config keys and flags have the names that MMagic's and BasicSR's people know.\n"
            "  Nothing had been released, so there are no aliases; checkpoints, stores and results files stay\n"
            "  readable, and a checkpoint written before resumes under the renamed config.",
            table("config key, log entry", KEYS),
            table("flag", FLAGS),
            table("module of `srgan_plugin`", modules()),
            table("class, function, attribute", names()),
        ]
    )


if __name__ == "__main__":
    print(text())
