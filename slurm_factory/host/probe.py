"""Facts about this machine; changes nothing."""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slurm_factory import resources
from slurm_factory.constants import LXD_GROUP
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
from slurm_factory.host.ids import free_ids
from slurm_factory.host.networks import taken_subnets
from slurm_factory.host.socket import socket_state
from slurm_factory.util.machine import proxies
from slurm_factory.util.process import TIMED_OUT, Outcome, run, which

INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
SYSCTL_FILE = Path("/etc/sysctl.d/60-slurm-factory.conf")
SUBUID_FILE = Path("/etc/subuid")
SUBGID_FILE = Path("/etc/subgid")

SNAP_PROGRAMS = (Path("/snap/bin/lxc"), Path("/var/lib/snapd/snap/bin/lxc"))
ELF_MAGIC = b"\x7fELF"

PROC_STATUS = Path("/proc/self/status")
MAX_USER_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")
UID_MAP = Path("/proc/self/uid_map")
GID_MAP = Path("/proc/self/gid_map")
ALL_IDS = (range(2**32 - 1),)
"""The id range of a machine that is not a container."""
CAP_SYS_ADMIN = 21
"""Number of the capability in capabilities(7), <linux/capability.h>."""

LXC_SECONDS = 20
SUDO = ("sudo", "-n", "timeout", "--kill-after=1", str(LXC_SECONDS))
"""A user's process cannot kill a process started by sudo: timeout(1) does it, as root."""


def probe() -> HostFacts:
    """Look at this machine (0.1 s; at most some 25 s where LXD does not answer)."""
    release = parse_os_release(_text(Path("/etc/os-release")))
    privilege = probe_privilege()
    prefix = SUDO if privilege is Privilege.SUDO else ()
    state = socket_state()
    daemon, lxd = probe_lxd(state, prefix if state is Daemon.DENIED else ())
    links = _ip("link")
    routes = _ip("-4", "route", "show", "table", "all")
    firewall, forwarded = probe_firewall(prefix)
    uids, gids = parse_id_map(_text(UID_MAP)), parse_id_map(_text(GID_MAP))
    runs = daemon is Daemon.ANSWERING and lxd is not None
    return HostFacts(
        os=release,
        account=probe_account(),
        privilege=privilege,
        systemd=Path("/run/systemd/system").is_dir(),
        flavor=probe_flavor(),
        incus=which("incus") is not None,
        missing_packages=missing_packages(wanted_packages(release)),
        obstacle=None if runs else probe_obstacle(privilege, uids, gids),
        daemon=daemon,
        permitted=state in {Daemon.ANSWERING, Daemon.SILENT},
        lxd=lxd,
        inotify_instances=int(_text(INOTIFY_LIMIT) or 0),
        inotify_kept=SYSCTL_FILE.exists(),
        subuid=tuple(_text(SUBUID_FILE).split()),
        subgid=tuple(_text(SUBGID_FILE).split()),
        uids=uids,
        gids=gids,
        interfaces=tuple(str(link["ifname"]) for link in links),
        taken=taken_subnets(routes, _ip("-4", "address"), _text(Path("/etc/resolv.conf"))),
        uplink_mtu=uplink_mtu(routes, links),
        firewall=firewall,
        forwarded=forwarded,
        ip_forward=_text(IP_FORWARD).strip() == "1",
        loop_devices=Path("/dev/loop-control").exists(),
        free_bytes=free_bytes(Path("/var/lib/lxd"), Path("/var/snap/lxd/common")),
        proxies=proxies(os.environ),
    )


def probe_obstacle(
    privilege: Privilege, uids: Sequence[range], gids: Sequence[range]
) -> str | None:
    """The reason why LXD cannot run on this machine even with root; None if it can.

    Args:
        privilege: How this process may become root.
        uids: User ids that this machine has.
        gids: Group ids that this machine has.
    """
    effective = privilege is Privilege.ROOT
    if not has_capability(_text(PROC_STATUS), CAP_SYS_ADMIN, effective=effective):
        return "this machine is a container without the capability CAP_SYS_ADMIN"
    if "cgroup" not in _text(Path("/proc/filesystems")):
        return "the kernel has no control groups"
    if free_ids(uids, ()) is None or free_ids(gids, ()) is None:
        return "this machine is a container with too few user and group ids for nested containers"
    if _text(MAX_USER_NAMESPACES).strip() == "0":
        return "user namespaces are disabled (sysctl user.max_user_namespaces is 0)"
    return _why_no_user_namespace(privilege)


def _why_no_user_namespace(privilege: Privilege) -> str | None:
    if privilege is Privilege.NONE:
        return None
    prefix = SUDO if privilege is Privilege.SUDO else ()
    outcome = run([*prefix, "unshare", "--user", "true"])
    # sudo may ask for a password here.
    if outcome.ok or (prefix and not run([*prefix, "true"]).ok):
        return None
    return f"the kernel refuses a user namespace: {outcome.errors.strip()}"


