# sshd lets a user in only while a job of hers is on the node, and root always.
# usage: check-page-login.sh TREE
# shellcheck shell=bash
tree=$1
key=/home/alice/.ssh/id_ed25519
as alice HOME=/home/alice ssh-keygen -q -t ed25519 -N '' -f "${key}"
install -m 600 -o alice -g alice "${key}.pub" /home/alice/.ssh/authorized_keys
install -D -m 600 "${key}.pub" /root/.ssh/authorized_keys
# usage: enter USER
enter() {
    as alice HOME=/home/alice ssh -i "${key}" -o BatchMode=yes -o StrictHostKeyChecking=no \
        "$1@$(hostname)" id -un
}
wait_for "root to get in" enter root
if enter alice 2> /tmp/refusal; then
    fail "alice got in without a job"
fi
grep -q pam_slurm_adopt /tmp/refusal || fail "$(cat /tmp/refusal)"
job=$(as alice "${tree}/bin/sbatch" --parsable --job-name=login --chdir=/tmp --output=/dev/null \
    --wrap='sleep 600')
running() { as alice "${tree}/bin/squeue" -h -j "${job}" -o %T | grep -qx RUNNING; }
wait_for "the job" running
wait_for "alice to get in" enter alice
enter alice
as alice "${tree}/bin/scancel" "${job}"
gone() { [[ -z $(as alice "${tree}/bin/squeue" -h -j "${job}") ]]; }
wait_for "the end of the job" gone
! enter alice 2> /dev/null || fail "alice got in after her job"
echo "only with a job"
