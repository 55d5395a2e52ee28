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
rm -f "${SHARED}/go"
job=$(as alice "${tree}/bin/sbatch" --parsable --nodelist=node1 --chdir="${SHARED}" \
    --output="${SHARED}/job-%j.out" --wrap="until [ -e ${SHARED}/go ]; do sleep 0.1; done; echo survived")
wait_for "job ${job} to run" is_running "${tree}" "${job}"
replace "${other}"
is_running "${tree}" "${job}" || fail "job ${job} is $(state_of "${tree}" "${job}")"
touch "${SHARED}/go"
accounted "${tree}" "${job}"
grep -qx survived "${SHARED}/job-${job}.out" || fail "$(cat "${SHARED}/job-${job}.out")"
