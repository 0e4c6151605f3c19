# shellcheck shell=bash
# A Slurm cluster on one machine: munged, slurmctld and three slurmd under names and ports of their own. Sourced by
# cases.sh; needs root and Debian's packages slurmctld, slurmd, slurm-client and munge.
#   start_cluster FOLDER; start_node NAME; kill_node NAME; stop_cluster

nodes=(n1 n2 n3)

start_cluster() {
  cluster=$1
  mkdir -p "$cluster/state"
  head -c 1024 /dev/urandom >"$cluster/munge.key"
  chmod 600 "$cluster/munge.key"
  # --force: the folder may lie in one that others write to, as /tmp is
  munged --force --key-file="$cluster/munge.key" --socket="$cluster/munge.socket" --pid-file="$cluster/munged.pid" \
    --log-file="$cluster/munged.log" --seed-file="$cluster/munge.seed" 2>"$cluster/munged.err"
  local host i
  host=$(hostname -s)
  # Nothing binds or counts processors and memory, so that no cgroup is needed. A requeued job waits until its
  # credential has expired: 2 minutes, if cred_expire did not say 5 s.
  cat >"$cluster/slurm.conf" <<EOF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=26817
SlurmUser=root
AuthInfo=socket=$cluster/munge.socket,cred_expire=5
StateSaveLocation=$cluster/state
SlurmdSpoolDir=$cluster/spool-%n
SlurmctldPidFile=$cluster/slurmctld.pid
SlurmdPidFile=$cluster/slurmd-%n.pid
SlurmctldLogFile=$cluster/slurmctld.log
SlurmdLogFile=$cluster/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=3
SlurmdTimeout=300
ReturnToService=2
GresTypes=gpu
EOF
  for i in "${!nodes[@]}"; do
    mkdir -p "$cluster/spool-${nodes[i]}"
    echo "NodeName=${nodes[i]} NodeHostname=$host NodeAddr=127.0.0.1 Port=$((26820 + i)) CPUs=1 RealMemory=1000 Gres=gpu:1"
  done >>"$cluster/slurm.conf"
  cat >>"$cluster/slurm.conf" <<EOF
PartitionName=low Nodes=ALL Default=YES PriorityTier=1
PartitionName=grace Nodes=ALL PriorityTier=1 GraceTime=60
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
EOF
  echo "Name=gpu File=/dev/null" >"$cluster/gres.conf"  # what Slurm counts, nothing computes on it
  export SLURM_CONF=$cluster/slurm.conf
  slurmctld -c
  for i in "${nodes[@]}"; do start_node "$i"; done
}

start_node() { slurmd -N "$1" 2>>"$cluster/slurmd-$1.err"; }

descendants() {  # PID: it and all that it started
  local child
  echo "$1"
  for child in $(ps -o pid= --ppid "$1"); do descendants "$child"; done
}

kill_node() {  # NAME: its daemon and all that runs there, at once
  local id step pids
  pids=$(cat "$cluster/slurmd-$1.pid")
  for id in $(squeue -h -w "$1" -o %A); do  # steps are no children of the daemon
    for step in $(ps -eo pid=,args= | awk -v name="[$id." '$2 == "slurmstepd:" && index($3, name) == 1 { print $1 }'); do
      pids+=" $(descendants "$step" | paste -sd ' ')"
    done
  done
  # shellcheck disable=SC2086
  kill -9 $pids 2>/dev/null || true  # some may have ended since
}

stop_cluster() {
  local pid name
  scancel --me 2>/dev/null || true
  for _ in {1..20}; do
    [ -n "$(squeue -h 2>/dev/null)" ] || break
    sleep 1
  done
  for name in "${nodes[@]/#/slurmd-}" slurmctld munged; do
    [ -s "$cluster/$name.pid" ] || continue
    pid=$(cat "$cluster/$name.pid")
    kill "$pid" 2>/dev/null || continue
    for _ in {1..50}; do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.2
    done
  done
}
