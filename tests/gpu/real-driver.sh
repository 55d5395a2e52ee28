#!/bin/bash
# Shows that a --gpu package finds the GPUs of this machine by its real NVIDIA driver, and that a job
# gets one of them. Needs root, no network, and half a minute; leaves nothing behind. The machine must
# have no Slurm and no munge that run.
#
# usage: real-driver.sh SOFTWARE-TARBALL [DIRECTORY-OF-libnvidia-ml.so.1]
set -euo pipefail

tarball=$(realpath "$1")
libraries=${2:-}
work=$(mktemp -d /var/tmp/slurm-gpu.XXXXXX)
tree="${work}/a site/software"
configuration=${work}/slurm.conf
limit=60

fail() {
    echo "FAILED: $*" >&2
    grep -h -iE "error|fatal|unauth" "${work}"/*.log >&2 || true
    exit 1
}

end() {
    pkill -x 'slurmd|slurmctld|slurmstepd|munged' || true
    sleep 1
    rm -rf "${work}"
}
trap end EXIT

wait_for() {
    local deadline=$((SECONDS + limit)) what=$1
    shift
    until "$@" > /dev/null 2>&1; do
        ((SECONDS < deadline)) || fail "timed out waiting for ${what}"
        sleep 0.2
    done
}

if pgrep -x 'slurmd|slurmctld|munged'; then
    fail "Slurm or munge runs on this machine"
fi
chmod 755 "${work}"
mkdir "${tree%/*}"
tar -xzf "${tarball}" -C "${tree%/*}"
export SLURM_CONF=${configuration}
node=$(hostname -s)
socket=${work}/munge.socket
"${tree}/sbin/mungekey" --create --keyfile="${work}/munge.key"
"${tree}/sbin/munged" --force --socket="${socket}" --key-file="${work}/munge.key" \
    --pid-file="${work}/munged.pid" --seed-file="${work}/munged.seed" --log-file="${work}/munged.log"

cat > "${configuration}" << CONF
ClusterName=gpu
SlurmctldHost=${node}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=${socket}
StateSaveLocation=${work}/state
SlurmctldPidFile=${work}/slurmctld.pid
SlurmctldLogFile=${work}/slurmctld.log
SlurmdSpoolDir=${work}/spool
SlurmdPidFile=${work}/slurmd.pid
SlurmdLogFile=${work}/slurmd.log
SlurmdParameters=config_overrides
SlurmdDebug=debug2
ProctrackType=proctrack/pgid
GresTypes=gpu
SelectType=select/cons_tres
ReturnToService=2
NodeName=${node} NodeAddr=127.0.0.1 CPUs=$(nproc) Gres=gpu:GPUS State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
CONF
echo AutoDetect=nvml > "${work}/gres.conf"
echo CgroupPlugin=disabled > "${work}/cgroup.conf"

# What slurmd itself detects is what the node has.
start() { env -i SLURM_CONF="${configuration}" ${libraries:+LD_LIBRARY_PATH="${libraries}"} "$@"; }
detected=$(start "${tree}/sbin/slurmd" -G 2>&1 |
    grep -E '(GRES\[gpu\]|Gres Name=gpu).*File[:=]/dev/' | sort -u | wc -l)
((detected > 0)) || fail "slurmd detects no GPU: $(start "${tree}/sbin/slurmd" -G 2>&1 | tail -n 5)"
sed -i "s/gpu:GPUS/gpu:${detected}/" "${configuration}"

start "${tree}/sbin/slurmctld"
wait_for slurmctld "${tree}/bin/scontrol" ping
start "${tree}/sbin/slurmd"
is_idle() { "${tree}/bin/sinfo" --noheader --format=%t | grep -qx idle; }
wait_for "the node" is_idle

# shellcheck disable=SC2016 # the job expands it
given=$("${tree}/bin/srun" --gres=gpu:1 /bin/sh -c 'echo "${CUDA_VISIBLE_DEVICES}"')
[[ ${given} =~ ^[0-9]+$ ]] || fail "a job with --gres=gpu:1 got '${given}'"
all=$("${tree}/bin/srun" "--gres=gpu:${detected}" /usr/bin/printenv CUDA_VISIBLE_DEVICES)
[[ $(tr ',' '\n' <<< "${all}" | wc -l) == "${detected}" ]] || fail "a job with all GPUs got '${all}'"
if command -v nvidia-smi > /dev/null; then
    "${tree}/bin/srun" --gres=gpu:1 nvidia-smi --list-gpus
fi
echo "PASSED: ${detected} GPU(s) detected by $("${tree}/sbin/slurmd" -V); a job got GPU ${given}"
