"""Grep a checkout for every entry of vocabulary.md's left columns in names: `check.py CHECKOUT`."""

import ast
import re
import subprocess
import sys
from pathlib import Path

# Identifiers; None or a set of files (substrings) in which the word is common English and fine.
IDENTIFIERS = """
Mend APPLIED ADAPTERS MissingOps lose_nothing read_any_layout adapt_what_loads check_fixed wrong_argument _misfit
WatchHook winning PretrainedHook ValidationPicturesHook RecordedStep record_cuda_graph obstacle DeviceLoader
resident_loader DevicePairs _along _run_stretch _run_stretches _seek _outlive_signals _once _longest _GRACE
_pays _suited _lay_out _judged _average _may_share steps_are_alike moved left_out waits decides_on_device max_skipped
each_wrapper each_scheduler is_ours unwrapped batch_statistics lacks _WholeFiles whole_folder
Draw uniform Recipe recipe_of Picture RawPicture CroppedPicture DownscaledPicture DecodedPicture WholeFromWindow
Taps starts sub_folder Source add_stores MEASURES published set_name signs in_our_keys in_its_keys Found Identified
fitted settle UNTOLD stated_hash enlarge reach enlarged_tile Span Drawing plan Outcome fixed_input NAMES
most_natural best_by_validation Round alternate in_a_process FAST PlainResidualBlock NormResidualBlock _to_label
keep_freed_memory Finding remedy save_and_end stretch device_resident told
""".split()
CONTAINING = ("picture", "Picture", "mends", "nothing_lost", "told_apart", "rooms", "enlarge")
MODULES = """core mm mends others fixed parts watch recording resident optim_of_each packing pictures patches batches
device evaluation published device_metrics zoo wrappings readings recognition pickled fetching release choosing facts
sheets measuring cpu_memory command_line config_command_line config_arguments config_prefix upscale_command_line
basicsr_command_line folders test_rooms""".split()
FLAGS = ("--told", "--part", "--about", "--note", "--against bare", "--against plain")
KEYS = ("stretch", "device_resident", "published", "watch", "pictures", "waiting", "winning", "max_skipped")
# Where a word of the list is the right one: (word, part of the path or of the line).
FINE = (
    ("uniform", "rng.uniform"), ("uniform", "random"), ("uniform", "st."), ("uniform", ".uniform("), ("uniform", "uniform_"),
    ("zoo", "tools/zoo"), ("zoo", "tests/tools/zoo"), ("device", "tests/"),
    ("evaluation", "hosts/mmengine/evaluation"), ("signs", "test_half_precision"), ("Source", "tests/"), ("NAMES", "mutate.py"), ("features", ""), ("has", ""),
)


def main() -> None:
    root = Path(sys.argv[1]).resolve()
    files = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]
    hits = 0

    def hit(kind: str, word: str, where: str, line: str = "") -> None:
        nonlocal hits
        if any(word == w and (part in where or part in line) for w, part in FINE):
            return
        hits += 1
        print(f"{kind:10s} {word:24s} {where}  {line.strip()[:90]}")

    for f in files:
        for part in Path(f).with_suffix("").parts:
            if f.startswith(("srgan_plugin", "tests", "tools")) and (part in MODULES or any(c in part for c in CONTAINING)):
                hit("file", part, f)
        if f.endswith(".py"):
            text = (root / f).read_text()
            lines = text.splitlines()
            for node in ast.walk(ast.parse(text)):
                names = []
                if isinstance(node, ast.Name):
                    names = [node.id]
                elif isinstance(node, ast.Attribute):
                    names = [node.attr]
                elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    names = [node.name]
                elif isinstance(node, (ast.arg, ast.keyword)):
                    names = [node.arg]
                elif isinstance(node, ast.alias):
                    names = [node.asname or node.name.split(".")[-1]]
                for name in filter(None, names):
                    bad = next((w for w in IDENTIFIERS if w == name), None) or next((c for c in CONTAINING if c in name), None)
                    if bad:
                        hit("name", name, f"{f}:{getattr(node, 'lineno', 0)}", lines[node.lineno - 1] if hasattr(node, "lineno") else "")
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    for word in [w for w in IDENTIFIERS if w[0].isupper() or "_" in w]:
                        if re.search(rf"(?<!\w){word}(?!\w)", node.value) and word not in ("Found", "Source", "Picture", "Round", "Draw", "FAST", "Span"):
                            hit("string", word, f"{f}:{node.lineno}", node.value)
        if f.startswith(("configs/", "docs/", "README", "tools/", "Makefile", "tests/")) and f.endswith((".py", ".md", ".yml", ".sh", "Makefile")):
            for number, line in enumerate((root / f).read_text().splitlines(), 1):
                for flag in FLAGS:
                    if re.search(rf"{re.escape(flag)}(?![\w-])", line):
                        hit("flag", flag, f"{f}:{number}", line)
                for key in KEYS:
                    if f.startswith("configs/") and re.search(rf"(?<!\w){key} ?=", line) or re.search(rf"(?:train_cfg|default_hooks|optim_wrapper)\.{key}\b", line) or f"train/{key}" in line:
                        hit("key", key, f"{f}:{number}", line)
                for word in IDENTIFIERS:
                    if not f.endswith(".py") and f"`{word}`" in line:
                        hit("document", word, f"{f}:{number}", line)
    print(f"{hits} hits")
    raise SystemExit(hits > 0)


if __name__ == "__main__":
    main()
