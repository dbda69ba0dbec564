"""A checkpoint that main wrote is resumed under the renamed tree, and every object compared.

resume_check.py OLD_TREE NEW_TREE WORK: the old tree trains 8 steps without a break, and 4 steps that stop; the
new one resumes these 4 to 8. Configs are the published ones in small, with each tree's own keys.
"""

import shutil
import subprocess
import sys
from pathlib import Path

OLD, NEW, WORK = (Path(p).resolve() for p in sys.argv[1:4])
NAMES = sys.argv[4:] or ["msrresnet_x4c64b16_g1_1000k_div2k.py", "srgan_x4c64b16_g1_1000k_div2k.py"]
PY = sys.executable
TRAIN = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1] + "/tests/helpers"); sys.path.insert(0, sys.argv[1] + "/tools")
import torch
torch.set_num_threads(1)
from small_runs import SMALL_DISCRIMINATOR, small_config
from mmengine.runner import Runner
tree, name, gt, work, iters, resume, hook_steps, hooks, skip = sys.argv[1:10]
extra = SMALL_DISCRIMINATOR if "srgan" in name else {}
extra = {**extra, "default_hooks.checkpoint.interval": 4, "train_cfg." + hook_steps: 3,
         "default_hooks." + hooks + ".interval": 4}
cfg = small_config(name, Path(gt), Path(work), int(iters), **extra)
cfg.experiment_name = "run"
cfg.load_from = None
cfg.resume = resume == "True"
Runner.from_cfg(cfg).train()
"""
COMPARE = """
import sys
sys.path.insert(0, sys.argv[1] + "/tests/helpers")
import torch
from pathlib import Path
a, b = (torch.load(p, weights_only=False, map_location="cpu") for p in sys.argv[2:4])
import numpy as np
SKIP = {"time", "data_time", "waiting", "data_wait_fraction", "eta", "cfg", "exp_name", "experiment_name"}
bad, seen = [], 0
def compare(x, y, where):
    global seen
    seen += 1
    if type(x) is not type(y):
        bad.append((where, type(x), type(y))); return
    if isinstance(x, dict):
        keys = {k for k in (*x, *y) if not any(str(k).split("/")[-1] == s for s in SKIP)}
        for k in sorted(keys, key=str):
            if k not in x or k not in y: bad.append((f"{where}.{k}", k in x, k in y))
            else: compare(x[k], y[k], f"{where}.{k}")
    elif isinstance(x, (list, tuple)):
        if len(x) != len(y): bad.append((where, len(x), len(y)))
        for i, (p, q) in enumerate(zip(x, y)): compare(p, q, f"{where}[{i}]")
    elif isinstance(x, torch.Tensor):
        if not torch.equal(x, y): bad.append((where, "tensor", float((x.double() - y.double()).abs().max())))
    elif isinstance(x, np.ndarray):
        if not np.array_equal(x, y): bad.append((where, "array"))
    elif hasattr(x, "__dict__") and not callable(x):
        compare(vars(x), vars(y), where)
    elif callable(x): pass
    elif x != y: bad.append((where, x, y))
compare(a, b, "")
for entry in bad: print("DIFFERS", *map(str, entry))
print(seen, "objects compared,", len(bad), "differ")
"""


def train(tree: Path, work: Path, iters: int, resume: bool, name: str, gt: Path) -> None:
    new = (tree / "srgan_plugin/networks").is_dir()
    keys = ("max_steps_per_hook_call", "discriminator_monitor", "x") if new else ("stretch", "watch", "x")
    done = subprocess.run([PY, "-c", TRAIN, tree, name, gt, work, str(iters), str(resume), *keys],
                   env={"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": "/tmp"},
                   capture_output=True, text=True, cwd="/tmp")
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:])
        raise SystemExit(1)


def main() -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    make = ("import sys, numpy as np, cv2\nfrom pathlib import Path\np=Path(sys.argv[1]); p.mkdir()\n"
            "rng=np.random.default_rng(0)\n"
            "[cv2.imwrite(str(p/f'{i}.png'), rng.integers(0,256,(96,100,3)).astype('u1')) for i in range(6)]")
    gt = WORK / "gt"
    subprocess.run([PY, "-c", make, gt], check=True)
    for name in NAMES:
        whole, broken = WORK / name[:-3] / "whole" / "run", WORK / name[:-3] / "broken" / "run"
        train(OLD, whole, 8, False, name, gt)
        shutil.copytree(whole, broken)
        (broken / "iter_8.pth").unlink()
        (broken / "last_checkpoint").write_text(str(broken / "iter_4.pth"))
        train(NEW, broken, 8, True, name, gt)
        print(name)
        subprocess.run([PY, "-c", COMPARE, NEW, whole / "iter_8.pth", broken / "iter_8.pth"],
                       env={"PYTHONPATH": str(NEW), "PATH": "/usr/bin:/bin"}, check=True, cwd="/tmp")


main()
