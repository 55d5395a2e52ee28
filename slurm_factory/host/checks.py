"""Checks for problems of a machine, from its facts, each with the command that fixes it.

Pure: no check accesses the machine.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from slurm_factory.constants import LXD_GROUP
from slurm_factory.host.facts import Daemon, Firewall, HostFacts, Privilege
from slurm_factory.host.setup_steps import (
    COPY_ON_WRITE_DRIVERS,
    INOTIFY_INSTANCES,
    WITHOUT_LXD,
    Command,
    firewall_commands,
    restart_commands,
    subid_step,
)

GIB = 2**30
SETUP = "slurm-factory setup"

CACHE_NEEDS_GIB = 2
CACHE_LIKES_GIB = 10
POOL_NEEDS_GIB = 3
POOL_LIKES_GIB = 10
MEMORY_LIKES_GIB = 2
"""The first figure of each is enough for the recipe `system`, the second for Spack; the memory
is enough for one or two compilers of Slurm's largest files."""


class Status(StrEnum):
    """Verdict of one check."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        name: Stable; it is in the `--json` document.
        status: A failure stops builds, a warning makes them slow or fragile.
        message: The state, one line.
        fix_command: One shell line that fixes it; None if there is nothing to fix.
    """

    name: str
    status: Status
    message: str
    fix_command: str | None = None


@dataclass(frozen=True)
class Space:
    """A location on a disk: its name, and its free bytes; None if unknown."""

    name: str
    free: int | None


def host_checks(facts: HostFacts) -> tuple[Check, ...]:
    """All checks that need no instance."""
    if facts.obstacle is None:
        return tuple(check(facts) for check in HOST_CHECKS)
    first = Check("lxd-possible", Status.FAILED, f"LXD cannot run: {facts.obstacle}", WITHOUT_LXD)
    rest = (Check(check(facts).name, Status.SKIPPED, "LXD cannot run") for check in HOST_CHECKS)
    return (first, *rest)


def lxd_check(facts: HostFacts) -> Check:
    """LXD is installed."""
    name = "lxd-installed"
    if facts.flavor is not None:
        version = f" {facts.lxd.version}" if facts.lxd else ""
        return Check(name, Status.OK, f"LXD{version} ({facts.flavor})")
    message = "Incus is installed, LXD is not" if facts.incus else "LXD is not installed"
    return Check(name, Status.FAILED, message, SETUP)


def daemon_check(facts: HostFacts) -> Check:
    """The daemon answers."""
    name = "lxd-running"
    match facts.daemon:
        case Daemon.ANSWERING:
            return Check(name, Status.OK, "the daemon runs")
        case Daemon.DENIED:
            return Check(name, Status.SKIPPED, _why_unknown(facts))
        case Daemon.STOPPED:
            return Check(name, Status.FAILED, "the daemon does not run", SETUP)
        case Daemon.SILENT:
            fix = as_root(facts, *restart_commands(facts))
            return Check(name, Status.FAILED, "the daemon runs and does not answer", fix)


def permission_check(facts: HostFacts) -> Check:
    """Whether this process may use the daemon."""
    name = "lxd-permission"
    if facts.daemon is Daemon.STOPPED:
        return Check(name, Status.SKIPPED, "the daemon does not run")
    account = facts.account
    if facts.permitted:
        return Check(name, Status.OK, f"{account.name} may use LXD")
    if account.in_group:
        message = (
            f"{account.name} is in the group {LXD_GROUP}, but this shell does not have the group"
            " yet"
        )
        return Check(name, Status.FAILED, message, f"sg {LXD_GROUP} -c 'slurm-factory doctor'")
    join = ("usermod", "--append", "--groups", LXD_GROUP, account.name)
    message = f"{account.name} is not in the group {LXD_GROUP}"
    return Check(name, Status.FAILED, message, f"sudo {shlex.join(join)}")


