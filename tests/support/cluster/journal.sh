# Show what the units of docs/install.md said last.
# usage: journal.sh
# shellcheck shell=bash
units=(munge slurmdbd slurmctld slurmd sackd slurmrestd)
journalctl --no-pager --lines=40 "${units[@]/#/--unit=}"
for log in /var/log/slurm/*.log; do
    [[ ! -s ${log} ]] || tail -v -n 15 "${log}"
done
