# srun runs a job, and the accounting database shows it.
# usage: check-srun.sh TREE
# shellcheck shell=bash
tree=$1
# shellcheck disable=SC2016 # the job expands it
said=$(as alice timeout "${LIMIT}" "${tree}/bin/srun" --job-name=live-srun \
    /bin/sh -c 'echo "${SLURM_JOB_ID} $(/bin/hostname)"')
[[ ${said#* } == "$(hostname)" ]] || fail "srun hostname said: ${said}"
accounted "${tree}" "${said%% *}"
