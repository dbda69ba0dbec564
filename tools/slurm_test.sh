#!/usr/bin/env bash
# Test by srun; see docs/cluster.md.
source "$(dirname "${BASH_SOURCE[0]}")/launchers.sh"
at_least 4 "$0 PARTITION JOB CONFIG CHECKPOINT [ARGS of test.py]" "$@"
on_slurm "$1" "$2" test.py "$3" "$4" "${@:5}"
