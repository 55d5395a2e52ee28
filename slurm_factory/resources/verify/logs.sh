# Show what the daemons said last.
# usage: logs.sh LINES
# shellcheck shell=bash
for log in /var/log/munge/munged.log /var/log/slurm/*.log; do
    [[ ! -s ${log} ]] || tail -v -n "$1" "${log}"
done