def has_capability(status: str, number: int, *, effective: bool) -> bool:
    """Whether a process has a capability, or (if not `effective`) could get it through sudo.

    Args:
        status: Text of /proc/PID/status (proc(5)).
        number: The capability's number.
        effective: Ask the effective set rather than the bounding set.
    """
    field = "CapEff" if effective else "CapBnd"
    found = re.search(rf"^{field}:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> number & 1)


def parse_id_map(text: str) -> tuple[range, ...]:
    """The ids that exist here, from /proc/self/uid_map or gid_map (user_namespaces(7))."""
    entries = [(int(start), int(count)) for start, _, count in map(str.split, text.splitlines())]
    return tuple(range(start, start + count) for start, count in entries) or ALL_IDS


def parse_os_release(text: str) -> OsRelease:
    """The fields of os-release(5) that setup needs; missing ones are empty."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    fields = {key.strip(): value.strip().strip("\"'") for key, value in pairs}
    return OsRelease(
        id=fields.get("ID", ""),
        version_id=fields.get("VERSION_ID", ""),
        pretty_name=fields.get("PRETTY_NAME", "this system"),
    )


def probe_privilege() -> Privilege:
    """Whether this process is root, or may become so (sudo(8)) without or with a password."""
    if os.geteuid() == 0:
        return Privilege.ROOT
    if which("sudo") is None:
        return Privilege.NONE
    if run(["sudo", "-n", "true"]).ok:
        return Privilege.SUDO
    names = {_group_name(gid) for gid in os.getgroups()}
    return Privilege.SUDO if names & {"sudo", "admin", "wheel"} else Privilege.NONE


def probe_account() -> Account:
    """The account that builds; under sudo the caller."""
    uid = int(os.environ.get("SUDO_UID", "0")) if os.geteuid() == 0 else os.getuid()
    try:
        entry = pwd.getpwuid(uid)
        name, gid = entry.pw_name, entry.pw_gid
    except KeyError:
        name, gid = str(uid), os.getgid()
    try:
        group = grp.getgrnam(LXD_GROUP)
    except KeyError:
        return Account(name, uid, gid, in_group=False, in_session=False)
    return Account(
        name,
        uid,
        gid,
        in_group=name in group.gr_mem or gid == group.gr_gid,
        in_session=group.gr_gid in {*os.getgroups(), os.getegid()},
    )


def probe_flavor() -> Flavor | None:
    """The installed LXD.

    Ubuntu's package lxd-installer, a script that installs the snap when called, does not count.
    """
    if any(program.exists() for program in SNAP_PROGRAMS):
        return Flavor.SNAP
    daemon = which("lxd")
    if daemon is None:
        return None
    with daemon.open("rb") as file:
        return Flavor.DEB if file.read(len(ELF_MAGIC)) == ELF_MAGIC else None


def probe_lxd(state: Daemon, prefix: Sequence[str] = ()) -> tuple[Daemon, Lxd | None]:
    """Whether the daemon answers, and its state if it does.

    Args:
        state: State of its socket for this process.
        prefix: What to put before `lxc`: nothing, or `SUDO`.
    """
    if which("lxc") is None:
        return Daemon.STOPPED, None
    if state not in {Daemon.ANSWERING, Daemon.DENIED} or (state is Daemon.DENIED and not prefix):
        return state, None
    if prefix and not run([*prefix, "true"]).ok:
        return Daemon.DENIED, None
    outcome = _lxc_query("/1.0", prefix)
    daemon = classify_answer(outcome, state)
    if daemon is not Daemon.ANSWERING:
        return daemon, None
    pools = _lxc_query("/1.0/storage-pools?recursion=1", prefix)
    networks = _lxc_query("/1.0/networks?recursion=1&project=default", prefix)
    profile = _lxc_query("/1.0/profiles/default?project=default", prefix)
    if not (pools.ok and networks.ok and profile.ok):
        return Daemon.SILENT, None
    answers = [json.loads(o.output) for o in (outcome, pools, networks, profile)]
    return Daemon.ANSWERING, parse_lxd(*answers)


def classify_answer(outcome: Outcome, state: Daemon) -> Daemon:
    """The daemon's state from an attempt at `lxc query /1.0`.

    Args:
        outcome: Outcome of the attempt.
        state: State of the socket for this process: `denied` if root has made the attempt.
    """
    if outcome.ok:
        trusted = json.loads(outcome.output).get("auth") == "trusted"
        return Daemon.ANSWERING if trusted else Daemon.DENIED
    if outcome.status == TIMED_OUT or state is Daemon.ANSWERING:
        return Daemon.SILENT
    return Daemon.STOPPED


def parse_lxd(
    server: Mapping[str, Any],
    pools: Sequence[Mapping[str, Any]],
    networks: Sequence[Mapping[str, Any]],
    profile: Mapping[str, Any],
) -> Lxd:
    """The daemon's state from four answers of its REST API.

    Args:
        server: `/1.0`.
        pools: `/1.0/storage-pools?recursion=1`.
        networks: `/1.0/networks?recursion=1`.
        profile: `/1.0/profiles/default`.
    """
    environment = server["environment"]
    config = server.get("config") or {}
    devices = (profile.get("devices") or {}).values()
    disks = (device for device in devices if device.get("type") == "disk")
    root: Mapping[str, Any] = next((disk for disk in disks if disk.get("path") == "/"), {})
    nic = next((device for device in devices if device.get("type") == "nic"), None)
    managed = {str(network["name"]): network for network in networks if network.get("managed")}
    bridge = (nic.get("network") or nic.get("parent")) if nic else None
    settings = managed.get(str(bridge), {}).get("config") or {}
    return Lxd(
        version=str(environment["server_version"]),
        drivers=tuple(d["Name"] for d in environment.get("storage_supported_drivers") or ()),
        pools={str(pool["name"]): str(pool["driver"]) for pool in pools},
        networks=tuple(n for n, network in managed.items() if network["type"] == "bridge"),
        root_pool=root.get("pool"),
        nic=nic is not None,
        bridge=bridge if bridge in managed else None,
        nat=settings.get("ipv4.nat") == "true",
        proxies={
            key: config[f"core.{key}"]
            for key in ("proxy_http", "proxy_https", "proxy_ignore_hosts")
            if config.get(f"core.{key}")
        },
    )


def uplink_mtu(
    routes: Sequence[Mapping[str, Any]], links: Sequence[Mapping[str, Any]]
) -> int | None:
    """MTU in bytes of the interface of the default route (`ip -json` output)."""
    uplink = next((route.get("dev") for route in routes if route.get("dst") == "default"), None)
    return next((int(link["mtu"]) for link in links if link["ifname"] == uplink), None)


def probe_firewall(prefix: Sequence[str]) -> tuple[Firewall, tuple[str, ...]]:
    """The firewall that blocks forwarded traffic, and the interfaces that it still allows.

    `open` also if only root could know and this process cannot become root.
    """
    if which("firewall-cmd") and run([*prefix, "firewall-cmd", "--state"]).ok:
        trusted = run([*prefix, "firewall-cmd", "--zone=trusted", "--list-interfaces"])
        return Firewall.FIREWALLD, tuple(trusted.output.split())
    if which("ufw"):
        status = run([*prefix, "ufw", "status"]).output
        if "Status: active" in status:
            return Firewall.UFW, parse_ufw_status(status)
    return parse_iptables(run([*prefix, "iptables", "-S"]).output)


def parse_ufw_status(status: str) -> tuple[str, ...]:
    """Interfaces whose forwarded traffic `ufw status` shows as allowed (ufw(8))."""
    return tuple(sorted(set(re.findall(r"Anywhere on (\S+)\s+ALLOW FWD", status))))


def parse_iptables(rules: str) -> tuple[Firewall, tuple[str, ...]]:
    """The FORWARD policy, of Docker or another program, from what `iptables -S` prints
    (iptables(8))."""
    lines = rules.splitlines()
    if "-P FORWARD DROP" not in lines:
        return Firewall.OPEN, ()
    docker = "-N DOCKER-USER" in lines
    chain = "DOCKER-USER" if docker else "FORWARD"
    accepted = re.findall(rf"^-A {chain} -i (\S+) -j ACCEPT$", rules, re.MULTILINE)
    return Firewall.DOCKER if docker else Firewall.OTHER, tuple(accepted)


def free_bytes(*places: Path) -> int:
    """Free space in bytes at the first of these host paths that exists, else at /var."""
    place = next((path for path in places if path.exists()), Path("/var"))
    return shutil.disk_usage(place).free


def wanted_packages(release: OsRelease) -> tuple[str, ...]:
    """Names of the packages that setup needs on a distribution (resources/host-packages.json)."""
    table: dict[str, dict[str, str]] = resources.load_json("host-packages.json")
    keys = (release.id, f"{release.id}@{release.version_id}")
    return tuple(package for key in keys for package in table.get(key, {}))


def missing_packages(packages: Sequence[str]) -> tuple[str, ...]:
    """The packages that are not installed."""
    if not packages:
        return ()
    shown = run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\\n", *packages]).output
    installed = {line.split()[1] for line in shown.splitlines() if line.startswith("installed ")}
    return tuple(package for package in packages if package not in installed)


def _lxc_query(path: str, prefix: Sequence[str]) -> Outcome:
    return run([*prefix, "lxc", "query", f"local:{path}"], seconds=LXC_SECONDS + 2)


def _ip(*arguments: str) -> list[dict[str, Any]]:
    outcome = run(["ip", "-json", *arguments])
    return json.loads(outcome.output) if outcome.ok and outcome.output.strip() else []


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
