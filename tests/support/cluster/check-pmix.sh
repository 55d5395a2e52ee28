# PMIx is offered, and a job of two tasks gets its ranks through it.
# usage: check-pmix.sh TREE
# shellcheck shell=bash
tree=$1
as alice "${tree}/bin/srun" --mpi=list 2>&1 | grep -qw pmix || fail "srun --mpi=list has no pmix"
ranks=$(as alice timeout "${LIMIT}" "${tree}/bin/srun" --mpi=pmix --ntasks=2 --overcommit \
    /usr/bin/printenv PMIX_RANK | sort | tr '\n' ' ')
[[ ${ranks} == "0 1 " ]] || fail "ranks of the tasks: ${ranks}"
echo "ranks ${ranks}"
