#!/usr/bin/env bash
# A Slurm of one node, this machine, for tests/cluster: `slurm.sh start` installs (Debian, Ubuntu; as root) and starts
# munge, slurmctld and slurmd, `slurm.sh stop` ends them, `slurm.sh status` says whether jobs can be submitted.
# Needs no systemd. CPUS is what the node offers; with fewer real cores jobs share them.
set -euo pipefail
CPUS=${CPUS:-2}
STATE=${SLURM_TEST_DIR:-/var/tmp/respike-slurm}
export SLURM_CONF=$STATE/slurm.conf

ready() { [ -f "$SLURM_CONF" ] && sinfo --noheader --format=%T 2>/dev/null | grep -qE 'idle|mixed|allocated'; }

install() {
    command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null && return
    command -v apt-get >/dev/null || { echo "no Slurm, and no apt-get to install it with" >&2; exit 3; }
    [ "$(id -u)" = 0 ] || { echo "no Slurm: run as root to install slurm-wlm and munge" >&2; exit 3; }
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y --no-install-recommends slurm-wlm munge >"$STATE/apt.log" 2>&1 ||
        { apt-get update && apt-get install -y --no-install-recommends slurm-wlm munge; } >>"$STATE/apt.log" 2>&1 ||
        { echo "Slurm cannot be installed here: $(tail -n 1 "$STATE/apt.log")" >&2; exit 3; }
}

configure() {
    local host
    host=$(hostname -s)
    mkdir -p "$STATE"/{ctld,d} /run/munge
    cat >"$SLURM_CONF" <<EOF
ClusterName=respike
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/d
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
SchedulerParameters=sched_interval=5,bf_interval=5
NodeName=$host NodeAddr=127.0.0.1 CPUs=$CPUS RealMemory=$(awk '/MemTotal/ {print int($2 / 1100)}' /proc/meminfo) State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
}

start() {
    mkdir -p "$STATE"
    ready && return
    install
    configure
    if ! munge -n >/dev/null 2>&1; then
        [ -s /etc/munge/munge.key ] || mungekey --create
        chown -R munge: /etc/munge /run/munge /var/lib/munge /var/log/munge
        chmod 755 /run/munge
        su -s /bin/sh munge -c "munged"
    fi
    slurmctld -c
    slurmd
    for _ in $(seq 60); do
        ready && return
        sleep 0.5
    done
    echo "Slurm did not come up, see $STATE/*.log" >&2
    tail -n 5 "$STATE"/slurm*.log >&2
    exit 4
}

stop() {
    local daemon
    for daemon in slurmd slurmctld; do
        if [ -f "$STATE/$daemon.pid" ]; then
            kill "$(cat "$STATE/$daemon.pid")" || true
        fi
    done
}

case ${1:-} in
    start) start && echo "$SLURM_CONF" ;;
    stop) stop ;;
    status) ready ;;
    *) echo "usage: $0 start | stop | status" >&2; exit 2 ;;
esac
