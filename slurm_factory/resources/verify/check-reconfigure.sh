# slurmctld reads its configuration again while it runs, starting itself anew from the tree.
# usage: check-reconfigure.sh TREE
# shellcheck shell=bash
tree=$1
feature=again-${RANDOM}
sed -i "s/^NodeName=node1 .*/& Features=${feature}/; s/ Features=.* Features=/ Features=/" /etc/slurm/slurm.conf
as slurm "${tree}/bin/scontrol" reconfigure
knows() { as alice "${tree}/bin/sinfo" --noheader --nodes=node1 --format=%f | grep -qx "${feature}"; }
wait_for "the new configuration" knows
for node in "${NODES[@]}"; do
    wait_for_node "${tree}" "${node}"
done
said=$(as alice timeout "${LIMIT}" "${tree}/bin/srun" --constraint="${feature}" /bin/hostname)
[[ ${said} == node1 ]] || fail "with --constraint: ${said}"
pid=$(pgrep -o -x slurmctld)
[[ $(readlink "/proc/${pid}/exe") == "${tree}/sbin/slurmctld" ]] || fail "$(readlink "/proc/${pid}/exe")"
echo "slurmctld and slurmd know feature ${feature}"
