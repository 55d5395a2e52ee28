"""A machine on which setup has done everything, and the answers of a real LXD 5.0.2."""

from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

from slurm_factory.host.facts import (
    Account,
    Daemon,
    Firewall,
    Flavor,
    HostFacts,
    Lxd,
    OsRelease,
    Privilege,
)

DEBIAN = OsRelease("debian", "12", "Debian GNU/Linux 12 (bookworm)")
UBUNTU = OsRelease("ubuntu", "24.04", "Ubuntu 24.04.2 LTS")
ALICE = Account("alice", 1000, 1000, in_group=True, in_session=True)
ROOT = Account("root", 0, 0, in_group=False, in_session=False)

READY_LXD = Lxd(
    version="5.0.2",
    drivers=("dir", "btrfs"),
    pools={"default": "btrfs"},
    networks=("lxdbr0",),
    root_pool="default",
    nic=True,
    bridge="lxdbr0",
    nat=True,
    proxies={},
)

READY = HostFacts(
    os=DEBIAN,
    account=ALICE,
    privilege=Privilege.SUDO,
    systemd=True,
    flavor=Flavor.DEB,
    incus=False,
    missing_packages=(),
    obstacle=None,
    daemon=Daemon.ANSWERING,
    permitted=True,
    lxd=READY_LXD,
    inotify_instances=1024,
    inotify_kept=True,
    subuid=("alice:100000:65536", "root:165536:10000001", "root:1000:1"),
    subgid=("alice:100000:65536", "root:165536:10000001", "root:1000:1"),
    uids=(range(2**32 - 1),),
    gids=(range(2**32 - 1),),
    interfaces=("lo", "eth0", "lxdbr0"),
    taken=(IPv4Network("127.0.0.0/8"), IPv4Network("192.0.2.0/24")),
    uplink_mtu=1500,
    firewall=Firewall.OPEN,
    forwarded=(),
    ip_forward=True,
    loop_devices=True,
    free_bytes=80 * 2**30,
    proxies={},
)

FRESH = replace(
    READY,
    flavor=None,
    missing_packages=("lxd", "lxd-client", "iptables", "mmdebstrap"),
    account=replace(ALICE, in_group=False, in_session=False),
    daemon=Daemon.STOPPED,
    permitted=False,
    lxd=None,
    inotify_instances=128,
    inotify_kept=False,
    subuid=("alice:100000:65536",),
    subgid=("alice:100000:65536",),
    interfaces=("lo", "eth0"),
)

EMPTY_LXD = replace(
    READY_LXD, pools={}, networks=(), root_pool=None, nic=False, bridge=None, nat=False
)

SERVER: dict[str, Any] = {
    "api_status": "stable",
    "auth": "trusted",
    "config": {},
    "environment": {
        "server_version": "5.0.2",
        "storage_supported_drivers": [
            {"Name": "dir", "Remote": False, "Version": "1"},
            {"Name": "btrfs", "Remote": False, "Version": "6.2"},
        ],
    },
}
POOLS: list[dict[str, Any]] = [
    {
        "config": {"size": "39GiB", "source": "/var/lib/lxd/disks/default.img"},
        "driver": "btrfs",
        "name": "default",
        "status": "Created",
        "used_by": ["/1.0/profiles/default"],
    }
]
NETWORKS: list[dict[str, Any]] = [
    {
        "config": {
            "bridge.mtu": "1400",
            "ipv4.address": "10.201.7.1/24",
            "ipv4.nat": "true",
            "ipv6.address": "none",
        },
        "managed": True,
        "name": "lxdbr0",
        "type": "bridge",
    },
    {"config": {}, "managed": False, "name": "lo", "type": "loopback"},
    {"config": {}, "managed": False, "name": "eth0", "type": "physical"},
]
PROFILE: dict[str, Any] = {
    "config": {},
    "description": "Default LXD profile",
    "devices": {
        "eth0": {"name": "eth0", "network": "lxdbr0", "type": "nic"},
        "root": {"path": "/", "pool": "default", "type": "disk"},
    },
    "name": "default",
}
