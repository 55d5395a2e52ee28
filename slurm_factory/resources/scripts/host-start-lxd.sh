#!/bin/bash
# Starts the LXD daemon of a Debian package on a machine whose first process is not systemd; does
# what the package's lxd.service does.
# Usage: host-start-lxd.sh SECONDS_TO_WAIT [replace]
#   replace  first end a daemon that does not answer; instances go on running
set -euo pipefail

wait_seconds=$1
replace=${2:-}
log_file=/var/log/lxd/lxd.log

if timeout 5 lxd waitready --timeout=2 2>/dev/null; then
    exit 0
fi

# Daemons of containers on this machine are seen too, and have other namespaces.
end_daemons() {
    local process
    for process in /proc/[0-9]*; do
        if [[ $(readlink "$process/ns/mnt") == "$(readlink /proc/self/ns/mnt)" ]] \
            && [[ $(tr '\0' ' ' 2>/dev/null <"$process/cmdline") == "lxd --group lxd "* ]]; then
            kill -KILL "${process#/proc/}"
        fi
    done
}

if [[ $replace == replace ]]; then
    end_daemons
fi

getent group lxd >/dev/null || groupadd --system lxd
mkdir -p "${LXD_DIR:-/var/lib/lxd}" "${log_file%/*}"

# Init would have mounted it.
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
