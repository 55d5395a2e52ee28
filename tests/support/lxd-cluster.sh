#!/usr/bin/env bash
# A cluster of three LXD members on this machine, as root, beside the machine's own LXD, whose
# instances it does not know:
#     lxd-cluster.sh start|remove DIRECTORY
#     lxd-cluster.sh kill|revive DIRECTORY MEMBER
# Each member (m1, m2, m3) has namespaces, an address, a storage pool and a bridge of its own. To
# kill one is what a power failure does: its processes, its instances and its address are gone.
# DIRECTORY/client is a configuration for lxc (LXD_CONF) with the remote `farm`.
set -euo pipefail

DIRECTORY=$2
BRIDGE=sf-cluster
NET=10.201.88
MTU=1400
POOL_SIZE=12GiB
# In seconds; LXD wants more than ten, which is how often members hear of each other.
OFFLINE=11
MEMBERS=(m1 m2 m3)

address() { echo "${NET}.1${1#m}"; }

# Runs a command in the namespaces of a member.
inside() {
    local member=$1
    shift
    nsenter --target "$(init_of "${member}")" --all -- \
        env LXD_DIR="${DIRECTORY}/${member}" LXD_CONF="${DIRECTORY}/admin" "$@"
}

# The first process of a member, or nothing: never one of anybody else.
init_of() {
    local pid
    pid=$(cat "${DIRECTORY}/$1.pid" 2> /dev/null || true)
    if [[ -n ${pid} ]] \
        && grep -qzxF "SF_MEMBER=${DIRECTORY}/$1" "/proc/${pid}/environ" 2> /dev/null; then
        echo "${pid}"
    fi
}

make_network() {
    if ip link show "${BRIDGE}" &> /dev/null; then
        return
    fi
    ip link add "${BRIDGE}" type bridge
    ip link set "${BRIDGE}" mtu "${MTU}" up
    ip address add "${NET}.1/24" dev "${BRIDGE}"
    sysctl -qw net.ipv4.ip_forward=1
    nft -f - << NFT
table ip ${BRIDGE} {
    chain postrouting {
        type nat hook postrouting priority srcnat;
        ip saddr ${NET}.0/24 ip daddr != ${NET}.0/24 masquerade
    }
}
NFT
}

# What the first process of a member runs, in its namespaces.
# shellcheck disable=SC2016 # the inner shell expands it
MEMBER_MAIN='
set -euo pipefail
mount --make-rprivate /
echo "${NAME}" > /proc/sys/kernel/hostname
# Interfaces are those of the namespace only in a new sysfs, which has no control groups.
mkdir -p "${LXD_DIR}.cgroup"
mount --rbind /sys/fs/cgroup "${LXD_DIR}.cgroup"
mount -t sysfs sysfs /sys
mount --rbind "${LXD_DIR}.cgroup" /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mkdir -p /run/lock
ip link set lo up
while [[ ! -e /sys/class/net/eth0 ]]; do sleep 0.02; done
ip address add "${ADDRESS}/24" dev eth0
ip link set eth0 mtu "${MTU}" up
ip route add default via "${GATEWAY}"
# lxd as the first process would have to reap what its instances leave.
lxd --group root >> "${LXD_DIR}.log" 2>&1 &
wait "$!"
'

start_member() {
    local member=$1 pid
    if [[ -n $(init_of "${member}") ]]; then
        return
    fi
    mkdir -p "${DIRECTORY}/${member}"
    NAME=${member} ADDRESS=$(address "${member}") GATEWAY=${NET}.1 MTU=${MTU} \
        LXD_DIR=${DIRECTORY}/${member} SF_MEMBER=${DIRECTORY}/${member} \
        setsid unshare --net --mount --pid --uts --ipc --fork --kill-child --mount-proc \
        bash -c "${MEMBER_MAIN}" < /dev/null >> "${DIRECTORY}/${member}.log" 2>&1 &
    pid=$!
    until pgrep --parent "${pid}" > "${DIRECTORY}/${member}.pid"; do
        sleep 0.02
    done
    pid=$(cat "${DIRECTORY}/${member}.pid")
    ip link add "sfv-${member}" type veth peer name eth0 netns "${pid}"
    ip link set "sfv-${member}" mtu "${MTU}" master "${BRIDGE}" up
    until inside "${member}" lxd waitready --timeout 60 2> /dev/null; do
        sleep 0.1
    done
}

bootstrap() {
    inside m1 lxd init --preseed << PRESEED
config:
  core.https_address: $(address m1):8443
cluster: {enabled: true, server_name: m1}
storage_pools:
- name: default
  driver: btrfs
  config: {size: ${POOL_SIZE}}
networks:
- name: lxdbr0
  type: bridge
  config: {bridge.mtu: "${MTU}", ipv4.address: ${NET%.88}.89.1/24, ipv4.nat: "true", ipv6.address: none}
profiles:
- name: default
  devices:
    root: {path: /, pool: default, type: disk}
    eth0: {name: eth0, network: lxdbr0, type: nic}
PRESEED
}

join() {
    local member=$1 token
    token=$(inside m1 lxc cluster add "${member}" | tail -n 1)
    inside "${member}" lxd init --preseed << PRESEED
cluster:
  enabled: true
  server_name: ${member}
  server_address: $(address "${member}"):8443
  cluster_token: ${token}
  member_config:
  - {entity: storage-pool, name: default, key: size, value: ${POOL_SIZE}}
PRESEED
}

trust_client() {
    local token
    token=$(inside m1 lxc config trust add --name tests --quiet | tail -n 1)
    mkdir -p "${DIRECTORY}/client"
    LXD_CONF=${DIRECTORY}/client lxc remote add farm "${token}" --accept-certificate
}

start() {
    mkdir -p "${DIRECTORY}"
    make_network
    for member in "${MEMBERS[@]}"; do
        start_member "${member}"
    done
    if [[ ! -e ${DIRECTORY}/client/config.yml ]]; then
        bootstrap
        join m2
        join m3
        inside m1 lxc config set cluster.offline_threshold "${OFFLINE}"
        trust_client
    fi
}

kill_member() {
    local pid
    pid=$(init_of "$1")
    [[ -n ${pid} ]]
    # First, so that nobody is told: its kernel would close connections.
    ip link delete "sfv-$1"
    # The kernel kills all others in its namespace with it.
    kill -KILL "${pid}"
    while [[ -e /proc/${pid} ]]; do
        sleep 0.05
    done
}

remove() {
    for member in "${MEMBERS[@]}"; do
        if [[ -n $(init_of "${member}") ]]; then
            kill_member "${member}"
        fi
    done
    nft delete table ip "${BRIDGE}" 2> /dev/null || true
    ip link delete "${BRIDGE}" 2> /dev/null || true
    rm -rf "${DIRECTORY}"
}

case $1 in
    start) start ;;
    kill) kill_member "$3" ;;
    revive) start_member "$3" ;;
    remove) remove ;;
    *) exit 2 ;;
esac
