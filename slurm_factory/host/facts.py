"""Facts about a machine for setup and doctor: records only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network


class Privilege(StrEnum):
    """How this process may become root."""

    ROOT = "root"
    SUDO = "sudo"
    NONE = "none"


class Flavor(StrEnum):
    """The package that LXD comes from."""

    SNAP = "snap"
    DEB = "deb"


class Daemon(StrEnum):
    """Whether LXD's daemon answers; queried as root if this process may become root."""

    ANSWERING = "answering"
    STOPPED = "stopped"
    SILENT = "silent"
    DENIED = "denied"


class Firewall(StrEnum):
    """The firewall that blocks the forwarded traffic of a bridge."""

    OPEN = "open"
    DOCKER = "docker"
    UFW = "ufw"
    FIREWALLD = "firewalld"
    OTHER = "other"


@dataclass(frozen=True)
class OsRelease:
    """The fields of os-release(5) that setup needs."""

    id: str
    version_id: str
    pretty_name: str


@dataclass(frozen=True)
class Account:
    """The user who builds: under sudo not root, but the caller.

    Attributes:
        name: Login name.
        uid: User id on the host.
        gid: Primary group id on the host.
        in_group: Whether the group database lists the account in LXD's group.
        in_session: Whether this process already has that group (login, newgrp, sg).
    """

    name: str
    uid: int
    gid: int
    in_group: bool
    in_session: bool


@dataclass(frozen=True)
class Lxd:
    """State of a running daemon that answers.

    Attributes:
        version: Version of the server.
        drivers: Storage drivers whose programs and kernel parts are there.
        pools: Name → driver.
        networks: Names of the bridges that LXD manages.
        root_pool: Pool of the root disk in the default project's default profile.
        nic: Whether that profile has a network interface.
        bridge: The managed bridge of that network interface.
        nat: Whether that bridge translates addresses (ipv4.nat).
        proxies: Its core.proxy_http, core.proxy_https and core.proxy_ignore_hosts.
    """

    version: str
    drivers: tuple[str, ...]
    pools: Mapping[str, str]
    networks: tuple[str, ...]
    root_pool: str | None
    nic: bool
    bridge: str | None
    nat: bool
    proxies: Mapping[str, str]


@dataclass(frozen=True)
class HostFacts:
    """Everything that planning needs, probed once.

    Attributes:
        flavor: The installed LXD, None if there is none.
        incus: Whether Incus is installed.
        systemd: Whether systemd is the first process.
        missing_packages: Missing packages that setup needs.
        obstacle: Why LXD cannot run here even with root; None if it can.
        daemon: Whether LXD answers.
        permitted: Whether this process may use it without becoming root.
        lxd: Its state, None unless it answers.
        inotify_instances: fs.inotify.max_user_instances now.
        inotify_kept: Whether setup's sysctl file is written.
        subuid: Lines of /etc/subuid.
        subgid: Lines of /etc/subgid.
        uids: User ids that exist here; a container has few (user_namespaces(7)).
        gids: Group ids that exist here.
        interfaces: Names of all network interfaces.
        taken: IPv4 subnets in use.
        uplink_mtu: MTU in bytes of the interface of the default route, None without one.
        firewall: The firewall that blocks forwarded traffic.
        forwarded: Names of the interfaces that it still allows.
        ip_forward: Whether the kernel forwards IPv4 at all.
        loop_devices: Whether loop devices are available.
        free_bytes: Free space where LXD keeps its pools.
        proxies: http_proxy, https_proxy, ftp_proxy and no_proxy of the environment.
    """

    os: OsRelease
    account: Account
    privilege: Privilege
    systemd: bool
    flavor: Flavor | None
    incus: bool
    missing_packages: tuple[str, ...]
    obstacle: str | None
    daemon: Daemon
    permitted: bool
    lxd: Lxd | None
    inotify_instances: int
    inotify_kept: bool
    subuid: tuple[str, ...]
    subgid: tuple[str, ...]
    uids: tuple[range, ...]
    gids: tuple[range, ...]
    interfaces: tuple[str, ...]
    taken: tuple[IPv4Network, ...]
    uplink_mtu: int | None
    firewall: Firewall
    forwarded: tuple[str, ...]
    ip_forward: bool
    loop_devices: bool
    free_bytes: int
    proxies: Mapping[str, str]
