#!/usr/bin/env bash
# A Ray cluster over the nodes of a Slurm job, and on the first of them a command that finds it in $RAY_ADDRESS.
#
#     script=$(python -c 'import labkit; print(labkit.__path__[0] + "/sweeps/slurm.sh")')
#     sbatch --nodes 8 --gpus-per-node 4 --cpus-per-task 32 --time 24:00:00 "$script" \
#         dmf-lab table 1 /shared/runs/tables --engine ray
#
# From a notebook: ... "$script" papermill 04_table1.ipynb /shared/runs/04_table1.ipynb -p engine ray
#
# Submit it from the activated environment, which must lie, like the sweep's folder, on a file system that all nodes
# share. A job that ends too early loses nothing that was finished: submit it again. Who can reach Ray's ports can run
# code as you, so the cluster asks for a token that only this job knows.

#SBATCH --job-name=labkit
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
set -euo pipefail

if [ $# -eq 0 ]; then
    echo "slurm.sh: give the command to run on the cluster; see the head of this file" >&2
    exit 2
fi

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
one=(srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" --overlap)
ip=$("${one[@]}" hostname --ip-address | awk '{ print $1 }')
export RAY_ADDRESS="$ip:$((20000 + SLURM_JOB_ID % 10000))"
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export RAY_prestart_worker_first_driver=0 RAY_worker_register_timeout_seconds=600 # see labkit/sweeps/engines.py
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN

# What a node offers is known on the node: hence the single quotes.
# shellcheck disable=SC2016
offer='--num-cpus="$SLURM_CPUS_ON_NODE" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --disable-usage-stats --block'
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT

"${one[@]}" bash -c "exec ray start --head --port=${RAY_ADDRESS##*:} --node-ip-address=$ip --include-dashboard=false \
    --temp-dir=/tmp/ray-$SLURM_JOB_ID $offer" &
tries=60
until "${one[@]}" ray health-check --address "$RAY_ADDRESS"; do
    tries=$((tries - 1))
    if [ $tries -eq 0 ]; then
        echo "slurm.sh: Ray did not start on ${nodes[0]}" >&2
        exit 1
    fi
    sleep 2
done
if [ ${#nodes[@]} -gt 1 ]; then
    others=$(IFS=,; echo "${nodes[*]:1}")
    count=$((${#nodes[@]} - 1))
    srun --nodes=$count --ntasks=$count --nodelist="$others" --overlap \
        bash -c "exec ray start --address=$RAY_ADDRESS $offer" &
    sleep "${LABKIT_JOIN_SECONDS:-20}" # a node that joins later is used from then on
fi

"${one[@]}" "$@"
