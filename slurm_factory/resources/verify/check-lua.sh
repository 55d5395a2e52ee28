# The controller runs job_submit.lua for every job.
# usage: check-lua.sh TREE
# shellcheck shell=bash
tree=$1
job=$(as alice "${tree}/bin/sbatch" --parsable --chdir="${SHARED}" --output=/dev/null --wrap=/bin/true)
comment=$(as alice "${tree}/bin/scontrol" show job "${job}" | sed -n 's/^ *Comment=//p')
[[ ${comment} == "seen by Lua "* ]] || fail "comment of job ${job}: ${comment}"
echo "${comment}"
