# pam_slurm_adopt: a real sshd lets a user in only while a job of hers is on the node, and what she
# starts belongs to the job.
# usage: check-login.sh TREE
# shellcheck shell=bash
tree=$1
node=node2
key=/home/alice/.ssh/id_ed25519
if [[ ! -e ${key} ]]; then
    as alice HOME=/home/alice ssh-keygen -q -t ed25519 -N '' -f "${key}"
    install -m 600 -o alice -g alice "${key}.pub" /home/alice/.ssh/authorized_keys
fi
# PAM splits its lines at blanks. The link leads to the directory, so that the module finds the tree.
ln -sfnT "${tree}" /run/tree-of-pam
{
    grep -v pam_slurm_adopt /etc/pam.d/sshd
    echo "account required /run/tree-of-pam/lib/security/pam_slurm_adopt.so action_no_jobs=deny"
} > "${STATE}/pam-sshd"
at "${node}" mount --bind "${STATE}/pam-sshd" /etc/pam.d/sshd
restore() {
    pkill -F "${STATE}/sshd.pid" 2> /dev/null || true
    at "${node}" umount /etc/pam.d/sshd 2> /dev/null || true
    as alice "${tree}/bin/scancel" --user=alice || true
}
trap restore EXIT
mkdir -p /run/sshd
ssh-keygen -A > /dev/null
options=(-o UsePAM=yes -o PidFile="${STATE}/sshd.pid" -E "${STATE}/sshd.log")
# Since 9.8, sshd shuts out for a while who was refused.
if /usr/sbin/sshd -t -o PerSourcePenalties=no 2> /dev/null; then
    options+=(-o PerSourcePenalties=no)
fi
at "${node}" /usr/sbin/sshd "${options[@]}"
enter() {
    as alice HOME=/home/alice ssh -i "${key}" -o BatchMode=yes -o StrictHostKeyChecking=no \
        -o UserKnownHostsFile=/dev/null "alice@${node}" "$@"
}
is_in() { enter true 2> /dev/null; }
is_out() { ! enter true 2> /tmp/refusal && grep -q pam_slurm_adopt /tmp/refusal; }

wait_for "the end of other jobs" has_no_jobs "${tree}"
wait_for "alice to be refused" is_out
job=$(hold "${tree}" "${node}")
wait_for "job ${job} to run" is_running "${tree}" "${job}"
wait_for "alice to get in" is_in
adopted=$(enter "'${tree}/bin/scontrol' listpids ${job}" | awk '$3 == "extern"' | wc -l)
((adopted > 0)) || fail "what alice starts is not adopted by job ${job}"
release "${tree}" "${job}"
wait_for "alice to be refused again" is_out
echo "let in by sshd only with a job"
