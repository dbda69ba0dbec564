# Sourced by dist_train.sh, dist_test.sh, slurm_train.sh and slurm_test.sh.
set -euo pipefail

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# A checkout works without being installed.
export PYTHONPATH="$(dirname "$tools")${PYTHONPATH:+:$PYTHONPATH}"
# Else every process starts as many threads as the machine has cores.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

# Else torch kills a run 30 seconds after SIGTERM, perhaps before its checkpoint is saved. Older
# versions of torch do not read it.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-100}

# at_least NUMBER USAGE "$@": end with status 2 where arguments are missing.
at_least() {
    if (($# - 2 < $1)); then
        echo "usage: $2" >&2
        exit 2
    fi
}

# on_gpus GPUS SCRIPT ARGS...: one process for each GPU of this machine.
on_gpus() {
    local gpus=$1 script=$2 meeting
    shift 2
    if ! [[ $gpus =~ ^([1-9][0-9]*|auto|gpu|cpu)$ ]]; then
        echo "error: GPUS: expected a number from 1, got $gpus" >&2
        exit 2
    fi
    if [[ ${NNODES:-1} == 1 && -z ${PORT:-} ]]; then
        meeting=(--standalone) # takes a free port, so that two jobs can share a machine
    else
        meeting=(--nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}"
            --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}")
    fi
    exec "${PYTHON:-python}" -m torch.distributed.run "${meeting[@]}" --nproc_per_node="$gpus" \
        "$tools/$script" "$@" --launcher pytorch
}

# on_slurm PARTITION JOB SCRIPT ARGS...: GPUS processes, GPUS_PER_NODE on each machine.
on_slurm() {
    local partition=$1 job=$2 script=$3 gpus=${GPUS:-8} per_node
    shift 3
    per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
    if ! command -v srun > /dev/null; then
        echo "error: srun is missing: start this on a machine of the Slurm cluster" >&2
        exit 127
    fi
    export MASTER_PORT=${PORT:-$((20000 + RANDOM % 10000))}
    # SRUN_ARGS is split into words on purpose.
    # shellcheck disable=SC2086
    exec srun --partition="$partition" --job-name="$job" \
        --gres=gpu:"$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" \
        --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
        "${PYTHON:-python}" -u "$tools/$script" "$@" --launcher slurm
}
