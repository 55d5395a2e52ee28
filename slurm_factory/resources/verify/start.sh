# Start every daemon of the package, each with an empty environment.
# usage: start.sh TREE AUTH    (AUTH: munge or slurm)
# shellcheck shell=bash
tree=$1 auth=$2
rest=/run/slurmrestd/socket

echo "== start" >> /var/log/slurm/start.log
# A daemon that inherited the pipe of the caller would keep it open for ever; logs.sh shows this.
exec >> /var/log/slurm/start.log 2>&1 < /dev/null

if [[ ${auth} == munge ]]; then
    as munge "${tree}/sbin/munged"
    wait_for_daemon munged as alice "${tree}/bin/munge" -n
    for node in "${NODES[@]}"; do
        at_as "${node}" munge "${tree}/sbin/munged"
        wait_for "munged on ${node}" at_as "${node}" alice "${tree}/bin/munge" -n
    done
fi
if has "${tree}" accounting_storage_mysql; then
    as slurm "${tree}/sbin/slurmdbd"
    wait_for_daemon slurmdbd as slurm "${tree}/bin/sacctmgr" -n show cluster
    if [[ -z $(as slurm "${tree}/bin/sacctmgr" -n show cluster live) ]]; then
        as slurm "${tree}/bin/sacctmgr" -i add cluster live
    fi
fi
as slurm "${tree}/sbin/slurmctld"
wait_for_daemon slurmctld as alice "${tree}/bin/scontrol" show config
for node in "${NODES[@]}"; do
    start_slurmd "${tree}" "${node}"
done
if [[ -e ${tree}/sbin/slurmrestd ]]; then
    # It stays in the foreground; on a machine without an instance, all of a script's session ends with it.
    as slurmrest SLURM_JWT=daemon /usr/bin/setsid "${tree}/sbin/slurmrestd" "unix:${rest}" 127.0.0.1:6820 &
fi
for node in "${NODES[@]}"; do
    wait_for_node "${tree}" "${node}"
done
[[ ! -e ${tree}/sbin/slurmrestd ]] || wait_for slurmrestd test -S "${rest}"
