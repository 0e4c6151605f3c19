#!/bin/bash
# A whole run on a Slurm cluster: energy (an array) -> merge -> allocate -> perplexity (an array) -> report.
#   apps/slurm/run.sh submit RUN.txt FOLDER [--gpu] [SBATCH OPTION...]
# The same command again submits what is missing, and nothing else. FOLDER keeps to one run: other inputs or options are
# refused. RUN.txt holds a key and its value per line; paths may be relative, # begins a comment:
#   model        org/name, a folder or a GGUF file
#   calibration  a text
#   evaluation   a text
#   parts        into how many the calibration is cut: tasks of the array energy
#   energy       --tokens 16384                                  options of these commands; energy and allocate may lack
#   allocate     --bits 2,3
#   perplexity   --tokens 16384 --k-method tq-mse --pairs K2,K3   one line per task of the array perplexity
# --gpu asks for a GPU per task of the arrays. Further options go to every sbatch (--partition=..., --time=..., ...).
# FOLDER has stats.h5, map.h5, report.csv and report.md, what they were made of, and logs.
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=02:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

# In Slurm 22.05 the task that starts last has the array's own id as SLURM_JOB_ID: only this names it alone.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID:-}}
job=${job:-${SLURM_JOB_ID:-}}
most_restarts=5

fail() {  # MESSAGE [CODE]
  echo "error: ${job:+job $job: }$1" >&2
  exit "${2:-3}"
}

value() { sed -n "s/^$1 //p" "$folder/run.txt"; }
part() { printf '%s/parts/%04d.h5' "$folder" "$1"; }
result() { printf '%s/results/%04d.%s' "$folder" "$1" "$2"; }
n_results() { value perplexity | wc -l; }

whole_part() {  # outputs appear only when complete, but a disk may have damaged it since
  [ -e "$(part "$1")" ] && blockgtq inspect "$(part "$1")" 2>/dev/null | grep "^part  *$1 of $(value parts)\$" >/dev/null
}

# RUN.txt in one form: no comments, absolute paths, a model of the Hugging Face cache as the snapshot that it is today.
description() {
  local key text found
  while read -r key text || [ -n "$key" ]; do
    case $key in
      '' | '#'*) ;;
      model)
        found=$(blockgtq inspect "$text" | sed -n 's/^path  *//p') || exit 3  # it has said why
        echo "model $found"
        ;;
      calibration | evaluation)
        { [ -f "$text" ] && [ -r "$text" ]; } || fail "$key $text: cannot be read"
        echo "$key $(realpath -- "$text")"
        ;;
      parts)
        [[ $text =~ ^[1-9][0-9]*$ ]] || fail "$1: parts: '$text' found, a number from 1 allowed" 2
        echo "parts $text"
        ;;
      energy | allocate | perplexity) echo "$key $text" ;;
      *) fail "$1: '$key' found, model, calibration, evaluation, parts, energy, allocate, perplexity allowed" 2 ;;
    esac
  done <"$1"
}

check_keys() {  # DESCRIPTION RUN.txt
  local key n
  for key in model calibration evaluation parts energy allocate perplexity; do
    n=$(grep -c "^$key " <<<"$1" || true)
    case $key:$n in
      *:1 | energy:0 | allocate:0) ;;
      perplexity:[1-9]*) ;;
      *) fail "$2: $n lines of '$key' found, 1 allowed" 2 ;;
    esac
  done
}

# What lies behind the names of run.txt.
inputs() {
  blockgtq --version
  local text
  for text in calibration evaluation; do
    echo "$text sha256 $(sha256sum <"$(value $text)" | cut -c 1-64)"
  done
  find -L "$(value model)" -maxdepth 1 -type f \( -name '*.json' -o -name '*.model' -o -name '*.safetensors' -o -name '*.gguf' \) \
    -printf 'model %f %s bytes %TY-%Tm-%Td %TT\n' | LC_ALL=C sort
}

keep() {  # NAME: standard input becomes FOLDER/NAME, or is what that holds
  own=$folder/.$1-$HOSTNAME-$$
  trap 'rm -f "$own"' EXIT
  cat >"$own"
  ln "$own" "$folder/$1" 2>/dev/null || [ -e "$folder/$1" ]  # another submission may have been faster
  same "$1" <"$own"
}

same() {  # NAME: standard input is what FOLDER/NAME holds
  local other
  other=$(diff "$folder/$1" - | sed -n 's/^[<>] //p' | head -n 1 || true)
  [ -z "$other" ] || fail "$folder holds another run, which differs in: $other: name another folder"
}

