# srun runs a job on each machine, and the accounting database shows it.
# usage: check-srun.sh TREE
# shellcheck shell=bash
tree=$1
# shellcheck disable=SC2016 # the job expands it
said=$(as alice timeout "${LIMIT}" "${tree}/bin/srun" --job-name=live-srun --nodes=3 --label \
    /bin/sh -c 'echo "${SLURM_JOB_ID} $(/bin/hostname)"' | sort)
found=$(cut -d ' ' -f 3 <<< "${said}" | tr '\n' ' ')
# shellcheck disable=SC2153 # of lib.sh
[[ ${found} == "${NODES[*]} " ]] || fail "srun hostname said: ${said}"
accounted "${tree}" "$(cut -d ' ' -f 2 <<< "${said%%$'\n'*}")"
