# PMIx is offered, and the tasks of a job on two machines wait for each other through it.
# usage: check-pmix.sh TREE    (PMIX_CLIENT: source of a program that uses the tree's PMIx)
# shellcheck shell=bash
tree=$1
as alice "${tree}/bin/srun" --mpi=list 2>&1 | grep -qw pmix || fail "srun --mpi=list has no pmix"
library=$(find "${tree}/lib/private" "${tree}/lib" -maxdepth 1 -name 'libpmix*.so*' | head -n 1)
[[ -n ${library} ]] || fail "there is no libpmix in the tree"
printf '%s' "${PMIX_CLIENT}" | gcc -x c - -o "${SHARED}/pmix-client" -ldl
ranks=$(as alice timeout "${LIMIT}" "${tree}/bin/srun" --mpi=pmix --nodes=2 --ntasks=2 \
    "${SHARED}/pmix-client" "${library}" | sort | tr '\n' ' ')
[[ ${ranks} == "rank 0 rank 1 " ]] || fail "ranks of the tasks: ${ranks}"
echo "two tasks on two machines, ranks 0 and 1"
