# A program that this tree's mpicc compiles runs on two machines, by srun and by mpirun.
# usage: check-mpi.sh TREE    (MPI_HELLO: its source)
# shellcheck shell=bash
tree=$1
program=${SHARED}/mpi-hello
printf '%s' "${MPI_HELLO}" > "${program}.c"
as root HOME=/root PATH=/usr/bin:/bin "${tree}/bin/mpicc" "${program}.c" -o "${program}"
run() {
    # Open MPI wants a home, and looks for srun in the search path.
    as alice HOME=/home/alice PATH="${tree}/bin:/usr/bin:/bin" timeout "${LIMIT}" "$@" "${program}" | sort
}
wanted=$'rank 0 of 2 on node1, sum 3\nrank 1 of 2 on node2, sum 3'
found=$(run "${tree}/bin/srun" --mpi=pmix --nodes=2 --ntasks=2 --nodelist=node1,node2)
[[ ${found} == "${wanted}" ]] || fail "by srun: ${found}"
found=$(run "${tree}/bin/salloc" --quiet --nodes=2 --ntasks=2 --nodelist=node1,node2 "${tree}/bin/mpirun")
[[ ${found} == "${wanted}" ]] || fail "by mpirun: ${found}"
rm -f "${program}" "${program}.c"
echo "two ranks on two machines by srun and by mpirun"
