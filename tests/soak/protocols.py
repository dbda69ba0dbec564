"""Every protocol against other people's code on every image of Set5 and Set14.

    python tests/soak/protocols.py [--sets Set5]

Bicubic and the bundled MSRResNet; arrays and tensors. Needs MMagic, BasicSR and the sets under
$SRGAN_SHARED/data/benchmark. Prints the largest difference of each protocol; fails above 1e-4.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import srgan_plugin.hosts.basicsr  # noqa: E402
import srgan_plugin.hosts.mmagic  # noqa: E402, F401
from srgan_plugin.data.benchmark_sets import find_benchmark  # noqa: E402
from srgan_plugin.metrics import Scorer  # noqa: E402
from tests.conftest import SHARED  # noqa: E402
from tests.helpers.protocols import METHODS, ORACLES  # noqa: E402

TOLERANCE = 1e-4


def differences(pred: np.ndarray, gt: np.ndarray) -> dict[str, float]:
    """Return by how much each protocol is off on one image, as arrays or as tensors."""
    worst = {}
    chw = [torch.from_numpy(np.float64(x)).permute(2, 0, 1) for x in (pred * 255.0, gt)]
    for protocol, oracle in ORACLES.items():
        scorer, expected = Scorer([protocol]), oracle(pred, gt)
        by_tensor = dict(zip(scorer.metrics, scorer.score_tensor(*chw).tolist(), strict=True))
        found = (scorer.score(pred, gt), by_tensor)
        worst[protocol] = max(abs(f[name] - expected[name]) for f in found for name in f)
    return worst


def main() -> None:
    """Compare, print, fail."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=["Set5", "Set14"])
    args = parser.parse_args()
    if not SHARED.is_dir():
        print(f"skipped: no benchmark sets at {SHARED} (set SRGAN_SHARED)")
        return
    worst: dict[str, float] = defaultdict(float)
    for name in args.sets:
        pairs = find_benchmark(name, SHARED / "benchmark").pairs
        for method, upscale in METHODS.items():
            for index in range(len(pairs)):
                pair = pairs[index]
                pred, gt = upscale(np.asarray(pair.lr)), np.asarray(pair.gt)
                for protocol, value in differences(pred, gt).items():
                    worst[protocol] = max(worst[protocol], value)
            print(f"{name}, {method}: {len(pairs)} images compared", flush=True)
    for protocol, value in worst.items():
        print(f"{protocol:15s} largest difference {value:.1e}")
    if max(worst.values()) > TOLERANCE:
        raise SystemExit(f"a protocol is off by more than {TOLERANCE}")


if __name__ == "__main__":
    main()
