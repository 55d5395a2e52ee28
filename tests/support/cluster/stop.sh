# Stop what start.sh started.
# usage: stop.sh
# shellcheck shell=bash
daemons=(slurmrestd slurmd slurmstepd slurmctld slurmdbd munged)
none_left() { ! pgrep -x "$(IFS='|'; echo "${daemons[*]}")"; }
for daemon in "${daemons[@]}"; do
    pkill -x "${daemon}" || true
    gone() { ! pgrep -x "${daemon}"; }
    wait_for "the end of ${daemon}" gone
done
none_left
