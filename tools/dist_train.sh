#!/usr/bin/env bash
# Train on several GPUs; see docs/cluster.md for several machines.
source "$(dirname "${BASH_SOURCE[0]}")/launchers.sh"
at_least 2 "$0 CONFIG GPUS [ARGS of train.py]" "$@"
on_gpus "$2" train.py "$1" "${@:3}"
