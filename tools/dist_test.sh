#!/usr/bin/env bash
# Test on several GPUs; see docs/cluster.md for several machines.
source "$(dirname "${BASH_SOURCE[0]}")/launchers.sh"
at_least 3 "$0 CONFIG CHECKPOINT GPUS [ARGS of test.py]" "$@"
on_gpus "$3" test.py "$1" "$2" "${@:4}"
