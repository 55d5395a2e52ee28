# Wait until no job is left and slurmctld has saved that. The boot time of an instance is that of its
# host, so that slurmctld would take unsaved ends for jobs that still run.
# usage: settle.sh TREE
# shellcheck shell=bash
tree=$1
is_empty() { [[ -z $("${tree}/bin/squeue" --noheader) ]]; }
is_saved() {
    local ended
    ended=$("${tree}/bin/sacct" --allusers --allocations --noheader --parsable2 --format=End | sort | tail -n 1)
    (($(stat -c %Y /var/spool/slurmctld/job_state) > $(date -d "${ended/T/ }" +%s)))
}
wait_for "an empty queue" is_empty
wait_for "the state to be saved" is_saved
