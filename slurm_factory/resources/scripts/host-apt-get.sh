#!/bin/bash
# Runs apt-get(8), and waits while another apt runs, as on a fresh machine: DPkg::Lock::Timeout of
# apt.conf(5) covers only dpkg's lock, not those of the lists and the downloads.
# Usage: host-apt-get.sh SECONDS_TO_WAIT ARGUMENT...
set -euo pipefail

seconds=$1
shift
end=$((SECONDS + seconds))

export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
until { said=$(apt-get -o "DPkg::Lock::Timeout=$seconds" "$@" 2>&1 >&3); } 3>&1; do
    if [[ $said != *"Could not get lock"* ]] || ((SECONDS >= end)); then
        echo "$said" >&2
        exit 100
    fi
    [[ ${told:-} ]] || echo "Waiting: ${said%%$'\n'*}" >&2
    told=yes
    sleep 0.5
done
[[ -z $said ]] || echo "$said" >&2
