#!/bin/bash
# Unpacks a package and starts munged, slurmctld and slurmd from it, as root.
#
# usage: start-cluster.sh TARBALL PREFIX [PID]
#   PREFIX: directory that holds the package and all that the daemons write
#   PID: process whose end ends the cluster
set -euo pipefail
tarball=$1 prefix=$2 worker=${3:-}
here=$(dirname "$0")
tree=$prefix/software
umask 022

fail() {
    echo "$*"
    exit 1
}

# Runs a command as a user, with nothing in its environment. as USER COMMAND…
as() {
    local user=$1
    shift
    setpriv --reuid="$user" --regid="$user" --init-groups env -i "$@"
}

# Waits until a command succeeds. wait_for DAEMON LOG COMMAND…
wait_for() {
    local deadline=$((SECONDS + 60)) daemon=$1 log=$2
    shift 2
    until "$@" &> /dev/null; do
        ((SECONDS < deadline)) || fail "$daemon does not answer: $(tail -n 5 "$log" 2>&1)"
        sleep 0.1
    done
}

for taken in "$tree" /etc/slurm/slurm.conf; do
    [[ ! -e $taken ]] || fail "There is $taken already. Stop the cluster that it belongs to, and remove it."
done
for user in munge slurm; do
    id "$user" &> /dev/null ||
        useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
done
mkdir -p "$prefix/log" "$prefix/slurmd" /etc/slurm
install -m 0755 "$here/stop-cluster.sh" "$prefix/stop-cluster"
tar -xzf "$tarball" -C "$prefix" --no-same-owner
[[ -x $tree/sbin/slurmctld ]] || fail "$tarball has no software/sbin/slurmctld."
install -d -m 0700 -o munge -g munge "$prefix/munge"
install -d -m 0755 -o munge -g munge /run/munge
install -d -o slurm -g slurm "$prefix/slurmctld" "$prefix/log"

version=$("$tree/sbin/slurmctld" -V)
plugin=disabled
# They do not know the value (src/interfaces/cgroup.c).
[[ $version != "slurm 23."* ]] || plugin=cgroup/v1
echo "CgroupPlugin=$plugin" > /etc/slurm/cgroup.conf
memory=$(awk '$1 == "MemTotal:" { print int($2 / 1024 * 0.9) }' /proc/meminfo)
sed -e "s|@HOST@|$(hostname -s)|" -e "s|@PREFIX@|$prefix|" -e "s|@CPUS@|$(nproc)|" \
    -e "s|@MEMORY@|$memory|" "$here/slurm.conf" > /etc/slurm/slurm.conf

# Daemons that inherited the output of this script would keep it open.
start() { "$@" >> "$prefix/log/start.log" 2>&1 < /dev/null; }
if ! as slurm "$tree/bin/munge" -n &> /dev/null; then
    as munge "$tree/sbin/mungekey" --create --keyfile="$prefix/munge/munge.key"
    start as munge "$tree/sbin/munged" --key-file="$prefix/munge/munge.key" \
        --log-file="$prefix/munge/munged.log" --pid-file="$prefix/munge/munged.pid" \
        --seed-file="$prefix/munge/munged.seed"
    wait_for munged "$prefix/munge/munged.log" as slurm "$tree/bin/munge" -n
fi
start as slurm "$tree/sbin/slurmctld"
start env -i "$tree/sbin/slurmd"
is_idle() { [[ $(as slurm "$tree/bin/sinfo" --noheader --format=%T) == idle ]]; }
wait_for slurmctld "$prefix/log/slurmctld.log" as slurm "$tree/bin/scontrol" ping
wait_for slurmd "$prefix/log/slurmd.log" is_idle
if [[ -n $worker ]]; then
    setsid env -i bash "$prefix/stop-cluster" "$worker" &> /dev/null < /dev/null &
fi
