# Take away what a verification has made on this machine, except for the packages it installed.
# usage: remove.sh DIRECTORY…    (those of the tree)
# shellcheck shell=bash
pkill -KILL -u alice || true
if [[ -e ${STATE}/sshd.pid ]]; then
    pkill -F "${STATE}/sshd.pid" 2> /dev/null || true
fi
pkill -KILL -x 'slurmrestd|sackd|slurmd|slurmstepd|slurmctld|slurmdbd|munged' || true
for machine in "${NODES[@]}" "${LOGIN}"; do
    if [[ -e ${STATE}/${machine}.pid ]]; then
        kill "$(< "${STATE}/${machine}.pid")" || true
    fi
done
ip link delete sf-verify 2> /dev/null || true
umount /etc/hosts 2> /dev/null || true
mariadb -e 'DROP DATABASE IF EXISTS slurm_acct; DROP USER IF EXISTS slurm@localhost' 2> /dev/null || true
systemctl stop mariadb || true
rm -rf "${STATE}" "$@" /var/tmp/slurm-factory-verify /etc/slurm /var/spool/slurmctld \
    /var/spool/slurmd /var/log/slurm /run/slurm /run/slurmctld /run/slurmdbd /run/slurmrestd \
    /etc/munge /var/lib/munge /var/log/munge /run/munge /run/tree-of-pam /etc/pam.d/live \
    /etc/ld.so.conf.d/verify-nss.conf /etc/apt/apt.conf.d/90verify /srv/another "/opt/slurm versions"
ldconfig
userdel --remove alice 2> /dev/null || true
