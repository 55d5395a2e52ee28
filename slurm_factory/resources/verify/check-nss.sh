# In a job, nss_slurm tells who its user is, as the step knows it; nowhere else it tells anything.
# usage: check-nss.sh TREE
# shellcheck shell=bash
tree=$1
echo "${tree}/lib/nss" > /etc/ld.so.conf.d/verify-nss.conf
ldconfig
has_no_step() { ! pgrep -x slurmstepd; }
wait_for "the end of other steps" has_no_step
if as alice /usr/bin/getent -s slurm passwd alice; then
    fail "found without a job"
fi
found=$(as alice timeout "${LIMIT}" "${tree}/bin/srun" /usr/bin/getent -s slurm passwd alice)
without_password() { cut -d : -f 1,3- <<< "$1"; }
[[ $(without_password "${found}") == "$(without_password "$(getent passwd alice)")" ]] ||
    fail "in a job: ${found}"
echo "in a job: ${found}"
