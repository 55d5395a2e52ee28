# Shared by the scripts beside it; each is sent to the machine with this text before it.
# LIMIT: seconds after which something is taken to have failed.
# shellcheck shell=bash
set -euo pipefail
cd /tmp
umask 022
# Machines of the cluster: names of network and host name spaces. The controller, the database and
# slurmrestd run beside them, on the machine itself.
NODES=(node1 node2 node3)
# shellcheck disable=SC2034 # used by the scripts
LOGIN=login
# The only directory that all machines share with their users, as a site's home directories.
# shellcheck disable=SC2034 # used by the scripts
SHARED=/home/alice
# Where the name spaces are noted, among other things of this cluster.
# shellcheck disable=SC2034 # used by the scripts
STATE=/run/slurm-factory-verify

fail() {
    echo "$*" >&2
    exit 1
}

# Ends a script that cannot check anything here. skip REASON
skip() {
    echo "skipped: $*" >&2
    exit 77
}

# Far more than anything takes on a busy machine.
LIMIT=${LIMIT:-600}

# Waits until a command succeeds. wait_for WHAT COMMAND…
wait_for() {
    local deadline=$((SECONDS + LIMIT)) what=$1
    shift
    until "$@" > /dev/null 2>&1; do
        ((SECONDS < deadline)) || fail "timed out waiting for ${what}"
        sleep 0.1
    done
}

# The same, for a daemon that may end instead. wait_for_daemon DAEMON COMMAND…
wait_for_daemon() {
    local deadline=$((SECONDS + LIMIT)) daemon=$1
    shift
    until "$@" > /dev/null 2>&1; do
        pgrep -x "${daemon}" > /dev/null || fail "${daemon} has ended"
        ((SECONDS < deadline)) || fail "timed out waiting for ${daemon}"
        sleep 0.1
    done
}

# Runs a command as a user, with nothing in its environment. as USER COMMAND…
as() {
    local user=$1
    shift
    setpriv --reuid="${user}" --regid="${user}" --init-groups env -i "$@"
}

# Runs a command on a machine of the cluster. at MACHINE COMMAND…
at() {
    local pid
    pid=$(< "${STATE}/$1.pid")
    shift
    nsenter --target "${pid}" --net --uts --mount -- env --chdir=/tmp "$@"
}

# Runs a command on a machine as a user, with nothing in its environment. at_as MACHINE USER COMMAND…
at_as() {
    local machine=$1 user=$2
    shift 2
    at "${machine}" setpriv --reuid="${user}" --regid="${user}" --init-groups env -i "$@"
}

# Makes a bridge between this machine and those of a cluster. make_bridge BRIDGE ADDRESS
make_bridge() {
    ip link add "$1" type bridge
    ip addr add "$2/24" dev "$1"
    ip link set "$1" up
}

# Makes a machine of a cluster: name spaces with a host name and a network of their own.
# make_machine MACHINE BRIDGE ADDRESS
make_machine() {
    local machine=$1 bridge=$2 address=$3 pid
    setsid unshare --net --uts --mount --propagation=private sleep infinity < /dev/null > /dev/null 2>&1 &
    pid=$!
    echo "${pid}" > "${STATE}/${machine}.pid"
    # shellcheck disable=SC2329 # by its name
    apart() { [[ $(readlink "/proc/${pid}/ns/mnt") != "$(readlink /proc/self/ns/mnt)" ]]; }
    wait_for "the name spaces of ${machine}" apart
    ip link add "sf-${machine}" type veth peer name eth0 netns "${pid}"
    ip link set "sf-${machine}" master "${bridge}" up
    at "${machine}" hostname "${machine}"
    at "${machine}" ip link set lo up
    at "${machine}" ip addr add "${address}/24" dev eth0
    at "${machine}" ip link set eth0 up
    # Its own munged: one that reads the same credential for two machines takes it for a replay.
    at "${machine}" mount -t tmpfs -o mode=755 tmpfs /run/munge
}

# Submits a job of alice's that lasts until something ends it, and prints its number.
# hold TREE NODE
hold() {
    as alice "$1/bin/sbatch" --parsable --nodelist="$2" --chdir="${SHARED}" --output=/dev/null \
        --wrap='sleep 3600'
}
state_of() { as alice "$1/bin/squeue" --noheader --jobs="$2" --format=%T 2> /dev/null; }
is_running() { [[ $(state_of "$1" "$2") == RUNNING ]]; }
is_gone() { [[ -z $(state_of "$1" "$2") ]]; }
has_no_jobs() { [[ -z $(as alice "$1/bin/squeue" --noheader --user=alice) ]]; }

# Ends jobs that `hold` has started. release TREE JOB…
release() {
    local tree=$1 job
    shift
    as alice "${tree}/bin/scancel" "$@"
    for job in "$@"; do
        wait_for "the end of job ${job}" is_gone "${tree}" "${job}"
    done
}

# Starts a job that waits for `end_waiting`, waits until it runs, and prints its number.
# begin_waiting TREE
begin_waiting() {
    local job
    rm -f "${SHARED}/go"
    job=$(as alice "$1/bin/sbatch" --parsable --nodelist=node1 --chdir="${SHARED}" \
        --output="${SHARED}/job-%j.out" --wrap="until [ -e ${SHARED}/go ]; do sleep 0.1; done; echo survived")
    wait_for "job ${job} to run" is_running "$1" "${job}"
    echo "${job}"
}

