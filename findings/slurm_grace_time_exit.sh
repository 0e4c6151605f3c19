#!/usr/bin/env bash
# Slurm does not requeue a preempted job that ends within its grace time: with an exit code other than 0 it is FAILED.
#
# Slurm 22.05.8 (Debian 12), PreemptMode=REQUEUE, a partition with a GraceTime: when a job is preempted its steps get SIGTERM, its
# batch script does not. A job whose step handles that and ends with 75 (EX_TEMPFAIL) within the grace time, and whose batch script
# ends with the step's code, is FAILED and not requeued, though submitted with --requeue. A job whose step ignores SIGTERM is requeued
# when the grace time ends; in a partition without GraceTime the first job is requeued, too. The manual's "Preempts jobs by requeuing
# them (if possible)" does not say so. A script that wants to run again calls scontrol requeue before it ends, or slurm.conf has
# RequeueExit=75.
#
# Needs Debian 12 with its package lists, not root: the packages are unpacked in a temporary folder. One to three minutes.
set -euo pipefail
slurm=22.05.8-4+deb12u3 munge=0.5.15-2+deb12u1
packages=(slurm{ctld,d,-client,-wlm-basic-plugins}"=$slurm" {munge,libmunge2}"=$munge" libhwloc15=2.9.0-1 libnuma1=2.0.16-1
  libreadline8=8.2-1.3)
dir=$(mktemp -d)
export SLURM_CONF=$dir/slurm.conf  # no command may reach another cluster
daemons=()
stop() {
  scancel --me 2>/dev/null || true
  for _ in {1..40}; do
    [ -n "$(squeue -h 2>/dev/null)" ] || break
    sleep 0.5
  done
  [ ${#daemons[@]} -eq 0 ] || kill "${daemons[@]}" 2>/dev/null || true
  wait
  rm -rf "$dir"
}
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM

(cd "$dir" && apt-get -qq download "${packages[@]}" 2>"$dir/apt.txt") || {
  grep '^E:' "$dir/apt.txt" >&2 || true
  echo "error: apt-get cannot download ${packages[*]}: Debian 12 and its current package lists are needed" >&2
  exit 3
}
for package in "$dir"/*.deb; do dpkg -x "$package" "$dir/root"; done
lib=$(echo "$dir"/root/usr/lib/*-linux-gnu)
export PATH=$dir/root/usr/bin:$dir/root/usr/sbin:$PATH LD_LIBRARY_PATH=$lib:$lib/slurm-wlm:${lib/usr\/}
mkdir "$dir/state" "$dir/spool"
head -c 1024 /dev/urandom >"$dir/munge.key"
chmod 600 "$dir/munge.key"
cat >"$dir/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=26917
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
PluginDir=$lib/slurm-wlm
AuthInfo=socket=$dir/munge.socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=1
KillWait=3
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=node NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=26918 CPUs=3
PartitionName=grace Nodes=ALL PriorityTier=1 GraceTime=10
PartitionName=at_once Nodes=ALL PriorityTier=1
PartitionName=high Nodes=ALL PriorityTier=2 PreemptMode=OFF
CONF
daemon() {  # COMMAND, in the foreground for Slurm
  "$@" >>"$dir/daemons.txt" 2>&1 &
  daemons+=($!)
}
trap stop EXIT
until_true() {  # COMMAND...: at most 150 s
  for _ in {1..300}; do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.5
  done
  echo "error: waited for: $*" >&2
  tail -n 5 "$dir"/*.log "$dir/daemons.txt" >&2
  exit 3
}
daemon munged --foreground --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" \
  --log-file="$dir/munged.log" --seed-file="$dir/munge.seed"
until_true test -S "$dir/munge.socket"
daemon slurmctld-wlm -D -c
daemon slurmd-wlm -D -N node -d "$dir/root/usr/sbin/slurmstepd-wlm"
until_true sh -c "sinfo -h -t idle -o %N | grep ."

loop='echo ready; for i in {1..1500}; do sleep 0.1; done'
saves="trap 'exit 75' TERM; $loop"
ignores="trap '' TERM; $loop"
submit() {  # PARTITION NAME SCRIPT, run as a step: its number
  sbatch --parsable --partition="$1" --job-name="$2" --requeue --output="$dir/job-%j.txt" --wrap "srun bash -c \"$3\""
}
jobs=("$(submit grace saves "$saves")" "$(submit grace ignores "$ignores")" "$(submit at_once saves "$saves")")
for job in "${jobs[@]}"; do until_true grep ready "$dir/job-$job.txt"; done
high=$(sbatch --parsable --partition=high --ntasks=3 --output=/dev/null --wrap true)
until_true sh -c "squeue -h -t COMPLETED -j $high -o %A | grep ."
found=$(for job in "${jobs[@]}"; do
  scontrol show job "$job" | awk -v RS='[ \n]+' -F = '{ of[$1] = $2 }
    END {
      end = of["Restarts"] > 0 ? "requeued" : of["JobState"] " " of["ExitCode"]
      print of["Partition"], of["JobName"] ":", end
    }'
done)
slurmctld-wlm -V
printf '%s\n' "$found"
[ "$found" = "grace saves: FAILED 75:0
grace ignores: requeued
at_once saves: requeued" ] || { echo "changed: other ends of the three jobs"; exit 1; }
