#!/bin/bash
# The whole training on one or two GPUs, each stage ending at a given time; stops at the first stage that fails.
# usage: pipeline.sh DIR OUT SECONDS_WRITE SECONDS_FIRST SECONDS_LAST [OPTION]     (seconds from now at which each stage ends)
# DIR as distill.py describes it; docs.train.u16 may arrive while the teacher writes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=$1 out=$2 now=$(date +%s)
write=$((now + $3)) first=$((now + $4)) last=$((now + $5))

"$here/everywhere" write "$dir" "$out" --until "$write" ${6:+"$6"}
until [ -e "$dir/docs.train.u16" ] && [ -e "$dir/held-docs.u16" ]; do
    [ "$(date +%s)" -lt "$first" ] || { echo "$dir holds no documents: run documents.py" >&2; exit 1; }
    sleep 0.2
done
"$here/everywhere" train "$dir" "$out" --first "$first" --until "$last" ${6:+"$6"}
touch "$out/done"