queue() {  # STAGE [SBATCH OPTION...]: a job after the one before
  local id log="%x"
  [[ "$*" != *--array=* ]] || log="%x-%4a"
  id=$(sbatch --parsable --export=ALL "${options[@]}" "${after[@]}" --job-name="$1" --output="$folder/logs/$log.txt" "${@:2}" \
    "$script" "$1" "$folder") || { [ ${#ids[@]} -eq 0 ] || scancel "${ids[@]}"; fail "$1: sbatch refuses it: nothing is queued"; }
  id=${id%%;*}
  ids+=("$id")
  echo "$id" >>"$folder/jobs.txt"
  echo "job $id: $*"
  after=(--dependency="afterok:$id" --kill-on-invalid-dep=yes)
}

submit() {  # RUN.txt [--gpu] [SBATCH OPTION...]
  local run=$1 gpu=() options after=() ids=() script lines busy i missing
  shift
  if [ "${1:-}" = --gpu ]; then gpu=(--gres=gpu:1) && shift; fi
  options=("$@")
  script=$(realpath "$0")
  [ -r "$run" ] || fail "$run: cannot be read"
  [ -z "${!BLOCKGTQ_*}" ] || fail "${!BLOCKGTQ_*}: set in the environment: options of a run stand in $run" 2
  mkdir -p "$folder"/{parts,results,logs}
  lines=$(description "$run")
  check_keys "$lines" "$run"
  echo "$lines" | keep run.txt
  inputs | keep inputs.txt
  busy=$(squeue --me -h -o %F | grep -Fx -f "$folder/jobs.txt" 2>/dev/null | sort -un | paste -sd ' ' || true)
  [ -z "$busy" ] || fail "$folder: jobs of this run are queued or running: wait, or scancel $busy"

  if [ ! -e "$folder/stats.h5" ]; then
    missing=()
    for ((i = 1; i <= $(value parts); ++i)); do whole_part "$i" || missing+=("$i"); done
    [ ${#missing[@]} -eq 0 ] || queue energy "${gpu[@]}" --array="$(IFS=, && echo "${missing[*]}")"
    queue merge --cpus-per-task=1
  fi
  [ -e "$folder/map.h5" ] || queue allocate --cpus-per-task=1
  missing=()
  for ((i = 1; i <= $(n_results); ++i)); do [ -e "$(result "$i" csv)" ] || missing+=("$i"); done
  [ ${#missing[@]} -eq 0 ] || queue perplexity "${gpu[@]}" --array="$(IFS=, && echo "${missing[*]}")"
  [ -e "$folder/report.csv" ] || queue report --cpus-per-task=1
  [ ${#ids[@]} -gt 0 ] || echo "$folder: complete"
}

# blockgtq as a step of the job. The signal before the time limit comes to this shell alone, and a trap runs only while
# it waits: so the step is in the background.
compute() {
  local step code=0 stopped='' heard=1
  srun --ntasks=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --export=ALL \
    blockgtq "$@" -t "${SLURM_CPUS_PER_TASK:-1}" --progress plain --force &
  step=$!
  trap 'stopped=1 heard=1; kill -USR1 "$step" 2>/dev/null || true' USR1 TERM
  while [ -n "$heard" ]; do  # a signal ends a wait, not the step
    heard='' code=0
    wait "$step" || code=$?
  done
  case $code in
    0) return ;;
    75 | 138 | 143) stopped=1 ;;  # the step was told itself; 138 and 143: before it could listen
  esac
  [ -z "$stopped" ] || again
  exit "$code"
}

# Stopped by a signal: Slurm requeues of itself what it preempts or loses, but not what ends with code 75.
again() {
  [ "$(squeue -h -j "$job" -o %T)" = RUNNING ] || exit 75  # cancelled, or requeued already
  [ "${SLURM_RESTART_COUNT:-0}" -lt "$most_restarts" ] ||
    fail "stopped after $most_restarts restarts: it needs more --time, or the run more parts" 75
  echo "note: job $job: stopped by a signal: requeued" >&2
  scontrol requeue "$job"
  exit 75
}

report() {
  local i csv=() md=()
  for ((i = 1; i <= $(n_results); ++i)); do csv+=("$(result "$i" csv)") md+=("$(result "$i" md)"); done
  {
    sed 's/^/    /' "$folder/run.txt"
    echo
    cat "${md[@]}" | sed -e 's/  */ /g' -e '/^| -/s/--*/---/g' | awk '!seen[$0]++'
  } >"$folder/.report.md"
  awk '!seen[$0]++' "${csv[@]}" >"$folder/.report.csv"
  mv "$folder/.report.md" "$folder/report.md"
  mv "$folder/.report.csv" "$folder/report.csv"
}

unchanged() {  # FILE...: what was read is what the run began with, or they go
  inputs | same inputs.txt || { rm -f "$@"; exit 3; }
}

stage() {  # STAGE, in a job
  local task=${SLURM_ARRAY_TASK_ID:-} i words files=()
  case $1 in
    energy)
      if whole_part "$task"; then return; fi
      unchanged
      read -ra words <<<"$(value energy)"
      compute energy -m "$(value model)" -f "$(value calibration)" "${words[@]}" --part "$task/$(value parts)" -o "$(part "$task")"
      unchanged "$(part "$task")"
      ;;
    merge)
      for ((i = 1; i <= $(value parts); ++i)); do files+=("$(part "$i")"); done
      compute merge "${files[@]}" -o "$folder/stats.h5"
      ;;
    allocate)
      read -ra words <<<"$(value allocate)"
      compute allocate "$folder/stats.h5" "${words[@]}" -o "$folder/map.h5"
      ;;
    perplexity)
      unchanged
      read -ra words <<<"$(value perplexity | sed -n "${task}p")"
      for i in json md csv; do files+=("$(result "$task" $i)"); done
      compute perplexity -m "$(value model)" -f "$(value evaluation)" --map "$folder/map.h5" "${words[@]}" \
        --json "${files[0]}" --md "${files[1]}" --csv "${files[2]}"
      unchanged "${files[@]}"
      ;;
    report) report ;;
  esac
}

case ${1:-}:$# in
  submit:[0-2]) fail "submit RUN.txt FOLDER: $(($# - 1)) arguments found" 2 ;;
  submit:*)
    mkdir -p "$3"
    folder=$(realpath "$3")
    submit "$2" "${@:4}"
    ;;
  energy:2 | merge:2 | allocate:2 | perplexity:2 | report:2)
    folder=$2
    stage "$1"
    ;;
  *)
    sed -n '2,/^#SBATCH/s/^# //p' "$0" >&2
    exit 2
    ;;
esac
