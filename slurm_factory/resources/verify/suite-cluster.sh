# One instance as a cluster of nine nodes, for SchedMD's test suite.
# usage: suite-cluster.sh begin|restart|accounts TREE, or suite-cluster.sh end
# The nodes are name spaces that share the file system; the controller, slurmdbd, MariaDB and the tests
# run beside them. CGROUP_PLUGIN (for begin): no plugin for cgroups, as the release names that.
# shellcheck shell=bash
NODES=(node1 node2 node3 node4 node5 node6 node7 node8 node9)
STATE=/run/slurm-factory-suite
SAVED=/var/spool/slurmctld
LOGS=/var/log/slurm
NET=10.253.78

# Runs a command as a user, with a path only. by USER COMMAND…
by() { as "$1" PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "${@:2}"; }

munged_of() {
    if [[ -x $1/sbin/munged ]]; then
        echo "$1/sbin/munged"
    else
        echo /usr/sbin/munged
    fi
}

network() {
    [[ ! -e ${STATE}/up ]] || return 0
    local node number=10
    mkdir -p "${STATE}"
    install -d -m 0755 -o munge -g munge /run/munge
    make_bridge suite "${NET}.1"
    printf '127.0.0.1 localhost\n%s.1 %s\n' "${NET}" "$(hostname)" > /etc/hosts
    for node in "${NODES[@]}"; do
        number=$((number + 1))
        echo "${NET}.${number} ${node}" >> /etc/hosts
        make_machine "${node}" suite "${NET}.${number}"
        at "${node}" chown munge:munge /run/munge
    done
    touch "${STATE}/up"
}

