# Stop what start.sh started.
# usage: stop.sh
# shellcheck shell=bash
daemons=(slurmrestd sackd slurmd slurmctld slurmdbd munged)
# Of a job that still runs; slurmstepd waits for it.
pkill -KILL -u alice || true
pkill -KILL -x slurmstepd || true
for daemon in "${daemons[@]}"; do
    pkill -x "${daemon}" || true
    gone() { ! pgrep -x "${daemon}"; }
    wait_for "the end of ${daemon}" gone
done
pkill -KILL -x slurmstepd || true
