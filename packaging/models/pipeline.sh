#!/bin/bash
# The whole training on one or two GPUs, each stage ending at a given time.
# usage: pipeline.sh DIR OUT SECONDS_WRITE SECONDS_FIRST SECONDS_LAST [OPTION]     (seconds from now at which each stage ends)
# DIR as distill.py describes it; docs.train.u16 may arrive while the teacher writes.
set -u
here=$(cd "$(dirname "$0")" && pwd)
dir=$1 out=$2 now=$(date +%s)
write=$((now + $3)) first=$((now + $4)) last=$((now + $5)) options=${6:-}
gpus=${GPUS:-2}
python=${PYTHON:-python3}
export PYTHONUNBUFFERED=1 MASTER_ADDR=127.0.0.1 MASTER_PORT=29511
mkdir -p "$out"

everywhere() { # everywhere STAGE ARGUMENTS: one process a GPU
    for gpu in $(seq 0 $((gpus - 1))); do
        RANK=$gpu WORLD_SIZE=$gpus CUDA_VISIBLE_DEVICES=$gpu "$python" "$here/distill.py" "$@" --dir "$dir" --out "$out" $options >"$out/$1.$gpu.log" 2>&1 &
    done
    wait
}

everywhere write --until "$write"
until [ -e "$dir/docs.train.u16" ] && [ -e "$dir/held-docs.u16" ]; do sleep 0.2; done
everywhere train --first "$first" --until "$last"
touch "$out/done"
