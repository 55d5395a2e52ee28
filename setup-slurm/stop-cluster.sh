#!/bin/bash
# Ends the cluster of the directory in which this script lies, and removes what it has left.
#
# usage: stop-cluster [PID]
#   PID: process to wait for before, such as that of the job in the runner
set -euo pipefail
prefix=$(dirname "$(readlink -f "$0")")
versions=$prefix/versions

# Processes that run a program of the package.
ours() {
    local link
    for link in /proc/[0-9]*/exe; do
        if [[ $(readlink "$link") == "$versions"/* ]]; then
            basename "$(dirname "$link")"
        fi
    done
}

# Sends a signal to each of them; some may have ended by then. signal NAME
signal() {
    local pid
    for pid in $(ours); do
        kill -s "$1" "$pid" 2> /dev/null || true
    done
}

if (($#)); then
    tail --pid="$1" -f /dev/null
fi
signal TERM
deadline=$((SECONDS + 10))
until [[ -z $(ours) ]] || ((SECONDS >= deadline)); do
    sleep 0.1
done
signal KILL
if grep -qs "^StateSaveLocation=$prefix/" /etc/slurm/slurm.conf; then
    rm -f /etc/slurm/slurm.conf /etc/slurm/cgroup.conf /etc/slurm/jwt_hs256.key
fi
cd "$prefix"
rm -rf versions current history .lock modules modulefiles munge slurmctld slurmd log deploy.sh stop-cluster