def storage_check(facts: HostFacts) -> Check:
    """Instances get a root disk by a fast copy."""
    name = "storage"
    if facts.lxd is None:
        return Check(name, Status.SKIPPED, _why_unknown(facts))
    pool = facts.lxd.root_pool
    if pool is None:
        what = "the default profile has no root disk" if facts.lxd.pools else "no storage pool"
        return Check(name, Status.FAILED, what, SETUP)
    driver = facts.lxd.pools.get(pool, "unknown")
    if driver != "dir":
        return Check(name, Status.OK, f"pool {pool} ({driver})")
    message = f"pool {pool} is a plain directory: copies are slow, and disk limits have no effect"
    usable = [d for d in COPY_ON_WRITE_DRIVERS if d in facts.lxd.drivers]
    if not usable or not facts.loop_devices:
        return Check(name, Status.WARNING, f"{message}; no better driver is available here")
    create = f"lxc storage create fast {usable[0]} size=30GiB"
    switch = "lxc profile device set default root pool=fast"
    return Check(name, Status.WARNING, message, f"{create} && {switch}")


def network_check(facts: HostFacts) -> Check:
    """Instances get a network interface on a bridge with address translation."""
    name = "network"
    if facts.lxd is None:
        return Check(name, Status.SKIPPED, _why_unknown(facts))
    if not facts.lxd.nic:
        message = "the default profile has no network interface"
        return Check(name, Status.FAILED, message, SETUP)
    bridge = facts.lxd.bridge
    if bridge is None:
        return Check(name, Status.OK, "a network that LXD does not manage")
    if not facts.lxd.nat:
        fix = f"lxc network set {bridge} ipv4.nat=true"
        return Check(name, Status.FAILED, f"bridge {bridge} has no address translation", fix)
    if not facts.ip_forward:
        fix = as_root(facts, ("sysctl", "-w", "net.ipv4.ip_forward=1"))
        return Check(name, Status.FAILED, "the kernel does not forward IPv4", fix)
    return Check(name, Status.OK, f"bridge {bridge} with address translation")


def firewall_check(facts: HostFacts) -> Check:
    """No firewall blocks the forwarded traffic of the bridge."""
    name = "firewall"
    bridge = facts.lxd.bridge if facts.lxd else None
    if facts.firewall is Firewall.OPEN:
        return Check(name, Status.OK, "no firewall blocks forwarded traffic")
    if bridge is None:
        return Check(name, Status.SKIPPED, "no bridge managed by LXD")
    if bridge in facts.forwarded:
        return Check(name, Status.OK, f"{facts.firewall} lets {bridge} through")
    cause = {
        Firewall.DOCKER: "Docker's FORWARD policy",
        Firewall.OTHER: "the policy of the FORWARD chain",
    }.get(facts.firewall, str(facts.firewall))
    message = f"{cause} blocks the traffic of {bridge}"
    return Check(name, Status.FAILED, message, firewall_fix(facts, bridge))


def _why_unknown(facts: HostFacts) -> str:
    """Why LXD's own state is unknown."""
    match facts.daemon:
        case Daemon.DENIED:
            return "this user may not use the daemon"
        case Daemon.STOPPED:
            return "the daemon does not run"
        case _:
            return "the daemon does not answer"


def id_map_check(facts: HostFacts) -> Check:
    """The cache directory can be mounted under its owner's id."""
    step = subid_step(facts)
    if not step.needed:
        return Check("id-map", Status.OK, step.why)
    return Check("id-map", Status.FAILED, step.why, SETUP)


def inotify_check(facts: HostFacts) -> Check:
    """Enough inotify instances for several containers at once."""
    limit = facts.inotify_instances
    if limit >= INOTIFY_INSTANCES:
        return Check("inotify", Status.OK, f"limit is {limit}")
    message = f"limit is {limit}: with about {limit // 10} running containers, no more can boot"
    return Check("inotify", Status.WARNING, message, SETUP)


