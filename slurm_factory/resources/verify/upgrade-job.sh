# Submit a job that lasts until upgrade-end.sh, and print its number.
# usage: upgrade-job.sh TREE
# shellcheck shell=bash
tree=$1
rm -f "${SHARED}/go"
job=$(as alice "${tree}/bin/sbatch" --parsable --nodelist=node1 --chdir="${SHARED}" \
    --output="${SHARED}/job-%j.out" --wrap="until [ -e ${SHARED}/go ]; do sleep 0.1; done; echo survived")
wait_for "job ${job} to run" is_running "${tree}" "${job}"
echo "${job}"
