# Write the configuration of a cluster to /etc/slurm, and make the directories and keys it needs.
# usage: configure.sh TREE LOGIN
#   LOGIN: how slurmdbd logs in to MariaDB, such as ed25519; empty: there is no accounting
# SLURM_CONF, SLURMDBD_CONF, CGROUP_CONF: content of the files. CONFIGLESS: 1 if a machine has none.
# shellcheck shell=bash
tree=$1 login=$2

install -d -m 0755 /etc/slurm
install -d -m 0700 -o munge -g munge /etc/munge /var/lib/munge /var/log/munge
install -d -m 0755 -o munge -g munge /run/munge
for node in "${NODES[@]}"; do
    at "${node}" chown munge:munge /run/munge
done
install -d -m 0755 -o slurm -g slurm /var/spool/slurmctld /var/log/slurm /run/slurm \
    /run/slurmctld /run/slurmdbd
install -d -m 0755 -o slurmrest -g slurmrest /run/slurmrestd
rm -rf /etc/slurm/slurm.conf /etc/slurm/slurmdbd.conf "${STATE}/configless"

if [[ ! -s /etc/munge/munge.key && -e ${tree}/sbin/mungekey ]]; then
    as munge "${tree}/sbin/mungekey" --create --keyfile=/etc/munge/munge.key
fi
for key in /var/spool/slurmctld/jwt.key /etc/slurm/slurm.key; do
    if [[ ! -s ${key} ]]; then
        (umask 077; head -c 1024 /dev/urandom > "${key}")
        chown slurm:slurm "${key}"
    fi
done

# As doc/html/tls.shtml of Slurm makes them; commands make their own with openssl.
certify() {
    local user=$1 name=$2
    openssl ecparam -name prime256v1 -genkey -noout -out "/etc/slurm/${name}_cert_key.pem"
    openssl req -new -key "/etc/slurm/${name}_cert_key.pem" -subj "/CN=${name}" \
        | openssl x509 -req -CA /etc/slurm/ca_cert.pem -CAkey /etc/slurm/ca_key.pem \
            -CAcreateserial -sha384 -out "/etc/slurm/${name}_cert.pem"
    chown "${user}" "/etc/slurm/${name}_cert_key.pem"
    chmod 0400 "/etc/slurm/${name}_cert_key.pem"
}
if has "${tree}" tls_s2n && [[ ! -e /etc/slurm/ca_cert.pem ]]; then
    openssl ecparam -name prime256v1 -genkey -noout -out /etc/slurm/ca_key.pem
    openssl req -x509 -key /etc/slurm/ca_key.pem -subj /CN=live -out /etc/slurm/ca_cert.pem
    certify slurm ctld
    certify slurm dbd
    certify slurmrest restd
    certify root slurmd
fi

write_configuration "${login}"
cat > /etc/slurm/job_submit.lua << 'LUA'
function slurm_job_submit(job, partitions, uid)
   job.comment = "seen by " .. _VERSION
   return slurm.SUCCESS
end
function slurm_job_modify(job, record, partitions, uid)
   return slurm.SUCCESS
end
return slurm.SUCCESS
LUA

last=${NODES[-1]}
at "${last}" umount /etc/slurm 2> /dev/null || true
if [[ ${CONFIGLESS} == 1 ]]; then
    touch "${STATE}/configless"
    at "${last}" mount -t tmpfs -o mode=755 tmpfs /etc/slurm
    # slurmd that has this key asks the controller by it, and else by munge.
    if grep -qx AuthType=auth/slurm <<< "${SLURM_CONF}"; then
        cp -a /etc/slurm/slurm.key "${STATE}/slurm.key"
        at "${last}" cp -a "${STATE}/slurm.key" /etc/slurm/slurm.key
    fi
fi

[[ -n ${login} ]] || exit 0
systemctl start mariadb
if [[ ${login} == ed25519 ]]; then
    mariadb -e "INSTALL PLUGIN IF NOT EXISTS ed25519 SONAME 'auth_ed25519'"
fi
mariadb << SQL
CREATE DATABASE IF NOT EXISTS slurm_acct;
CREATE OR REPLACE USER slurm@localhost IDENTIFIED VIA ${login} USING PASSWORD('secret');
GRANT ALL ON slurm_acct.* TO slurm@localhost;
SQL
