# How long a cluster takes: lines NAME SECONDS.
# usage: measure.sh TREE JOBS STEPS
# shellcheck shell=bash
tree=$1 jobs=$2 steps=$3
conf=/etc/slurm/slurm.conf

now() { date +%s%N; }
since() { awk -v begun="$1" -v ended="$(now)" 'BEGIN { printf "%.6f", (ended - begun) / 1e9 }'; }
some_job_runs() { [[ $(as slurm "${tree}/bin/squeue" -h -t RUNNING -o %i) ]]; }
is_empty() { [[ -z $(as slurm "${tree}/bin/squeue" -h) ]]; }
# Figures of the main scheduler come first, those of backfill second.
statistics() { as slurm "${tree}/bin/sdiag" | sed -n "s/^[[:space:]]*$1: *//p"; }
has_cycled() { statistics 'Total cycles' | awk '$1 < 5 { few = 1 } END { exit few || NR < 2 }'; }

as alice "${tree}/bin/srun" /bin/true
# The median: one of fifty may wait a second for slurmd to end the one before.
for ((i = 0; i < steps; i++)); do
    begun=$(now)
    as alice "${tree}/bin/srun" /bin/true
    since "${begun}"
    echo
done | sort -n > /tmp/measured.steps
awk '{ each[NR] = $1 } END { print "srun", each[int((NR + 1) / 2)]; print "srun-slowest", each[NR] }' /tmp/measured.steps

# The others wait for the nodes, so that slurmctld alone is measured.
printf '#!/bin/sh\nsleep 3600\n' > /tmp/measured.sh
as alice "${tree}/bin/sbatch" --quiet --nodes=3 --exclusive --time=60 --output=/dev/null --chdir=/tmp /tmp/measured.sh
wait_for "the job that takes the nodes" some_job_runs
begun=$(now)
as alice bash -c "for ((i = 0; i < ${jobs}; i++)); do
    '${tree}/bin/sbatch' --quiet --time=5 --output=/dev/null --chdir=/tmp /tmp/measured.sh
done"
echo "sbatch $(since "${begun}")"

cp "${conf}" /tmp/measured.conf
echo "SchedulerParameters=sched_interval=1,default_queue_depth=${jobs},bf_interval=1,bf_max_job_test=${jobs}" >> "${conf}"
as slurm "${tree}/bin/scontrol" reconfigure
as slurm "${tree}/bin/sdiag" --reset > /dev/null
wait_for "five cycles of both schedulers" has_cycled
statistics 'Mean cycle' | awk '{ printf "%s %.6f\n", NR == 1 ? "main-cycle" : "backfill-cycle", $1 / 1e6 }'
cp /tmp/measured.conf "${conf}"

as slurm "${tree}/bin/scancel" --user=alice
wait_for "an empty queue" is_empty