ABOUT = {
    "lxd-possible": "The kernel and the rights of this machine allow LXD at all.",
    "lxd-installed": "LXD is installed. Incus does not count.",
    "lxd-running": "The daemon of LXD runs and answers.",
    "lxd-permission": "You may use LXD.",
    "storage": "Instances get a disk, by a copy that shares its blocks with the original.",
    "network": "Instances get an interface on a bridge with address translation.",
    "firewall": "No firewall of this machine blocks what instances send.",
    "id-map": "An instance can write to the cache directory as you.",
    "inotify": "The kernel has enough inotify instances for several instances at once.",
    "cache-writable": "The cache directory belongs to slurm-factory, and you may write to it.",
    "cache-space": "The disk of the cache directory has room for sources and packages.",
    "pool-space": "The storage pool of LXD has room for instances.",
    "memory": "The compilers have enough memory.",
    "instance-start": "An instance starts and runs commands.",
    "instance-address": "An instance gets an address.",
    "instance-dns": "An instance can resolve the name of the distribution's archive.",
    "instance-archive": "apt in an instance reaches the distribution's archive.",
    "instance-tls": "An instance trusts the certificates that it is shown.",
}
"""What each check of `doctor` shows if it passes, in their order; the documentation lists them."""

ABOUT_REMOTE = {
    "remote": "The remote of lxc answers, shows the certificate that is known, and trusts you.",
    "remote-members": "All members of the cluster are online.",
    "remote-versions": "They run the same version of LXD.",
    "remote-api": "LXD there is new enough.",
    "remote-profile": "The default profile gives instances a disk and a network.",
    "remote-storage": "Their storage pool is on every member.",
    "remote-network": "Their network is on every member.",
    "remote-space": "The storage pool has room on every member.",
}
"""The same for `doctor --remote`."""
REMOTE_CHECKS = tuple(ABOUT_REMOTE)

HOST_CHECKS: tuple[Callable[[HostFacts], Check], ...] = (
    lxd_check,
    daemon_check,
    permission_check,
    storage_check,
    network_check,
    firewall_check,
    id_map_check,
    inotify_check,
)


def pool_space_check(space: Space) -> Check:
    """Room for instances and images; `space.name` is the storage pool."""
    fix = "slurm-factory clean --full"
    return _space_check("pool-space", space, POOL_NEEDS_GIB, POOL_LIKES_GIB, fix)


def cache_space_check(space: Space) -> Check:
    """Room for caches and builds; `space.name` is the cache directory (host)."""
    fix = "slurm-factory clean --caches"
    return _space_check("cache-space", space, CACHE_NEEDS_GIB, CACHE_LIKES_GIB, fix)


def cache_writable_check(cache_dir: Path, *, problem: str) -> Check:
    """Whether the cache directory (host) is writable: `problem` is the reason why not, or empty."""
    if not problem:
        return Check("cache-writable", Status.OK, f"{cache_dir}")
    fix = "export SLURM_FACTORY_CACHE_DIR=/a/directory/of/yours"
    message = f"{cache_dir} cannot be used: {problem}"
    return Check("cache-writable", Status.FAILED, message, fix)


def memory_check(available: int) -> Check:
    """Memory in bytes that is available to programs (MemAvailable of proc(5))."""
    message = f"{available / GIB:.1f} GiB available"
    if available >= MEMORY_LIKES_GIB * GIB:
        return Check("memory", Status.OK, message)
    fix = "export SLURM_FACTORY_CPU_LIMIT=1"
    return Check("memory", Status.WARNING, f"{message}: compilers may be killed", fix)


def skipped_instance_checks(reason: str) -> tuple[Check, ...]:
    """The checks from inside an instance, if none can be started."""
    return tuple(Check(name, Status.SKIPPED, reason) for name in INSTANCE_CHECKS)


INSTANCE_CHECKS = ("instance-address", "instance-dns", "instance-archive", "instance-tls")


def instance_checks(facts: HostFacts, seen: Mapping[str, str]) -> tuple[Check, ...]:
    """The network as an instance sees it.

    Args:
        facts: Facts of the machine it runs on.
        seen: The lines that resources/scripts/host-probe-network.sh printed, by key.
    """
    address = seen.get("address", "")
    if not address:
        first = Check(
            INSTANCE_CHECKS[0],
            Status.FAILED,
            "an instance gets no address: a firewall blocks its DHCP requests, or no server"
            " answers",
            _network_fix(facts),
        )
        rest = (Check(name, Status.SKIPPED, "no address") for name in INSTANCE_CHECKS[1:])
        return (first, *rest)
    return (
        Check(INSTANCE_CHECKS[0], Status.OK, address),
        _dns_check(facts, seen),
        _archive_check(facts, seen),
        _tls_check(seen),
    )


