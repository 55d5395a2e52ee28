# Take away what a verification has made on this machine, except for the packages it installed.
# usage: remove.sh
# shellcheck shell=bash
pkill -x 'slurmrestd|sackd|slurmd|slurmstepd|slurmctld|slurmdbd|munged' || true
for machine in "${NODES[@]}" "${LOGIN}"; do
    if [[ -e ${STATE}/${machine}.pid ]]; then
        kill "$(< "${STATE}/${machine}.pid")" || true
    fi
done
ip link delete sf-verify 2> /dev/null || true
sed '/ # slurm-factory verify$/d' /etc/hosts > /tmp/hosts.verify
cat /tmp/hosts.verify > /etc/hosts
systemctl stop mariadb || true
rm -rf /tmp/hosts.verify "${STATE}" /var/tmp/slurm-factory-verify /etc/slurm /var/spool/slurmctld \
    /var/log/slurm /run/slurm /run/slurmrestd /etc/ld.so.conf.d/verify-nss.conf /etc/pam.d/live \
    /opt/site\ ????????/ "/opt/slurm versions"