# SlurmUser may change the configuration: some tests do, and put it back. run-suite.py compares it with
# /etc/slurm.kept.
# - config_overrides: nodes have more CPUs than the machine.
# - pgid: linuxproc ends the processes of a task one by one, and test_116_46 sees that.
# - Weight=1: testsuite/python/lib/atf.py cannot read a node without a parameter.
configure() {
    local host
    host=$(hostname)
    install -d -m 0755 /var/spool/slurmd
    install -d -o slurm -g slurm /etc/slurm "${LOGS}" "${SAVED}" /run/slurm
    install -d -m 0700 -o munge -g munge /etc/munge /var/lib/munge /var/log/munge
    if [[ ! -s /etc/munge/munge.key ]]; then
        install -m 0400 -o munge -g munge <(head -c 1024 /dev/urandom) /etc/munge/munge.key
    fi
    install -m 0600 <(head -c 32 /dev/urandom) "${SAVED}/jwt.key"
    cat > /etc/slurm/slurm.conf << CONF
ClusterName=suite
SlurmctldHost=${host}(${NET}.1)
SlurmUser=slurm
AuthType=auth/munge
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key=${SAVED}/jwt.key
StateSaveLocation=${SAVED}
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmctldLogFile=${LOGS}/slurmctld.log
SlurmdSpoolDir=/var/spool/slurmd/%n
SlurmdPidFile=/run/slurmd.%n.pid
SlurmdLogFile=${LOGS}/slurmd.%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/affinity
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=5
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=${host}
AccountingStorageEnforce=associations,limits,qos
PriorityType=priority/multifactor
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,batch_sched_delay=1,bf_interval=2,bf_continue,permit_job_expansion
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=32
EnforcePartLimits=ALL
KillWait=5
OverTimeLimit=0
TrackWCKey=yes
MinJobAge=60
MpiDefault=none
MailProg=/bin/true
MessageTimeout=60
BatchStartTimeout=60
TCPTimeout=30
UnkillableStepTimeout=300
ReturnToService=2
Licenses=suite:4
NodeName=DEFAULT CPUs=6 Boards=1 SocketsPerBoard=1 CoresPerSocket=6 ThreadsPerCore=1 RealMemory=4096
NodeName=node[1-3] Features=f1
NodeName=node[4-6] Features=f2
NodeName=node[7-8] Features=f1,f2
NodeName=node9 Weight=1
PartitionName=all Nodes=ALL Default=YES State=UP MaxTime=INFINITE
CONF
    echo "CgroupPlugin=${CGROUP_PLUGIN}" > /etc/slurm/cgroup.conf
    cat > /etc/slurm/slurmdbd.conf << CONF
DbdHost=${host}
DbdAddr=${NET}.1
SlurmUser=slurm
AuthType=auth/munge
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key=${SAVED}/jwt.key
LogFile=${LOGS}/slurmdbd.log
PidFile=/run/slurm/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StorageLoc=slurm_acct
StorageUser=slurm
StoragePass=secret
TrackWCKey=yes
CONF
    chmod 0600 /etc/slurm/slurmdbd.conf
    chown slurm:slurm /etc/slurm/* "${SAVED}/jwt.key"
    rm -rf /etc/slurm.kept
    cp -a /etc/slurm /etc/slurm.kept
    systemctl start mariadb
    mariadb << 'SQL'
CREATE DATABASE IF NOT EXISTS slurm_acct;
CREATE OR REPLACE USER slurm@localhost IDENTIFIED BY 'secret';
GRANT ALL ON slurm_acct.* TO slurm@localhost;
SET GLOBAL innodb_flush_log_at_trx_commit = 0;
SQL
}

# Adds what is missing; sacctmgr fails for what is there.
accounts() {
    local ask=(by slurm "$1/bin/sacctmgr" -iQ) user
    "${ask[@]}" add cluster suite || true
    "${ask[@]}" add account testers Cluster=suite || true
    for user in root slurm alice bob; do
        "${ask[@]}" add user "${user}" Account=testers DefaultAccount=testers Cluster=suite || true
    done
    "${ask[@]}" modify user where name=slurm,root set AdminLevel=Admin || true
}

start() {
    local tree=$1 node munged
    munged=$(munged_of "${tree}")
    by munge "${munged}" --num-threads=4
    by slurm "${tree}/sbin/slurmdbd"
    wait_for_daemon slurmdbd by slurm "${tree}/bin/sacctmgr" -n show cluster
    accounts "${tree}"
    by slurm "${tree}/sbin/slurmctld" -i
    wait_for_daemon slurmctld by slurm "${tree}/bin/scontrol" show config
    for node in "${NODES[@]}"; do
        mkdir -p "/var/spool/slurmd/${node}"
        at_as "${node}" munge PATH=/usr/bin:/bin "${munged}" --num-threads=2 \
            --seed-file="/var/lib/munge/${node}.seed" --log-file="/var/log/munge/${node}.log"
        at "${node}" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "${tree}/sbin/slurmd"
    done
    for node in "${NODES[@]}"; do
        wait_for "${node} to be idle" is_idle "${tree}" "${node}"
    done
}

stop() {
    local daemon deadline
    for daemon in slurmrestd slurmd slurmctld slurmdbd munged; do
        pkill -x "${daemon}" || true
        # They have other names than their program.
        [[ ${daemon} != slurmd ]] || pkill -KILL -f '^slurmstepd' || true
        deadline=$((SECONDS + 15))
        while pgrep -x "${daemon}" > /dev/null; do
            ((SECONDS < deadline)) || pkill -KILL -x "${daemon}" || true
            sleep 0.1
        done
    done
}

# A daemon that inherited the pipe of the caller would keep it open for ever; logs.sh shows this.
mkdir -p "${LOGS}"
exec >> "${LOGS}/start.log" 2>&1 < /dev/null
case $1 in
    begin)
        network
        configure
        start "$2"
        ;;
    restart)
        stop
        start "$2"
        ;;
    accounts) accounts "$2" ;;
    end)
        stop
        mariadb -e 'DROP DATABASE IF EXISTS slurm_acct'
        rm -rf "${SAVED:?}"/* /var/spool/slurmd/* "${LOGS:?}"/* /etc/slurm/*
        ;;
esac
