# pam_slurm lets a user in while one of the user's jobs runs here, and else does not.
# usage: check-pam.sh TREE
# shellcheck shell=bash
tree=$1
# PAM splits its lines at blanks. The link leads to the directory, so that the module finds the tree.
ln -sfnT "${tree}" /run/tree-of-pam
echo "account required /run/tree-of-pam/lib/security/pam_slurm.so" > /etc/pam.d/live
let_in() { pamtester live alice acct_mgmt; }
has_job() { [[ -n $(as alice "${tree}/bin/squeue" -h -u alice -o %i) ]]; }
has_no_job() { ! has_job; }
runs() { [[ $(as alice "${tree}/bin/squeue" -h -j "${job}" -o %T) == RUNNING ]]; }

wait_for "the end of other jobs" has_no_job
if let_in; then
    fail "let in without a job"
fi
job=$(as alice "${tree}/bin/sbatch" --parsable --chdir=/tmp --output=/dev/null --wrap='sleep 600')
wait_for "job ${job} to run" runs
let_in || fail "not let in with job ${job}"
as alice "${tree}/bin/scancel" "${job}"
wait_for "the end of job ${job}" has_no_job
echo "let in with a job only"
