#!/usr/bin/env bash
# Train by srun; see docs/cluster.md.
source "$(dirname "${BASH_SOURCE[0]}")/launchers.sh"
at_least 4 "$0 PARTITION JOB CONFIG WORK_DIR [ARGS of train.py]" "$@"
on_slurm "$1" "$2" train.py "$3" --work-dir "$4" "${@:5}"
