#!/bin/bash
# Creates an LXD storage pool with the first driver that works here, and puts the root disk of the
# default profile into it.
# Usage: host-create-pool.sh SIZE DRIVER...
set -euo pipefail

size=$1
shift

for driver in "$@"; do
    config=()
    if [[ $driver != dir ]]; then
        config=("size=$size")
    fi
    # A pool's directory left behind by an earlier LXD blocks its name.
    for pool in default default1 default2; do
        if lxc storage create "local:$pool" "$driver" "${config[@]}"; then
            exec lxc --project default profile device add local:default root disk path=/ pool="$pool"
        fi
    done
    echo "no storage pool with driver $driver on this machine"
done
exit 1
