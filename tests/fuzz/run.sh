#!/usr/bin/env bash
# Runs readers under libFuzzer, one after the other, and prints a row of Markdown for each.
#   cmake --workflow --preset fuzz
#   tests/fuzz/run.sh build-fuzz 600 [READER ...]
# What is found while it runs is kept in BUILD/fuzz/READER, and a finding as BUILD/fuzz/READER-crash-... there.
set -uo pipefail
[ $# -ge 2 ] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }
build=$(realpath "$1") seconds=$2
shift 2
cd "$(dirname "$0")/../.."
readers=("$@")
[ ${#readers[@]} -gt 0 ] || readers=(tests/fuzz/corpus/*)
# Readers want files: they lie in memory where the system has such a folder.
[ -d /dev/shm ] && export TMPDIR=/dev/shm
# libhdf5 is not ours to check, and what it loses over damaged files neither.
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=0 UBSAN_OPTIONS=print_stacktrace=1
failed=0
echo "| reader | seconds | executions | corpus | findings |"
echo "|---|---:|---:|---:|---:|"
for reader in "${readers[@]}"; do
  reader=$(basename "$reader")
  mkdir -p "$build/fuzz/$reader"
  log=$build/fuzz/$reader.log
  nice -n 10 "$build/tests/fuzz_readers" "--reader=$reader" "$build/fuzz/$reader" "tests/fuzz/corpus/$reader" \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1500 -malloc_limit_mb=1000 -max_len=20000 -len_control=50 \
    -reload=0 -print_final_stats=1 -artifact_prefix="$build/fuzz/$reader-" >"$log" 2>&1
  code=$?
  [ $code -eq 0 ] || failed=1
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  took=$(sed -n 's/^Done [0-9]* runs in \([0-9]*\) second.*/\1/p' "$log")
  echo "| $reader | ${took:-?} | ${runs:-?} | $(find "$build/fuzz/$reader" -type f | wc -l) | $([ $code -eq 0 ] && echo 0 || echo "1: $log") |"
done
exit $failed
