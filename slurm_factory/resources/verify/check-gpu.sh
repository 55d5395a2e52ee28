# AutoDetect=nvml finds the eight devices of a stand-in for NVIDIA's library, and a job gets two.
# usage: check-gpu.sh TREE    (NVML: source of the stand-in)
# shellcheck shell=bash
tree=$1
libraries=${STATE}/nvml
if at node1 test -e /dev/nvidia0; then
    skip "this machine has GPUs of its own (tests/gpu/real-driver.sh)"
fi

restore() {
    # shellcheck disable=SC2034 # of lib.sh
    SLURMD_ENVIRONMENT=()
    rm -f /etc/slurm/gres.conf
    for number in {0..7}; do
        at node1 umount "/dev/nvidia${number}" 2> /dev/null || true
        at node1 rm -f "/dev/nvidia${number}"
    done
    as_before "${tree}"
}
trap restore EXIT

mkdir -p "${libraries}"
printf '%s' "${NVML}" | gcc -x c - -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o "${libraries}/libnvidia-ml.so.1"
# Slurm before 24.05 looks for this name.
ln -sf libnvidia-ml.so.1 "${libraries}/libnvidia-ml.so"
chmod -R go+rX "${STATE}"
for number in {0..7}; do
    at node1 touch "/dev/nvidia${number}"
    # slurmd wants a device, and only the kernel's own can be used in every instance.
    at node1 mount --bind /dev/null "/dev/nvidia${number}"
done
echo AutoDetect=nvml > /etc/slurm/gres.conf
# shellcheck disable=SC2034 # of lib.sh
SLURMD_ENVIRONMENT=("LD_LIBRARY_PATH=${libraries}")
with_settings "${tree}" '/^NodeName=node1 /s/$/ Gres=gpu:8/; 1i GresTypes=gpu'
job() { as alice timeout "${LIMIT}" "${tree}/bin/srun" --nodelist=node1 "$@"; }
# shellcheck disable=SC2016 # the job expands it
two=$(job --gres=gpu:2 /bin/sh -c 'echo "${CUDA_VISIBLE_DEVICES}"')
[[ ${two} == 0,1 ]] || fail "with --gres=gpu:2: ${two}"
all=$(job --gres=gpu:8 /usr/bin/printenv CUDA_VISIBLE_DEVICES)
[[ ${all} == 0,1,2,3,4,5,6,7 ]] || fail "with --gres=gpu:8: ${all}"
# Without the library, slurmd would say that the configured devices are missing.
detected=$(grep -h 'GPU system device' /var/log/slurm/slurmd.node1.log | tail -n 1)
[[ ${detected} == *" 8 GPU system device"* ]] || fail "slurmd's log: ${detected}"
echo "eight devices found, two given to a job"
