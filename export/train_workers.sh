#!/usr/bin/env bash
# Trains with several worker processes on this machine, as several machines would: each process gets
# a TF_CONFIG that lists all of them and says which it is.
#
#   export/train_workers.sh 2 --flagfile=configs/quickstart.cfg --workdir=runs/two_workers
#
# Where a worker is lost all end, and all begin again: from the last checkpoint, at most RESTARTS
# times. Environment: PYTHON (python), PORT of the first worker (22220), RESTARTS (3).
set -euo pipefail

workers=${1:?expected the number of workers, then flags of r2n2_keras.train}
shift
python=${PYTHON:-python}
port=${PORT:-22220}

addresses=$(seq -s, -f '"127.0.0.1:%.0f"' "$port" $((port + workers - 1)))
trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT  # they save
trap 'exit 130' INT
trap 'exit 143' TERM

for attempt in $(seq 0 "${RESTARTS:-3}"); do
  processes=()
  for ((index = 0; index < workers; index++)); do
    TF_CONFIG="{\"cluster\": {\"worker\": [$addresses]}, \"task\": {\"type\": \"worker\", \"index\": $index}}" \
      "$python" -m r2n2_keras.train "$@" &
    processes+=($!)
  done
  code=0
  for process in "${processes[@]}"; do
    wait "$process" || code=$?
  done
  # --overwrite is for the first attempt alone.
  for flag; do shift; [[ $flag == --overwrite* ]] || set -- "$@" "$flag"; done
  if ((code == 0)); then exit 0; fi
  echo "Attempt $((attempt + 1)) ended with code $code." >&2
done
exit "$code"
