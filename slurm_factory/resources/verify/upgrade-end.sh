# Let the job end, and see that it has run to its end.
# usage: upgrade-end.sh TREE JOB
# shellcheck shell=bash
tree=$1 job=$2
touch "${SHARED}/go"
accounted "${tree}" "${job}"
grep -qx survived "${SHARED}/job-${job}.out" || fail "$(cat "${SHARED}/job-${job}.out")"
rm "${SHARED}/go"
