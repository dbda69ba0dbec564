#!/usr/bin/env bash
# All GPU rows of docs/benchmarks.md in one go, under 10 minutes, without a network.
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
    timeout "$2" "$python" tools/benchmark.py "${@:3}" --device cuda --files "$site/files" \
        --out "$out/$1.json" || { echo "== $1 was not measured" >&2; failed=1; }
}

row gpu_loader 60 loader --data "$photographs" --rounds 3
row gpu_train_msrresnet_mmagic 150 train --against mmagic --data "$photographs" --rounds 3
row gpu_train_srgan_mmagic 210 train --against mmagic --model srgan --data "$photographs" \
    --rounds 3 --steps 400
row gpu_test_mmagic 90 test --against mmagic --data "$benchmarks" --rounds 3
row gpu_train_msrresnet_plain 60 train --data "$photographs" --rounds 1
exit $failed
