#!/usr/bin/env bash
# A second LXD, beside that of this machine: private-lxd.sh start|kill|remove DIRECTORY ADDRESS, as
# root. It has a storage pool and a bridge of its own, and knows nothing of the other's instances.
# ADDRESS: of its bridge, such as 10.201.77.1/24.
set -euo pipefail

export LXD_DIR=$2
ADDRESS=$3
BRIDGE=sf-faults
POOL_SIZE=20GiB

start() {
    mkdir -p "${LXD_DIR}"
    if [[ -z $(process) ]]; then
        # shellcheck disable=SC2016 # the inner shell expands it
        setsid bash -c 'echo $$ > "${LXD_DIR}/pid"; exec lxd --group lxd' \
            < /dev/null >> "${LXD_DIR}/lxd.log" 2>&1 &
    fi
    lxd waitready --timeout 120
    if [[ $(lxc storage list --format csv) == "" ]]; then
        initialize
    fi
}

initialize() {
    local driver=dir size=""
    if command -v mkfs.btrfs > /dev/null; then
        driver=btrfs size="size: ${POOL_SIZE}"
    fi
    lxd init --preseed <<PRESEED
networks:
- name: ${BRIDGE}
  type: bridge
  config: {ipv4.address: ${ADDRESS}, ipv4.nat: "true", ipv6.address: none}
storage_pools:
- name: default
  driver: ${driver}
  config: {${size}}
profiles:
- name: default
  devices:
    root: {path: /, pool: default, type: disk}
    eth0: {name: eth0, network: ${BRIDGE}, type: nic}
PRESEED
}

# The process of this directory, or nothing: never another daemon.
process() {
    local pid
    pid=$(cat "${LXD_DIR}/pid" 2> /dev/null || true)
    if [[ -n ${pid} ]] && grep -qzxF "LXD_DIR=${LXD_DIR}" "/proc/${pid}/environ" 2> /dev/null; then
        echo "${pid}"
    fi
}

kill_daemon() {
    local pid
    pid=$(process)
    [[ -n ${pid} ]]
    kill -KILL "${pid}"
    while [[ -e /proc/${pid} ]]; do
        sleep 0.05
    done
}

# Its instances and projects have to be gone.
remove() {
    if [[ -z $(process) ]]; then
        start
    fi
    for device in root eth0; do
        lxc profile device remove default "${device}" 2> /dev/null || true
    done
    lxc storage delete default
    lxc network delete "${BRIDGE}"
    lxd shutdown --timeout 60
    findmnt --noheadings --output TARGET --raw \
        | { grep -F "${LXD_DIR}/" || true; } | sort --reverse | xargs --no-run-if-empty umount --lazy
    rm -rf "${LXD_DIR}"
}

case $1 in
    start) start ;;
    kill) kill_daemon ;;
    remove) remove ;;
    *) exit 2 ;;
esac
