# sbatch runs a script that starts a step of its own, an array, and a job that waits for both.
# usage: check-sbatch.sh TREE
# shellcheck shell=bash
tree=$1
cat > "${SHARED}/job.sh" << JOB
#!/bin/sh
echo "script on \$(hostname)"
"${tree}/bin/srun" /bin/sh -c 'echo "step \${SLURM_STEP_ID} of \${SLURM_NNODES}"'
JOB
submit() { as alice "${tree}/bin/sbatch" --parsable --chdir="${SHARED}" "$@"; }
job=$(submit --job-name=live-sbatch --nodes=2 --output="${SHARED}/job-%j.out" "${SHARED}/job.sh")
# shellcheck disable=SC2016 # the job expands it
array=$(submit --array=1-4 --output="${SHARED}/job-%A_%a.out" --wrap='echo "task ${SLURM_ARRAY_TASK_ID}"')
last=$(submit --dependency="afterok:${job}:${array}" --output="${SHARED}/job-%j.out" \
    --wrap="cat ${SHARED}/job-${array}_*.out")
accounted "${tree}" "${last}"
grep -qx "script on node[123]" "${SHARED}/job-${job}.out" || fail "$(cat "${SHARED}/job-${job}.out")"
[[ $(grep -cx "step 0 of 2" "${SHARED}/job-${job}.out") == 2 ]] || fail "$(cat "${SHARED}/job-${job}.out")"
tasks=$(sort "${SHARED}/job-${last}.out" | tr '\n' ' ')
[[ ${tasks} == "task 1 task 2 task 3 task 4 " ]] || fail "after the array: ${tasks}"
