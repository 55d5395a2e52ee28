# Limits of memory, CPUs and devices hold, by cgroup/v2 with the controllers of this machine.
# usage: check-cgroup.sh TREE
# shellcheck shell=bash
tree=$1
root=/sys/fs/cgroup device=/dev/full
for controller in cpuset memory; do
    if ! grep -qw "${controller}" "${root}/cgroup.controllers" 2> /dev/null; then
        skip "cgroup v2 has no controller ${controller} here (${root}/cgroup.controllers)"
    fi
done

cp -p /etc/slurm/cgroup.conf "${STATE}/cgroup.conf"
restore() {
    cat "${STATE}/cgroup.conf" > /etc/slurm/cgroup.conf
    rm -f /etc/slurm/gres.conf
    as_before "${tree}"
}
trap restore EXIT

cat > /etc/slurm/cgroup.conf << 'CONF'
CgroupPlugin=cgroup/v2
IgnoreSystemd=yes
EnableControllers=yes
ConstrainCores=yes
ConstrainDevices=yes
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
AllowedSwapSpace=0
CONF
# A device that every machine has, and that nobody needs.
echo "NodeName=node1 Name=gpu File=${device}" > /etc/slurm/gres.conf
# Without task/affinity: it would bind tasks by itself.
with_settings "${tree}" 's#^ProctrackType=.*#ProctrackType=proctrack/cgroup#
    s#^TaskPlugin=.*#TaskPlugin=task/cgroup#
    s#^SelectTypeParameters=.*#SelectTypeParameters=CR_CPU_Memory#
    /^NodeName=node1 /s/$/ Gres=gpu:1/; 1i GresTypes=gpu'
job() { as alice timeout "${LIMIT}" "${tree}/bin/srun" --nodelist=node1 "$@"; }
cpus=$(job --cpus-per-task=1 --mem=64 /usr/bin/nproc)
[[ ${cpus} == 1 ]] || fail "a task of one CPU sees ${cpus}"
take() { job --mem=64 /bin/sh -c "head -c $1 /dev/zero | tail -c $1 > /dev/null"; }
take 20000000 || fail "a task could not take 20 MB with --mem=64"
if take 200000000 2> /tmp/oom; then
    fail "a task took 200 MB with --mem=64"
fi
grep -qiE 'oom|out of memory' /tmp/oom || fail "$(cat /tmp/oom)"
read_device() { job --mem=64 "$@" /usr/bin/head -c 1 "${device}" > /dev/null; }
read_device --gres=gpu:1 || fail "a task could not open its device ${device}"
if read_device 2> /tmp/denied; then
    fail "a task opened ${device} without asking for it"
fi
grep -q 'Operation not permitted' /tmp/denied || fail "$(cat /tmp/denied)"
echo "one CPU, 64 MB of memory, and no device of others"
