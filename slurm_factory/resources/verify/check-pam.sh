# pam_slurm lets a user in while one of the user's jobs runs here, and else does not.
# usage: check-pam.sh TREE
# shellcheck shell=bash
tree=$1
node=node1
ln -sfnT "${tree}" /run/tree-of-pam
echo "account required /run/tree-of-pam/lib/security/pam_slurm.so" > /etc/pam.d/live
trap 'as alice "${tree}/bin/scancel" --user=alice || true' EXIT
let_in() { at "${node}" pamtester live alice acct_mgmt; }

wait_for "the end of other jobs" has_no_jobs "${tree}"
if let_in; then
    fail "let in without a job"
fi
job=$(hold "${tree}" "${node}")
wait_for "job ${job} to run" is_running "${tree}" "${job}"
let_in || fail "not let in with job ${job}"
release "${tree}" "${job}"
echo "let in with a job only"
