#!/bin/bash
# apps/slurm/run.sh on a real Slurm: every case ends in the map and the report of an undisturbed run, byte for byte.
#   tests/slurm/cases.sh BLOCKGTQ [CASE ...]
# As root, with the packages that cluster.sh names, and with /usr/sbin in PATH. Some ten minutes; nothing stays behind.
set -euo pipefail
source_dir=$(realpath "$(dirname "$0")/../..")
# shellcheck source=tests/slurm/cluster.sh
source "$source_dir/tests/slurm/cluster.sh"

work=$(mktemp -d)
bin=$work/bin
mkdir -p "$bin"/{hold,held,fail}
cp "$1" "$bin/real"
cp "$source_dir/tests/slurm/slow_blockgtq" "$bin/blockgtq"
export PATH=$bin:$PATH

say() { echo "$*" | sed "s|$work/||g; s|$source_dir/||g"; }
die() {
  say "FAILED: $*"
  echo "its files are kept: $work"
  trap stop_cluster EXIT
  exit 1
}

until_true() {  # WHAT COMMAND...: at most 150 s
  local what=$1 i
  shift
  for ((i = 0; i < 300; ++i)); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.5
  done
  die "waited for $what"
}

submit() {  # FOLDER [SBATCH OPTION...]
  say "\$ run.sh submit run.txt $*"
  "$source_dir/apps/slurm/run.sh" submit "$work/run.txt" "$work/$1" "${@:2}" --mem=100 --cpus-per-task=1 2>&1 |
    tee "$work/said" | sed "s|$work/||g"
}
refused() {  # WHAT FOLDER: submit says WHAT
  if submit "$2"; then die "accepted: $1"; fi
  grep -F -- "$1" "$work/said" >/dev/null || die "did not say: $1"
}
array() { awk '$3 == "energy" { sub(":", "", $2); print $2 }' "$work/said"; }
idle() { [ -z "$(squeue -h)" ]; }
alone() { [ "$(squeue -h -r -t RUNNING,COMPLETING -o %i)" = "$1" ]; }  # TASK
settle() { until_true "the queue to be empty" idle; }
no_output() { for file in stats.h5 map.h5; do [ ! -e "$work/$1/$file" ] || die "$1 has $file"; done; }
log_has() { grep -e "$2" "$work/$1"; }

