#!/usr/bin/env bash
# All GPU rows of docs/benchmarks.md in one go, in about 10 minutes at most, without a network.
#
#   tools/gpu_benchmarks.sh WHEELS PHOTOGRAPHS BENCHMARKS OUT
#
# WHEELS: folder of wheels of what the machine lacks; none is installed into its Python. Torch and
#   torchvision are the machine's. Made on a machine with a network, for its Python, by
#     pip download -r requirements/runtime.txt -r requirements/mmagic.txt --only-binary=:all: \
#         --python-version 3.12 --platform manylinux_2_28_x86_64 -d WHEELS
#   less the wheels of torch, torchvision, triton and nvidia-*.
# PHOTOGRAPHS: folder or store to train on. BENCHMARKS: holds Set5 and Set14.
# OUT: gets a JSON file for each row. A row that fails says so, and the next one runs.
set -uo pipefail
if [ $# -ne 4 ]; then
    sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
wheels=$1 photographs=$2 benchmarks=$3 out=$4
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-python3}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
"$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$wheels"/*.whl || exit 1
export PYTHONPATH="$site:$PWD" PYTHONUNBUFFERED=1
mkdir -p "$out"
failed=0

row() { # NAME SECONDS ARGUMENTS…
    echo "== $1"
    timeout -k 5 "$2" "$python" tools/benchmark.py "${@:3}" --device cuda --files "$site/files" \
        --out "$out/$1.json" || { echo "== $1 was not measured" >&2; failed=1; }
}

# The fast path first has to be right on this card.
if "$python" -m pytest --version > /dev/null 2>&1; then
    timeout -k 5 60 "$python" -m pytest -q tests/hosts/mmengine/test_cuda_graph.py || failed=1
else
    echo "== the recorded step was not checked: pytest is not there" >&2
fi
row gpu_loader 40 loader --data "$photographs"
row gpu_train_msrresnet_mmagic 120 train --against mmagic --data "$photographs" --rounds 2 \
    --steps 400
row gpu_train_srgan_mmagic 150 train --against mmagic --model srgan --data "$photographs" \
    --rounds 2 --steps 400
row gpu_test_mmagic 50 test --against mmagic --data "$benchmarks" --rounds 3
row gpu_train_msrresnet_no_hooks 45 train --against no-hooks --data "$photographs" --rounds 1
row gpu_train_msrresnet_baseline 45 train --against baseline --data "$photographs" --rounds 1
row gpu_upscale_480x270 45 upscale --against mmagic --size 480x270 --rounds 2
row gpu_upscale_960x540 45 upscale --against mmagic --size 960x540 --rounds 2
exit $failed
