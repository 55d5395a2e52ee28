#!/bin/bash
# Unpacks a package and starts munged, slurmctld and slurmd from it, as root.
#
# usage: start-cluster.sh TARBALL PREFIX [PID]
#   PREFIX: directory that holds the package and all that the daemons write
#   PID: process whose end ends the cluster
set -euo pipefail
tarball=$1 prefix=$2 worker=${3:-}
here=$(dirname "$0")
tree=$prefix/current/software
script=software/share/slurm-factory/deploy.sh
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

for taken in "$prefix/versions" /etc/slurm/slurm.conf /etc/slurm/jwt_hs256.key; do
    [[ ! -e $taken ]] || fail "There is $taken already. Stop the cluster that it belongs to, and remove it."
done
for user in munge slurm; do
    id "$user" &> /dev/null ||
        useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
done
mkdir -p "$prefix"
install -m 0755 "$here/stop-cluster.sh" "$prefix/stop-cluster"
tar -xzf "$tarball" -C "$prefix" --no-same-owner --strip-components=3 --occurrence=1 "$script" ||
    fail "$tarball has no $script."
munge_key=
[[ -e /etc/munge/munge.key ]] || munge_key=made
sh "$prefix/deploy.sh" "$tarball" --prefix "$prefix" --config runner > /dev/null
install -d -m 0700 -o munge -g munge "$prefix/munge"
install -d -m 0755 -o munge -g munge /run/munge
mkdir "$prefix/slurmd"
install -d -o slurm -g slurm "$prefix/slurmctld" "$prefix/log"

# What the daemons write stays below the prefix, and nobody may know the name of a runner. What its
# kernel says may contradict the number of its CPUs.
memory=$(awk '$1 == "MemTotal:" { print int($2 / 1024 * 0.9) }' /proc/meminfo)
node="NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory"
sed -i -e "s|=/var/spool/|=$prefix/|" -e "s|=/run/slurmctld/|=$prefix/slurmctld/|" \
    -e "s|=/run/slurm/|=$prefix/slurmd/|" -e "s|=/var/log/slurm/|=$prefix/log/|" \
    -e 's/^SlurmctldHost=.*/&(127.0.0.1)/' -e "s/^NodeName=.*/SlurmdParameters=config_overrides\n$node/" \
    /etc/slurm/slurm.conf

# Daemons that inherited the output of this script would keep it open.
start() { "$@" >> "$prefix/log/start.log" 2>&1 < /dev/null; }
if ! as slurm "$tree/bin/munge" -n &> /dev/null; then
    install -m 0600 -o munge -g munge /etc/munge/munge.key "$prefix/munge/munge.key"
    start as munge "$tree/sbin/munged" --key-file="$prefix/munge/munge.key" \
        --log-file="$prefix/munge/munged.log" --pid-file="$prefix/munge/munged.pid" \
        --seed-file="$prefix/munge/munged.seed"
    wait_for munged "$prefix/munge/munged.log" as slurm "$tree/bin/munge" -n
fi
[[ -z $munge_key ]] || rm /etc/munge/munge.key
start as slurm "$tree/sbin/slurmctld"
start env -i "$tree/sbin/slurmd"
is_idle() { [[ $(as slurm "$tree/bin/sinfo" --noheader --format=%T) == idle ]]; }
wait_for slurmctld "$prefix/log/slurmctld.log" as slurm "$tree/bin/scontrol" ping
wait_for slurmd "$prefix/log/slurmd.log" is_idle
if [[ -n $worker ]]; then
    setsid env -i bash "$prefix/stop-cluster" "$worker" &> /dev/null < /dev/null &
fi
