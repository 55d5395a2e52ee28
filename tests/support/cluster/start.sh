# Start every daemon of the package, each with an empty environment.
# usage: start.sh TREE
# shellcheck shell=bash
tree=$1
rest=/run/slurmrestd/socket

# A daemon that inherited the pipe of the caller would keep it open for ever; logs.sh shows this.
exec > /var/log/slurm/start.log 2>&1 < /dev/null

as munge "${tree}/sbin/munged"
wait_for munged as alice "${tree}/bin/munge" -n
if has "${tree}" accounting_storage_mysql; then
    as slurm "${tree}/sbin/slurmdbd"
    wait_for slurmdbd as slurm "${tree}/bin/sacctmgr" -n show cluster
    if [[ -z $(as slurm "${tree}/bin/sacctmgr" -n show cluster live) ]]; then
        as slurm "${tree}/bin/sacctmgr" -i add cluster live
    fi
fi
as slurm "${tree}/sbin/slurmctld"
wait_for slurmctld as alice "${tree}/bin/scontrol" show config
env -i "${tree}/sbin/slurmd"
if [[ -e ${tree}/sbin/slurmrestd ]]; then
    as slurmrest SLURM_JWT=daemon "${tree}/sbin/slurmrestd" "unix:${rest}" 127.0.0.1:6820 &
fi
node_is_idle() { as alice "${tree}/bin/sinfo" -h -o %t | grep -qx 'idle'; }
wait_for "the node to be idle" node_is_idle
[[ ! -e ${tree}/sbin/slurmrestd ]] || wait_for slurmrestd test -S "${rest}"
