# Write the configuration of a cluster of one node to /etc/slurm, and the accounts it needs.
# usage: configure.sh TREE PLUGIN    (PLUGIN: how slurmdbd logs in to MariaDB, such as ed25519)
# shellcheck shell=bash
tree=$1 plugin=$2
node=$(hostname)

# Names that a series does not know make its daemons refuse to start.
case $(release_of "${tree}") in
    23.*) cgroups=cgroup/v1 ;;
    *) cgroups=disabled ;;
esac

# Only what the package has: a minimal one knows neither tokens nor accounting nor Lua.
tokens='' submit='' accounting='' forwarding='' encryption='' tracking=linuxproc
if has "${tree}" auth_jwt; then
    tokens=$'AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key=/var/spool/slurmctld/jwt.key'
fi
if has "${tree}" job_submit_lua; then
    submit='JobSubmitPlugins=lua'
fi
if has_x11 "${tree}"; then
    # Slurm refuses X11 with linuxproc.
    forwarding='PrologFlags=X11' tracking=pgid
fi
if has "${tree}" tls_s2n; then
    encryption='TLSType=tls/s2n'
fi
if has "${tree}" accounting_storage_mysql; then
    accounting=$'AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1'
fi

install -d -m 0755 /etc/slurm /var/log/slurm
install -d -m 0700 -o munge -g munge /etc/munge /var/lib/munge /var/log/munge
install -d -m 0755 -o munge -g munge /run/munge
install -d -m 0755 -o slurm -g slurm /var/spool/slurmctld /var/log/slurm /run/slurm
install -d -m 0755 -o slurmrest -g slurmrest /run/slurmrestd
install -d -m 0755 /var/spool/slurmd

if [[ ! -s /etc/munge/munge.key ]]; then
    as munge "${tree}/sbin/mungekey" --create --keyfile=/etc/munge/munge.key
fi
if [[ ! -s /var/spool/slurmctld/jwt.key ]]; then
    (umask 077; head -c 32 /dev/urandom > /var/spool/slurmctld/jwt.key)
    chown slurm:slurm /var/spool/slurmctld/jwt.key
fi

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
if [[ -n ${encryption} && ! -e /etc/slurm/ca_cert.pem ]]; then
    openssl ecparam -name prime256v1 -genkey -noout -out /etc/slurm/ca_key.pem
    openssl req -x509 -key /etc/slurm/ca_key.pem -subj /CN=live -out /etc/slurm/ca_cert.pem
    certify slurm ctld
    certify slurm dbd
    certify slurmrest restd
    certify root slurmd
fi

cat > /etc/slurm/slurm.conf << CONF
ClusterName=live
SlurmctldHost=${node}(127.0.0.1)
SlurmUser=slurm
AuthType=auth/munge
${tokens}
${encryption}
StateSaveLocation=/var/spool/slurmctld
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdSpoolDir=/var/spool/slurmd
SlurmdPidFile=/run/slurmd.pid
SlurmdLogFile=/var/log/slurm/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/${tracking}
TaskPlugin=task/affinity
JobAcctGatherType=jobacct_gather/linux
${submit}
${forwarding}
LaunchParameters=enable_nss_slurm
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
${accounting}
MpiDefault=none
MailProg=/bin/true
# On a busy machine the defaults of 10, 10 and 2 seconds end what would have worked.
MessageTimeout=100
BatchStartTimeout=100
TCPTimeout=60
ReturnToService=2
NodeName=${node} NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=256 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
CONF

cat > /etc/slurm/cgroup.conf << CONF
CgroupPlugin=${cgroups}
CONF

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

[[ -n ${accounting} ]] || exit 0
cat > /etc/slurm/slurmdbd.conf << CONF
DbdHost=${node}
DbdAddr=127.0.0.1
SlurmUser=slurm
AuthType=auth/munge
${tokens}
${encryption}
LogFile=/var/log/slurm/slurmdbd.log
PidFile=/run/slurm/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StorageLoc=slurm_acct
StorageUser=slurm
StoragePass=secret
CONF
chown slurm:slurm /etc/slurm/slurmdbd.conf
chmod 0600 /etc/slurm/slurmdbd.conf

systemctl start mariadb
if [[ ${plugin} == ed25519 ]]; then
    mariadb -e "INSTALL PLUGIN IF NOT EXISTS ed25519 SONAME 'auth_ed25519'"
fi
mariadb << SQL
CREATE DATABASE IF NOT EXISTS slurm_acct;
CREATE OR REPLACE USER slurm@localhost IDENTIFIED VIA ${plugin} USING PASSWORD('secret');
GRANT ALL ON slurm_acct.* TO slurm@localhost;
SQL