def _dns_check(facts: HostFacts, seen: Mapping[str, str]) -> Check:
    host = seen.get("host", "the archive")
    if seen.get("dns") == "ok":
        return Check("instance-dns", Status.OK, f"{host} has an address")
    if facts.proxies:
        return Check("instance-dns", Status.SKIPPED, f"the proxy resolves {host}")
    bridge = facts.lxd.bridge if facts.lxd and facts.lxd.bridge else "lxdbr0"
    fix = f"lxc network set {bridge} raw.dnsmasq='server=ADDRESS-OF-A-NAME-SERVER'"
    if facts.firewall is not Firewall.OPEN and bridge not in facts.forwarded:
        fix = firewall_fix(facts, bridge)
    return Check("instance-dns", Status.FAILED, f"an instance cannot resolve {host}", fix)


def _archive_check(facts: HostFacts, seen: Mapping[str, str]) -> Check:
    name, mirror = "instance-archive", seen.get("mirror", "the archive")
    if seen.get("archive") == "ok":
        return Check(name, Status.OK, f"apt reaches {mirror}")
    if seen.get("dns") != "ok" and not facts.proxies:
        return Check(name, Status.SKIPPED, "no name resolution")
    answer = seen.get("archive", "no answer")
    if mirror.startswith("https:") and "certificate" in answer.lower():
        return Check(name, Status.FAILED, f"apt does not trust {mirror}: {answer}", TRUST_CA)
    return Check(name, Status.FAILED, f"apt cannot reach {mirror}: {answer}", _network_fix(facts))


def _tls_check(seen: Mapping[str, str]) -> Check:
    name, result = "instance-tls", seen.get("tls", "untested")
    if result == "ok":
        return Check(name, Status.OK, f"the certificate of {seen.get('host')} is trusted")
    if result == "untrusted":
        message = "a proxy shows instances a certificate that they do not trust"
        return Check(name, Status.WARNING, message, TRUST_CA)
    return Check(name, Status.SKIPPED, f"no HTTPS answer from {seen.get('host', 'the archive')}")


TRUST_CA = (
    "sudo cp YOUR-PROXY-CA.crt /usr/local/share/ca-certificates/ && sudo update-ca-certificates"
)


def as_root(facts: HostFacts, *commands: Command) -> str:
    """One shell line that runs the commands in turn as root."""
    sudo = "" if facts.privilege is Privilege.ROOT else "sudo "
    return " && ".join(f"{sudo}{shlex.join(command)}" for command in commands)


def firewall_fix(facts: HostFacts, bridge: str) -> str:
    """One shell line that allows a bridge's traffic in the firewall of this machine."""
    return as_root(facts, *firewall_commands(facts.firewall, bridge))


def _network_fix(facts: HostFacts) -> str:
    bridge = facts.lxd.bridge if facts.lxd else None
    if bridge and facts.firewall is not Firewall.OPEN and bridge not in facts.forwarded:
        return firewall_fix(facts, bridge)
    if bridge and facts.lxd and not facts.lxd.nat:
        return f"lxc network set {bridge} ipv4.nat=true"
    if not facts.ip_forward:
        return as_root(facts, ("sysctl", "-w", "net.ipv4.ip_forward=1"))
    return f"lxc network show {bridge or 'lxdbr0'}; lxc network info {bridge or 'lxdbr0'}"


def _space_check(name: str, space: Space, needs: int, likes: int, fix: str) -> Check:
    if space.free is None:
        return Check(name, Status.SKIPPED, f"the free space of {space.name} is unknown")
    message = f"{space.free / GIB:.1f} GiB free in {space.name}"
    if space.free < needs * GIB:
        return Check(name, Status.FAILED, f"{message}, a build needs {needs}", fix)
    if space.free < likes * GIB:
        return Check(name, Status.WARNING, f"{message}, {likes} are recommended", fix)
    return Check(name, Status.OK, message)
