#!/usr/bin/env bash
# All GPU rows of docs/benchmarks.md in one go, in some 10 minutes, without a network.
#
#   tools/gpu_benchmarks.sh WHEELS PHOTOGRAPHS BENCHMARKS OUT
#
# WHEELS: folder of wheels of what the machine lacks; none is installed into its Python (PYTHON, or
#   python3). Torch and torchvision are the machine's. Made with a network, for its Python, by
#     pip download -r requirements/runtime.txt -r requirements/mmagic.txt opencv-python-headless pytest \
#         --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \
#         --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 -d WHEELS
#   Of what that downloads, torch and NVIDIA's wheels are not used, and of several OpenCVs one is.
# PHOTOGRAPHS: folder or store to train on. BENCHMARKS: holds Set5 and Set14.
# OUT: gets a JSON file for each row. A row that fails says so, and the next one runs.
set -uo pipefail
if [ $# -ne 4 ]; then
    sed -n '2,14s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi

absolute() { case $1 in /*) printf '%s' "$1" ;; *) printf '%s' "$PWD/$1" ;; esac; }

wheels=$(absolute "$1") photographs=$(absolute "$2") benchmarks=$(absolute "$3") out=$(absolute "$4")
python=${PYTHON:-python3}
case $python in */*) python=$(absolute "$python") ;; esac
cd "$(dirname "$0")/.." || exit 1
mkdir -p "$out" || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# An environment whose own packages come before the machine's. `--system-site-packages` would leave
# out those of a Python that is itself an environment; a .pth file does not.
"$python" -m venv --without-pip "$work/env" || exit 1
own=$(echo "$work"/env/lib/python3*/site-packages)
"$python" - > "$own/machine.pth" << 'EOF' || exit 1
import os, sys
given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
for folder in sys.path:
    if folder and ("-packages" in folder or folder in given):
        print(f"import site; site.addsitedir({os.path.abspath(folder)!r})")
EOF
python=$work/env/bin/python
export PYTHONPATH="$PWD" PYTHONUNBUFFERED=1

# Every OpenCV brings its own cv2; those that are not headless want libraries that servers lack.
opencv=
for kind in opencv_python_headless opencv_contrib_python_headless opencv_python opencv_contrib_python; do
    for wheel in "$wheels/$kind"-*.whl; do
        [ -n "$opencv" ] || [ ! -e "$wheel" ] || opencv=$wheel
    done
done
chosen=()
for wheel in "$wheels"/*.whl; do
    case ${wheel##*/} in
        torch-* | torchvision-* | torchaudio-* | triton-* | nvidia_* | cuda_* | opencv_*) ;;
        *) chosen+=("$wheel") ;;
    esac
done
[ -z "$opencv" ] || chosen+=("$opencv")
[ ${#chosen[@]} -eq 0 ] || "$python" -m pip install --quiet --no-index --no-deps "${chosen[@]}" || exit 1
"$python" -c 'import cv2, numpy; assert cv2.imencode(".png", numpy.zeros((8, 8), "u1"))[0]' || exit 1
"$python" -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "torch sees no GPU")' || exit 1

# What all rows read is made before any clock runs, and so is Python's byte code. Each process of a
# row starts by importing: twice, because the first import is the slowest.
"$python" tools/benchmark.py files --data "$photographs" --files "$work/files" || exit 1
for _ in 1 2; do
    began=$SECONDS
    "$python" -c 'import srgan_plugin.hosts.mmagic, srgan_plugin.hosts.mmengine, mmagic' || exit 1
    start_up=$((SECONDS - began + 1))
done
failed=0

row() { # NAME SECONDS PROCESSES ARGUMENTS…: the seconds are without the start of each process
    echo "== $1"
    timeout -k 5 $(($2 + $3 * start_up)) "$python" tools/benchmark.py "${@:4}" --device cuda \
        --files "$work/files" --out "$out/$1.json" || { echo "== $1 was not measured" >&2; failed=1; }
}

# The fast path first has to be right on this card. The project's settings name plugins of pytest.
if "$python" -m pytest --version > /dev/null 2>&1; then
    timeout -k 5 $((60 + start_up)) "$python" -m pytest -q -c /dev/null --rootdir "$PWD" \
        --import-mode=importlib tests/hosts/mmengine/test_cuda_graph.py || failed=1
else
    echo "== the captured step was not checked: pytest is not installed" >&2
fi
row gpu_loader 40 2 loader --data "$photographs"
row gpu_train_msrresnet_mmagic 120 5 train --against mmagic --data "$photographs" --rounds 2 \
    --steps 400
row gpu_train_srgan_mmagic 150 5 train --against mmagic --model srgan --data "$photographs" \
    --rounds 2 --steps 400
row gpu_test_mmagic 50 7 test --against mmagic --data "$benchmarks" --rounds 3
row gpu_train_msrresnet_no_hooks 45 3 train --against no-hooks --data "$photographs" --rounds 1
row gpu_train_msrresnet_baseline 45 3 train --against baseline --data "$photographs" --rounds 1
row gpu_upscale_480x270 45 5 upscale --against mmagic --size 480x270 --rounds 2
row gpu_upscale_960x540 45 5 upscale --against mmagic --size 960x540 --rounds 2
exit $failed
