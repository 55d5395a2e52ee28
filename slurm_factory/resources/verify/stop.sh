# Stop what start.sh started.
# usage: stop.sh
# shellcheck shell=bash
daemons=(slurmrestd sackd slurmd slurmstepd slurmctld slurmdbd munged)
for daemon in "${daemons[@]}"; do
    pkill -x "${daemon}" || true
    gone() { ! pgrep -x "${daemon}"; }
    wait_for "the end of ${daemon}" gone
done
