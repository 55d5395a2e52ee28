#!/bin/bash
# Starts the LXD daemon of a Debian package on a machine without systemd, as the package's
# lxd.service does.
# Usage: host-start-lxd.sh SECONDS_TO_WAIT [replace]
#   replace  first kill a daemon that does not answer; instances keep running
set -euo pipefail

wait_seconds=$1
replace=${2:-}
log_file=/var/log/lxd/lxd.log

if timeout 5 lxd waitready --timeout=2 2>/dev/null; then
    exit 0
fi

# The processes of this machine, not of its containers, with their command lines.
processes() {
    local process
    for process in /proc/[0-9]*; do
        if [[ $(readlink "$process/ns/mnt") == "$(readlink /proc/self/ns/mnt)" ]]; then
            printf '%s %s\n' "${process#/proc/}" "$(tr '\0' ' ' 2>/dev/null <"$process/cmdline")"
        fi
    done
}

end_daemons() {
    local id command
    while read -r id command; do
        if [[ $command == "lxd --group lxd "* ]]; then
            kill -KILL "$id"
        fi
    done < <(processes)
}

# A dnsmasq left behind by an earlier LXD keeps the address that the next bridge needs.
end_servers_of_lost_bridges() {
    local id command bridge
    while read -r id command; do
        if [[ $command == dnsmasq*/lxd/networks/* && $command =~ --interface=([^ ]+) ]]; then
            bridge=${BASH_REMATCH[1]}
            [[ -e /sys/class/net/$bridge ]] || kill "$id"
        fi
    done < <(processes)
}

if [[ $replace == replace ]]; then
    end_daemons
fi

end_servers_of_lost_bridges

getent group lxd >/dev/null || groupadd --system lxd
mkdir -p "${LXD_DIR:-/var/lib/lxd}" "${log_file%/*}"

# Without systemd, nothing has mounted it.
if ! mountpoint -q /sys/fs/cgroup; then
    mount -t cgroup2 none /sys/fs/cgroup
fi
if [[ -x /usr/libexec/lxd/lxd-apparmor-load ]]; then
    /usr/libexec/lxd/lxd-apparmor-load || true
fi
ulimit -n "$(ulimit -Hn)"

setsid --fork lxd --group lxd --logfile "$log_file" </dev/null >/dev/null 2>&1
if ! lxd waitready --timeout="$wait_seconds"; then
    tail -n 20 "$log_file" >&2
    exit 1
fi
