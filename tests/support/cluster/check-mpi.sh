# A program that this tree's mpicc has made runs with two tasks, by srun and by mpirun.
# usage: check-mpi.sh TREE    (/var/tmp/mpi-hello: prints "rank R of N")
# shellcheck shell=bash
tree=$1
# Open MPI wants a home. The program has noted where the tree was when it was compiled.
run() {
    as alice HOME=/home/alice "LD_LIBRARY_PATH=${tree}/lib" timeout "${LIMIT}" "$@" /var/tmp/mpi-hello | sort
}
wanted=$'rank 0 of 2\nrank 1 of 2'
found=$(run "${tree}/bin/srun" --mpi=pmix --ntasks=2 --overcommit)
[[ ${found} == "${wanted}" ]] || fail "by srun: ${found}"
found=$(run "${tree}/bin/mpirun" -n 2 --oversubscribe)
[[ ${found} == "${wanted}" ]] || fail "by mpirun: ${found}"
echo "two ranks by srun and by mpirun"
