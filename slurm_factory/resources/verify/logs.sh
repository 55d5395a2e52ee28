# Show what the daemons said last.
# usage: logs.sh LINES
# shellcheck shell=bash
logs=(/var/log/munge/munged.log /var/log/slurm/slurm*.log /var/log/slurm/start.log)
for log in "${logs[@]}"; do
    [[ ! -s ${log} ]] || tail -v -n "$1" "${log}"
done
