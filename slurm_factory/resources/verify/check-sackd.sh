# A machine that has neither a configuration nor munge: sackd makes its credentials.
# usage: check-sackd.sh TREE    (after start.sh TREE slurm)
# shellcheck shell=bash
tree=$1
if pgrep -x munged; then
    fail "munged runs"
fi
restore() {
    pkill -x sackd || true
    at "${LOGIN}" umount /etc/slurm /run/slurm 2> /dev/null || true
}
trap restore EXIT
for directory in /etc/slurm /run/slurm; do
    at "${LOGIN}" mount -t tmpfs -o "mode=755,uid=$(id -u slurm),gid=$(id -g slurm)" tmpfs "${directory}"
done
cp -a /etc/slurm/slurm.key "${STATE}/slurm.key"
at "${LOGIN}" cp -a "${STATE}/slurm.key" /etc/slurm/slurm.key
at_as "${LOGIN}" slurm "${tree}/sbin/sackd" --conf-server "$(hostname):6817" > /tmp/sackd.log 2>&1 < /dev/null ||
    fail "sackd cannot be started: $(tail -n 1 /tmp/sackd.log)"
answers() { at_as "${LOGIN}" alice "${tree}/bin/scontrol" ping; }
wait_for sackd answers
said=$(at_as "${LOGIN}" alice timeout "${LIMIT}" "${tree}/bin/srun" --nodes=2 /bin/hostname | sort | tr '\n' ' ')
[[ ${said} == "node1 node2 " ]] || fail "srun: ${said}"
echo "a job by sackd, without munge and without a configuration"
