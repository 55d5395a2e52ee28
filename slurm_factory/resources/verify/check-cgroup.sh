# Limits of memory, CPUs and devices hold, by cgroup/v2 with the controllers of this machine.
# usage: check-cgroup.sh TREE
# shellcheck shell=bash
tree=$1
root=/sys/fs/cgroup
for controller in cpuset memory; do
    if ! grep -qw "${controller}" "${root}/cgroup.controllers" 2> /dev/null; then
        skip "cgroup v2 has no controller ${controller} here (${root}/cgroup.controllers)"
    fi
done

cp -p /etc/slurm/cgroup.conf "${STATE}/cgroup.conf"
restore() {
    cat "${STATE}/cgroup.conf" > /etc/slurm/cgroup.conf
    as_before "${tree}"
}
trap restore EXIT

cat > /etc/slurm/cgroup.conf << 'CONF'
CgroupPlugin=cgroup/v2
IgnoreSystemd=yes
ConstrainCores=yes
ConstrainDevices=yes
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
AllowedSwapSpace=0
CONF
with_settings "${tree}" 's#^ProctrackType=.*#ProctrackType=proctrack/cgroup#
    s#^TaskPlugin=.*#TaskPlugin=task/cgroup,task/affinity#
    s#^SelectTypeParameters=.*#SelectTypeParameters=CR_CPU_Memory#'
job() { as alice timeout "${LIMIT}" "${tree}/bin/srun" --nodelist=node1 "$@"; }
cpus=$(job --cpus-per-task=1 --mem=64 /usr/bin/nproc)
[[ ${cpus} == 1 ]] || fail "a task of one CPU sees ${cpus}"
take() { job --mem=64 /bin/sh -c "head -c $1 /dev/zero | tail -c $1 > /dev/null"; }
take 20000000 || fail "a task could not take 20 MB with --mem=64"
if take 200000000 2> /tmp/oom; then
    fail "a task took 200 MB with --mem=64"
fi
grep -qiE 'oom|out of memory' /tmp/oom || fail "$(cat /tmp/oom)"
echo "one CPU, and 64 MB of memory"