# Lets it end, and sees that it has run to its end. end_waiting TREE JOB
end_waiting() {
    touch "${SHARED}/go"
    accounted "$1" "$2"
    grep -qx survived "${SHARED}/job-$2.out" || fail "$(cat "${SHARED}/job-$2.out")"
}

# Variables for the slurmd of the first machine.
SLURMD_ENVIRONMENT=()

# Starts slurmd on a machine. start_slurmd TREE MACHINE
start_slurmd() {
    local options=() environment=()
    # The last machine has no configuration, and asks the controller for it.
    if [[ $2 == "${NODES[-1]}" && -e ${STATE}/configless ]]; then
        options=(--conf-server "$(hostname):6817")
    fi
    if [[ $2 == "${NODES[0]}" ]]; then
        environment=("${SLURMD_ENVIRONMENT[@]}")
    fi
    # A daemon that inherited the output of a script would keep it open.
    at "$2" env -i "${environment[@]}" "$1/sbin/slurmd" "${options[@]}" \
        >> /var/log/slurm/start.log 2>&1 < /dev/null ||
        fail "slurmd of $2 cannot be started: $(tail -n 1 /var/log/slurm/start.log)"
}
# Whether a program runs on a machine of the cluster. runs_at MACHINE PROGRAM
runs_at() {
    local pid there
    there=$(readlink "/proc/$(< "${STATE}/$1.pid")/ns/uts")
    for pid in $(pgrep -x "$2"); do
        [[ $(readlink "/proc/${pid}/ns/uts") != "${there}" ]] || return 0
    done
    return 1
}

# Waits until a node takes jobs. wait_for_node TREE NODE
wait_for_node() {
    local deadline=$((SECONDS + LIMIT)) missing=0
    until is_idle "$1" "$2"; do
        # While it becomes a daemon, or starts itself again, there may be none for a moment.
        if runs_at "$2" slurmd; then missing=0; else missing=$((missing + 1)); fi
        ((missing < 50)) || fail "slurmd of $2 has ended: $(tail -n 1 "/var/log/slurm/slurmd.$2.log")"
        ((SECONDS < deadline)) || fail "timed out waiting for $2 to be idle"
        sleep 0.1
    done
}
is_idle() { as alice "$1/bin/sinfo" --noheader --nodes="$2" --format=%t | grep -qx idle; }

# Newest REST version of a tree, such as v0.0.42.
rest_version_of() {
    find "$1/lib/slurm" -name 'data_parser_v*.so' -printf '%f\n' | sort | tail -1 |
        sed 's/^data_parser_//; s/\.so$//; s/_/./g'
}

# Whether a tree has a plugin. has TREE PLUGIN
has() { [[ -e $1/lib/slurm/$2.so ]]; }

# Whether a tree was built to forward X11.
has_x11() { ! grep -q 'X11 forwarding not built in' "$1/lib/slurm/libslurmfull.so"; }

is_completed() {
    if has "$1" accounting_storage_mysql; then
        as alice "$1/bin/sacct" -nX -j "$2" -o State%20 | grep -qw COMPLETED
    else
        as alice "$1/bin/scontrol" show job "$2" | grep -qw JobState=COMPLETED
    fi
}

# Writes the configuration that the environment has. write_configuration ACCOUNTING
write_configuration() {
    printf '%s' "${SLURM_CONF}" > /etc/slurm/slurm.conf
    printf '%s' "${CGROUP_CONF}" > /etc/slurm/cgroup.conf
    [[ -n $1 ]] || return 0
    install -m 0600 -o slurm -g slurm /dev/null /etc/slurm/slurmdbd.conf
    printf '%s' "${SLURMDBD_CONF}" > /etc/slurm/slurmdbd.conf
}

# Waits until a job is COMPLETED, in the accounting where the tree has any. accounted TREE JOB
accounted() {
    wait_for "job $2 to be COMPLETED" is_completed "$1" "$2"
    if has "$1" accounting_storage_mysql; then
        as alice "$1/bin/sacct" -nX -j "$2" -o JobID,JobName%20,State,ExitCode,NodeList
    else
        echo "$2 COMPLETED, without accounting"
    fi
}

# Replaces lines of slurm.conf by others until `as_before`. with_settings TREE FILTER
# FILTER: a script for sed. All daemons of Slurm but slurmdbd start again.
with_settings() {
    [[ -e ${STATE}/slurm.conf ]] || cp -p /etc/slurm/slurm.conf "${STATE}/slurm.conf"
    sed "$2" "${STATE}/slurm.conf" > /etc/slurm/slurm.conf
    restart_slurm "$1"
}
as_before() {
    if [[ -e ${STATE}/slurm.conf ]]; then
        cat "${STATE}/slurm.conf" > /etc/slurm/slurm.conf
        rm "${STATE}/slurm.conf"
    fi
    restart_slurm "$1"
}
restart_slurm() {
    local daemon node
    for daemon in slurmd slurmctld; do
        pkill -x "${daemon}" || true
        # shellcheck disable=SC2329 # by its name
        gone() { ! pgrep -x "${daemon}"; }
        wait_for "the end of ${daemon}" gone
    done
    as slurm "$1/sbin/slurmctld" > /dev/null 2>&1 < /dev/null
    wait_for_daemon slurmctld as alice "$1/bin/scontrol" show config
    for node in "${NODES[@]}"; do
        start_slurmd "$1" "${node}"
    done
    for node in "${NODES[@]}"; do
        wait_for_node "$1" "${node}"
    done
}
