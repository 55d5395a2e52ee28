# sbatch runs a script that starts a step of its own, and the accounting database shows it.
# usage: check-sbatch.sh TREE
# shellcheck shell=bash
tree=$1
cat > /tmp/job.sh << JOB
#!/bin/sh
echo "script on \$(hostname)"
"${tree}/bin/srun" /bin/sh -c 'echo "step \${SLURM_STEP_ID}"'
JOB
job=$(as alice "${tree}/bin/sbatch" --parsable --job-name=live-sbatch --chdir=/tmp \
    --output=/tmp/job-%j.out /tmp/job.sh)
accounted "${tree}" "${job}"
grep -qx "script on $(hostname)" "/tmp/job-${job}.out" || fail "$(cat "/tmp/job-${job}.out")"
grep -qx "step 0" "/tmp/job-${job}.out" || fail "$(cat "/tmp/job-${job}.out")"
