# A job survives that slurmd is replaced by one from another tree, as a rolling upgrade does it.
# usage: check-restart.sh TREE
# shellcheck shell=bash
tree=$1
other=/srv/another/software
is_without_slurmd() { ! pgrep -F /run/slurmd.node1.pid; }
replace() {
    pkill -F /run/slurmd.node1.pid
    wait_for "the end of slurmd" is_without_slurmd
    start_slurmd "$1" node1
    wait_for "node1 to answer" answers
    [[ $(readlink "/proc/$(< /run/slurmd.node1.pid)/exe") == "$1/sbin/slurmd" ]] ||
        fail "slurmd of $1 does not run"
}
answers() { as alice timeout "${LIMIT}" "${tree}/bin/srun" --nodelist=node1 --overlap --jobid="${job}" /bin/true; }

restore() {
    touch "${SHARED}/go"
    pkill -F /run/slurmd.node1.pid 2> /dev/null || true
    wait_for "the end of slurmd" is_without_slurmd
    start_slurmd "${tree}" node1
    wait_for_node "${tree}" node1
    rm -rf "${other%/*}" "${SHARED}/go"
}
trap restore EXIT
mkdir -p "${other%/*}"
cp -a --reflink=auto "${tree}" "${other}"
job=$(begin_waiting "${tree}")
replace "${other}"
is_running "${tree}" "${job}" || fail "job ${job} is $(state_of "${tree}" "${job}")"
end_waiting "${tree}" "${job}"