hold() { for task in "$@"; do rm -f "$bin/held/$task" && touch "$bin/hold/$task"; done; }
held() { [ "$(wc -l <"$bin/held/$1")" -ge "${2:-1}" ]; }  # TASK [TIMES]
release() { rm -f "$bin"/hold/*; }

run_txt() {  # CALIBRATION PARTS
  cat >"$work/run.txt" <<EOF
model        $source_dir/data/models/tiny-llama
calibration  $1
evaluation   $source_dir/data/texts/evaluation.txt
parts        $2

energy       --tokens 640 --chunk 64
allocate     --bits 2,3
perplexity   --tokens 640 --chunk 64 --k-method tq-mse,block-gtq --pairs K2
perplexity   --tokens 640 --chunk 64 --k-method tq-mse,block-gtq --pairs K3
EOF
}

since=1
begin() {
  printf '\n== %s\n' "$1"
  since=$(($(wc -l <"$work/cluster/slurmctld.log") + 1))
}
slurm_says() {  # PATTERN: lines of slurmctld's log since the case began, without times
  tail -n "+$since" "$work/cluster/slurmctld.log" | sed 's/^\[[^]]*\] /slurmctld: /' | grep -E -e "$1" || true
}
restarts() {  # of the tasks of the array energy, as Slurm counts them
  local task
  for task in 1 2 3; do say "energy $task: $(scontrol show job "$1_$task" | grep -o 'Restarts=[0-9]*')"; done
}
finish() {  # FOLDER: waits, and compares with the undisturbed run
  settle
  local file
  for file in stats.h5 map.h5 report.csv; do
    cmp "$work/undisturbed/$file" "$work/$1/$file" || die "$1/$file is not that of the undisturbed run"
  done
  say "ok: $1/map.h5 and report.csv are those of the undisturbed run"
}

case_undisturbed() {
  submit undisturbed --gpu
  settle
  "$bin/real" calibrate -m "$source_dir/data/models/tiny-llama" -f "$work/calibration.txt" --tokens 640 --chunk 64 \
    --bits 2,3 -q -o "$work/calibrated.h5" >/dev/null
  cmp "$work/undisturbed/map.h5" "$work/calibrated.h5" || die "the map is not that of calibrate"
  cut -d , -f 1-3,10,16 "$work/undisturbed/report.csv"
  say "ok: map.h5 is that of one calibrate without Slurm"
  submit undisturbed
}

case_requeue() {  # by an administrator, of a running task
  hold energy-2
  submit requeue
  until_true "energy 2" held energy-2
  local id
  id=$(array)
  say "\$ scontrol requeue ${id}_2"
  scontrol requeue "${id}_2"
  until_true "energy 2 once more" held energy-2 2
  release
  finish requeue
  restarts "$id"
}

case_preempt() {  # all nodes, by a partition of higher priority
  local partition=$1
  hold energy-1 energy-2 energy-3
  submit "preempt-$partition" "--partition=$partition"
  for i in 1 2 3; do until_true "energy $i" held "energy-$i"; done
  say "\$ sbatch --partition=high --nodes=3 --wrap 'sleep 2'"
  sbatch --partition=high --nodes=3 --mem=100 --output=/dev/null --wrap 'sleep 2' >/dev/null
  for i in 1 2 3; do until_true "energy $i once more" held "energy-$i" 2; done
  release
  slurm_says 'reempt'
  finish "preempt-$partition"
  grep -h '^note' "$work/preempt-$partition"/logs/* || true
  restarts "$(array)"
}

case_signal() {  # the time limit comes near: the batch shell alone is told
  hold energy-1 energy-2 energy-3
  submit signal
  for i in 1 2 3; do until_true "energy $i" held "energy-$i"; done
  say "$(squeue -h -r -t RUNNING -o 'task %i has SLURM_JOB_ID %A')"
  say "\$ scancel --batch --signal=USR1 $(array)_3"
  scancel --batch --signal=USR1 "$(array)_3"
  until_true "energy 3 once more" held energy-3 2
  for i in 1 2; do if held "energy-$i" 2; then die "energy $i was requeued, too"; fi; done
  release
  finish signal
  grep -h -e 'stopped by' "$work"/signal/logs/*
  restarts "$(array)"
}

case_limit() {  # a time limit of 3 minutes; Slurm signals 2 minutes before it
  hold energy-2
  submit limit --time=3
  until_true "energy 2" held energy-2
  until_true "energy 2 once more" held energy-2 2
  release
  finish limit
  grep -h -e 'stopped by' "$work"/limit/logs/*
  restarts "$(array)"
}

case_cancel() {  # what its user cancels does not come back by itself
  hold energy-2
  submit cancel
  until_true "energy 2" held energy-2
  say "\$ scancel $(array)_2"
  scancel "$(array)_2"
  settle
  release
  no_output cancel
  submit cancel
  finish cancel
}

case_failure() {  # one task fails: what is behind it is not run; the same command submits it alone
  touch "$bin/fail/energy-2"
  submit failure
  settle
  no_output failure
  slurm_says 'WEXITSTATUS [^0]|ependency'
  rm "$bin/fail/energy-2"
  touch "$work/between"
  submit failure
  log_has said 'energy --array=2$' >/dev/null || die "not the failed task alone"
  finish failure
  [ "$(find "$work/failure/parts" -newer "$work/between" -printf '%f')" = parts0002.h5 ] || die "other parts were made again"
}

case_node() {  # a node dies under a task
  hold energy-2
  submit node
  until_true "energy 2" held energy-2
  local node
  node=$(cut -d ' ' -f 1 "$bin/held/energy-2")
  say "\$ kill -9 (slurmd $node and all that runs there); scontrol update nodename=$node state=down reason=died"
  kill_node "$node"
  scontrol update nodename="$node" state=down reason=died
  until_true "energy 2 once more" held energy-2 2
  say "energy 2 ran on $(cut -d ' ' -f 1 "$bin/held/energy-2" | paste -sd ' ')"
  [ "$(tail -n 1 "$bin/held/energy-2" | cut -d ' ' -f 1)" != "$node" ] || die "the task runs on the dead node"
  release
  finish node
  slurm_says 'equeue|set to: down'
  start_node "$node"
  scontrol update nodename="$node" state=resume
}

case_mixed() {  # one folder, one run
  hold energy-2
  submit mixed
  until_true "energy 2" held energy-2
  refused 'jobs of this run are queued or running' mixed
  run_txt "$source_dir/data/texts/evaluation.txt" 3
  refused 'holds another run, which differs in: calibration' mixed
  run_txt "$work/calibration.txt" 4
  refused 'holds another run, which differs in: parts 3' mixed
  run_txt "$work/calibration.txt" 3
  release
  finish mixed

  # The text changes under a task, before it is read.
  hold energy-2
  submit changed
  until_true "energy 2" held energy-2
  until_true "energy 1 and 3" alone "$(array)_2"
  cp "$work/calibration.txt" "$work/before.txt"
  echo more >>"$work/calibration.txt"
  release
  settle
  no_output changed
  log_has changed/logs/energy-0002.txt 'differs in: calibration sha256' | sed "s|$work/||g"
  refused 'holds another run, which differs in: calibration sha256' changed
  mv "$work/before.txt" "$work/calibration.txt"
  submit changed
  log_has said 'energy --array=2$' >/dev/null || die "not the task alone whose text had changed"
  finish changed
}

case_parts() {  # a missing part, and a part of another run: no map
  cp -r "$work/undisturbed" "$work/parts"
  rm "$work"/parts/{stats.h5,map.h5}
  local i part
  for i in 1 2 3; do
    part=$work/parts/parts/000$i.h5
    mv "$part" "$work/away"
    sbatch --wait --mem=100 --cpus-per-task=1 --output="$work/parts/logs/missing-$i.txt" \
      "$source_dir/apps/slurm/run.sh" merge "$work/parts" >/dev/null && die "merged without part $i"
    log_has "parts/logs/missing-$i.txt" '^error' | sed "s|$work/||g" | grep "000$i.h5" || die "part $i is not named"
    no_output parts
    "$bin/real" energy -m "$source_dir/data/models/tiny-llama" -f "$source_dir/data/texts/evaluation.txt" --tokens 640 \
      --chunk 64 --part "$i/3" -q -o "$part"
    rm -f "$work/parts/logs/merge.txt"
    submit parts
    settle
    log_has parts/logs/merge.txt '^error' | sed "s|$work/||g" | grep 'corpus_sha256' || die "another text is not named"
    no_output parts
    mv "$work/away" "$part"
  done
  cp "$work/parts/parts/0001.h5" "$work/parts/parts/0003.h5"  # not the third: made again
  submit parts
  log_has said 'energy --array=3$' >/dev/null || die "a wrong part was taken for whole"
  finish parts
}

trap 'stop_cluster; rm -rf "$work"' EXIT
start_cluster "$work/cluster"
cp "$source_dir/data/texts/calibration.txt" "$work/calibration.txt"
run_txt "$work/calibration.txt" 3
slurmctld -V
until_true "the nodes" sh -c "sinfo -h -t idle -o %D | grep -x 3"
cases=("${@:2}")
[ ${#cases[@]} -gt 0 ] ||
  cases=(requeue "preempt low" "preempt grace" signal limit cancel failure node mixed parts)
for name in undisturbed "${cases[@]}"; do
  begin "$name"
  # shellcheck disable=SC2086
  case_$name
done
printf '\nall cases passed\n'
