# Replace one kind of daemon by that of another tree, while a job runs.
# usage: upgrade-daemon.sh TREE slurmdbd|slurmctld|slurmd JOB TREE-OF-COMMANDS
#   TREE-OF-COMMANDS: not newer than slurmctld
# SLURM_CONF, SLURMDBD_CONF, CGROUP_CONF: content of the files of the configuration.
# shellcheck shell=bash
tree=$1 daemon=$2 job=$3 commands=$4
gone() { ! pgrep -x "${daemon}"; }
answers() { as slurm "${tree}/bin/sacctmgr" -n show cluster; }
starts_jobs() { as alice timeout 60 "${tree}/bin/srun" --nodelist="${node}" --overcommit /bin/true; }

pkill -x "${daemon}"
wait_for "the end of ${daemon}" gone
case ${daemon} in
    slurmdbd)
        write_configuration yes
        as slurm "${tree}/sbin/slurmdbd" > /dev/null 2>&1 < /dev/null
        wait_for_daemon slurmdbd answers
        ;;
    slurmctld)
        as slurm "${tree}/sbin/slurmctld" > /dev/null 2>&1 < /dev/null
        wait_for_daemon slurmctld as alice "${tree}/bin/scontrol" show config
        ;;
    slurmd)
        for node in "${NODES[@]}"; do
            start_slurmd "${tree}" "${node}"
        done
        # The first one runs the job.
        for node in "${NODES[@]:1}"; do
            wait_for "jobs on ${node}" starts_jobs
        done
        ;;
esac
for pid in $(pgrep -x "${daemon}"); do
    [[ $(readlink "/proc/${pid}/exe") == "${tree}/sbin/${daemon}" ]] || fail "$(readlink "/proc/${pid}/exe") runs"
done
is_running "${commands}" "${job}" || fail "job ${job} is $(state_of "${commands}" "${job}")"
echo "job ${job} runs, with ${daemon} of $("${tree}/sbin/slurmctld" -V)"
