# How long a cluster takes: lines NAME SECONDS.
# usage: measure.sh TREE JOBS STEPS
# shellcheck shell=bash
tree=$1 jobs=$2 steps=$3

now() { date +%s%N; }
since() { awk -v begun="$1" -v ended="$(now)" 'BEGIN { printf "%.6f", (ended - begun) / 1e9 }'; }

as alice "${tree}/bin/srun" /bin/true
begun=$(now)
as alice bash -c "for ((i = 0; i < ${steps}; i++)); do '${tree}/bin/srun' /bin/true; done"
echo "srun $(since "${begun}")"

# None starts, so that slurmctld alone is measured.
as slurm "${tree}/bin/scontrol" update "nodename=$(hostname)" state=drain reason=measured
printf '#!/bin/sh\n' > /tmp/measured.sh
begun=$(now)
as alice bash -c "for ((i = 0; i < ${jobs}; i++)); do
    '${tree}/bin/sbatch' --quiet --output=/dev/null --chdir=/tmp /tmp/measured.sh
done"
echo "sbatch $(since "${begun}")"

as slurm "${tree}/bin/scancel" --user=alice
emptied() { [[ -z $(as slurm "${tree}/bin/squeue" -h) ]]; }
wait_for "an empty queue" emptied
as slurm "${tree}/bin/scontrol" update "nodename=$(hostname)" state=resume
