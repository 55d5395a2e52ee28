"""The setup steps that a machine needs, from its facts, pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from slurm_factory import resources
from slurm_factory.constants import LXD_GROUP
from slurm_factory.exceptions import LXDError
from slurm_factory.host.facts import Account, Daemon, Firewall, Flavor, HostFacts, Lxd
from slurm_factory.host.ids import id_edits
from slurm_factory.host.networks import bridge_address, free_bridge_name, free_subnet
from slurm_factory.host.probe import SUBGID_FILE, SUBUID_FILE, SYSCTL_FILE

INOTIFY_INSTANCES = 1024
"""All containers of one id map share the kernel's default of 128: enough for about 13 of them."""

WAIT_SECONDS = 120
APT_SECONDS = 600
"""Time that the first unattended upgrade of a fresh machine may lock apt."""
GIB = 2**30
LARGEST_POOL_GIB = 100
SMALLEST_POOL_GIB = 5

ETHERNET_MTU = 1500
COPY_ON_WRITE_DRIVERS = ("btrfs", "zfs")

WITHOUT_LXD = (
    "slurm-factory setup --destructive-mode && slurm-factory build --slurm-version …"
    " --deps system --base same --destructive-mode"
)
"""Shell line that builds without LXD."""

NONE_STARTS = 9
"""Exit code of `try_command` where LXD is in order and no instance starts."""

Command = tuple[str, ...]

APT_INSTALL: Command = ("install", "--yes", "--no-install-recommends")

LXC: Command = ("lxc", "--project", "default")
"""The user may have switched to another project (lxc project switch) or another remote."""

WAIT: Command = ("lxd", "waitready", f"--timeout={WAIT_SECONDS}")


class NoInstanceStartsError(LXDError):
    """No instance can start on this machine, even with root's help; builds on the machine itself
    still work.

    Args:
        cause: Why, a part of a sentence.
        brief: What failed, one line.
        resolution: What the user can do, one line.
    """

    def __init__(self, cause: str, brief: str, *, resolution: str) -> None:
        super().__init__(brief, details=f"The cause: {cause}.", resolution=resolution)
        self.cause = cause


@dataclass(frozen=True)
class SetupStep:
    """One step of setup.

    Attributes:
        name: A word or two, stable (it is in the `--json` document).
        needed: Whether the step has to run.
        why: The state (if not needed), or the reason for the change (if needed).
        commands: Commands to run as root, in order.
        required: Whether builds fail without it; other steps may fail (containers cannot change the
            kernel's limits).
    """

    name: str
    needed: bool
    why: str
    commands: tuple[Command, ...] = field(default=())
    required: bool = True


def plan_setup(facts: HostFacts) -> tuple[SetupStep, ...]:
    """All steps, in order.

    Raises:
        NoInstanceStartsError: LXD cannot run on this machine.
        LXDError: This machine cannot be set up: it is neither Debian nor Ubuntu and has no LXD, it
            has Incus instead, or no private subnet is free.
    """
    if facts.obstacle:
        raise NoInstanceStartsError(
            facts.obstacle,
            "LXD cannot run on this machine.",
            resolution=f"Build on the machine itself: {WITHOUT_LXD}",
        )
    if facts.incus and facts.flavor is None:
        raise LXDError(
            "Incus is installed on this machine, but slurm-factory needs LXD.",
            details="craft-providers, which starts the instances, supports only LXD.",
            resolution="Use another machine, or remove Incus first: sudo apt-get remove incus",
        )
    return tuple(step(facts) for step in STEPS)


def packages_step(facts: HostFacts) -> SetupStep:
    """Packages of the distribution for LXD and for making images."""
    missing = facts.missing_packages
    if facts.flavor is Flavor.SNAP or facts.os.id == "ubuntu":
        missing = tuple(package for package in missing if package not in {"lxd", "lxd-client"})
    if not missing:
        return SetupStep("packages", needed=False, why="all installed")
    return _install_step("packages", missing)


def build_packages_step(missing: tuple[str, ...]) -> SetupStep:
    """Packages of the distribution for `--destructive-mode`.

    Args:
        missing: Names of the packages that are not installed.
    """
    if not missing:
        return SetupStep("build-packages", needed=False, why="all installed")
    return _install_step("build-packages", missing)


def install_line(packages: Iterable[str]) -> str:
    """The shell line with which root installs packages."""
    return f"apt-get update && {shlex.join(['apt-get', *APT_INSTALL, *packages])}"


def lxd_step(facts: HostFacts) -> SetupStep:
    """LXD itself: a snap on Ubuntu; on Debian it is one of the packages."""
    if facts.flavor is not None:
        return SetupStep("lxd", needed=False, why=f"installed ({facts.flavor})")
    if facts.os.id == "debian":
        return SetupStep("lxd", needed=False, why="comes with the packages")
    if facts.os.id == "ubuntu":
        return SetupStep(
            "lxd",
            needed=True,
            why="not installed",
            commands=(
                ("groupadd", "--force", "--system", LXD_GROUP),
                ("snap", "wait", "system", "seed.loaded"),
                ("snap", "install", "lxd"),
                WAIT,
            ),
        )
    raise _no_lxd(facts)


def subid_step(facts: HostFacts) -> SetupStep:
    """Lines of subuid(5) and subgid(5) that map a container's root to the invoking user.

    LXD reads its own range when it starts, newuidmap(1) the single ids at each start of a
    container.
    """
    account = facts.account
    edits = [(SUBUID_FILE, edit) for edit in id_edits(facts.subuid, account.uid, facts.uids)]
    edits += [(SUBGID_FILE, edit) for edit in id_edits(facts.subgid, account.gid, facts.gids)]
    if not edits:
        return SetupStep("id-map", needed=False, why="the cache can be mapped to its owner")
    append = _script("host-append-line.sh")
    commands: list[Command] = []
    reasons = []
    for path, (old, new) in edits:
        if old is None:
            reasons.append(f"{path} has no {new}")
            commands.append((*append, new, str(path)))
        else:
            reasons.append(f"{path} gives root ids that do not exist here: {old}")
            commands.append(("sed", "--in-place", f"s/^{old}$/{new}/", str(path)))
    reread = any(not new.endswith(":1") for _, (_, new) in edits)
    restart = restart_commands(facts) if reread and facts.daemon is Daemon.ANSWERING else ()
    return SetupStep("id-map", needed=True, why="; ".join(reasons), commands=(*commands, *restart))


def inotify_step(facts: HostFacts) -> SetupStep:
    """The kernel's limit of inotify instances, now and after the next boot."""
    enough = facts.inotify_instances >= INOTIFY_INSTANCES
    if enough and facts.inotify_kept:
        return SetupStep(
            "inotify", needed=False, why=f"limit is {facts.inotify_instances}", required=False
        )
    limit = max(INOTIFY_INSTANCES, facts.inotify_instances)
    script = _script("host-raise-sysctl.sh")
    return SetupStep(
        "inotify",
        needed=True,
        why=(
            f"{SYSCTL_FILE} is not there"
            if enough
            else f"limit is {facts.inotify_instances}, enough for about 13 containers"
        ),
        commands=((*script, "fs.inotify.max_user_instances", str(limit), str(SYSCTL_FILE)),),
        required=False,
    )


def daemon_step(facts: HostFacts) -> SetupStep:
    """A daemon that answers, and will after the next boot where there is systemd."""
    if facts.daemon is Daemon.ANSWERING:
        return SetupStep("daemon", needed=False, why="answers")
    if facts.daemon is Daemon.SILENT:
        why = "runs but does not answer: it may be starting"
        return SetupStep("daemon", needed=True, why=why, commands=(WAIT,))
    if facts.flavor is Flavor.SNAP or (facts.flavor is None and facts.os.id == "ubuntu"):
        commands: tuple[Command, ...] = (("snap", "start", "--enable", "lxd.daemon"), WAIT)
    elif facts.systemd:
        commands = (("systemctl", "enable", "--now", "lxd.socket", "lxd.service"), WAIT)
    else:
        commands = ((*_script("host-start-lxd.sh"), str(WAIT_SECONDS)),)
    return SetupStep("daemon", needed=True, why="does not run", commands=commands)


def group_step(facts: HostFacts) -> SetupStep:
    """Membership in the group that may use the daemon."""
    account = facts.account
    if account.uid == 0 or account.in_group:
        return SetupStep("group", needed=False, why=f"{account.name} may use LXD")
    return SetupStep(
        "group",
        needed=True,
        why=f"{account.name} is not in the group {LXD_GROUP}, whose members can become root",
        commands=(
            ("groupadd", "--force", "--system", LXD_GROUP),
            ("usermod", "--append", "--groups", LXD_GROUP, account.name),
        ),
    )


def proxy_step(facts: HostFacts) -> SetupStep:
    """The environment's proxies, which the daemon needs to fetch images.

    The command reads them from the environment: its words are in the process list, and in the log
    of sudo(8), for everybody to see.
    """
    have = facts.lxd.proxies if facts.lxd else {}
    keys = {
        "http_proxy": "proxy_http",
        "https_proxy": "proxy_https",
        "no_proxy": "proxy_ignore_hosts",
    }
    wanted = {key: name for name, key in keys.items() if name in facts.proxies and key not in have}
    if not wanted or set(wanted) == {"proxy_ignore_hosts"}:
        return SetupStep("proxy", needed=False, why="none to set")
    setting = ("config", "set", "local:")
    return SetupStep(
        "proxy",
        needed=True,
        why=f"this environment has {' '.join(sorted(wanted))}, LXD does not",
        commands=tuple(
            ("sh", "-c", f'printf %s "${name}" | {shlex.join((*LXC, *setting))} core.{key} -')
            for key, name in wanted.items()
        ),
    )


def storage_step(facts: HostFacts) -> SetupStep:
    """A storage pool, copy-on-write where possible, and a root disk in the default profile."""
    lxd = facts.lxd
    if lxd and lxd.root_pool:
        driver = lxd.pools.get(lxd.root_pool, "unknown driver")
        return SetupStep("storage", needed=False, why=f"pool {lxd.root_pool} ({driver})")
    pool = _best_pool(lxd) if lxd else None
    if pool is None:
        return SetupStep(
            "storage", needed=True, why="LXD has no storage pool", commands=(_create_pool(facts),)
        )
    attach = (*LXC, "profile", "device", "add", "local:default", "root", "disk")
    return SetupStep(
        "storage",
        needed=True,
        why="the default profile has no root disk",
        commands=((*attach, "path=/", f"pool={pool}"),),
    )


def network_step(facts: HostFacts) -> SetupStep:
    """A bridge with address translation, and a network interface in the default profile."""
    lxd = facts.lxd
    if lxd and lxd.nic:
        return SetupStep("network", needed=False, why=f"bridge {lxd.bridge or 'of the machine'}")
    bridge = lxd.networks[0] if lxd and lxd.networks else None
    name = bridge or free_bridge_name(facts.interfaces)
    create = () if bridge else (_create_bridge(facts, name),)
    attach = (
        *(*LXC, "profile", "device", "add", "local:default", "eth0", "nic"),
        *("name=eth0", f"network={name}"),
    )
    why = "the default profile has no network interface" if bridge else "LXD has no bridge"
    return SetupStep("network", needed=True, why=why, commands=(*create, attach))


def firewall_step(facts: HostFacts) -> SetupStep:
    """Forwarding for the bridge if Docker, ufw or firewalld block it."""
    bridge = facts.lxd.bridge if facts.lxd else None
    if facts.firewall is Firewall.OPEN:
        return SetupStep("firewall", needed=False, why="forwards for bridges")
    if facts.lxd and bridge is None:
        return SetupStep(
            "firewall", needed=False, why="LXD does not manage the network: nothing to do"
        )
    if bridge in facts.forwarded:
        return SetupStep("firewall", needed=False, why=f"{facts.firewall} lets {bridge} through")
    return SetupStep(
        "firewall",
        needed=True,
        why=f"a firewall blocks forwarded traffic ({facts.firewall})",
        commands=firewall_commands(facts.firewall, bridge or free_bridge_name(facts.interfaces)),
    )


def firewall_commands(firewall: Firewall, bridge: str) -> tuple[Command, ...]:
    """Commands that allow a bridge's traffic (LXD's doc/howto/network_bridge_firewalld.md).

    Args:
        firewall: The firewall that blocks it.
        bridge: Name of the bridge on the host.
    """
    match firewall:
        case Firewall.OPEN:
            return ()
        case Firewall.UFW:
            return (
                ("ufw", "allow", "in", "on", bridge),
                ("ufw", "route", "allow", "in", "on", bridge),
                ("ufw", "route", "allow", "out", "on", bridge),
            )
        case Firewall.FIREWALLD:
            trust = ("firewall-cmd", "--zone=trusted", f"--change-interface={bridge}")
            return (trust, (*trust, "--permanent"))
        case Firewall.DOCKER | Firewall.OTHER:
            chain = "DOCKER-USER" if firewall is Firewall.DOCKER else "FORWARD"
            return (
                ("iptables", "-I", chain, "-i", bridge, "-j", "ACCEPT"),
                ("iptables", "-I", chain, "-o", bridge, "-j", "ACCEPT"),
            )


STEPS: tuple[Callable[[HostFacts], SetupStep], ...] = (
    packages_step,
    lxd_step,
    subid_step,
    inotify_step,
    daemon_step,
    group_step,
    proxy_step,
    storage_step,
    network_step,
    firewall_step,
)


def restart_commands(facts: HostFacts) -> tuple[Command, ...]:
    """The commands that restart the daemon; instances keep running."""
    if facts.flavor is Flavor.SNAP:
        return (("snap", "restart", "lxd.daemon"), WAIT)
    if facts.systemd:
        return (("systemctl", "restart", "lxd.service"), WAIT)
    return ((*_script("host-start-lxd.sh"), str(WAIT_SECONDS), "replace"),)


def _install_step(name: str, missing: tuple[str, ...]) -> SetupStep:
    apt_get = (*_script("host-apt-get.sh"), str(APT_SECONDS))
    return SetupStep(
        name,
        needed=True,
        why=f"not installed: {' '.join(missing)}",
        commands=((*apt_get, "update"), (*apt_get, *APT_INSTALL, *missing)),
    )


def _script(name: str) -> Command:
    # Some installers of wheels drop the executable bit.
    return ("bash", str(resources.host_script(name)))


def try_command(name: str, account: Account) -> Command:
    """The command that starts an instance without an image, and deletes it.

    Args:
        name: Name of the instance and of its image.
        account: The account on the host that the instance's root maps to.
    """
    return (*_script("host-try-instance.sh"), name, str(account.uid), str(account.gid))


def _best_pool(lxd: Lxd) -> str | None:
    ranked = sorted(lxd.pools, key=lambda name: lxd.pools[name] not in COPY_ON_WRITE_DRIVERS)
    return ranked[0] if ranked else None


def _create_pool(facts: HostFacts) -> Command:
    script = _script("host-create-pool.sh")
    supported = facts.lxd.drivers if facts.lxd else COPY_ON_WRITE_DRIVERS
    drivers = [driver for driver in COPY_ON_WRITE_DRIVERS if driver in supported]
    if not facts.loop_devices:
        drivers = []
    gib = min(max(facts.free_bytes // GIB // 2, SMALLEST_POOL_GIB), LARGEST_POOL_GIB)
    return (*script, f"{gib}GiB", *drivers, "dir")


def _create_bridge(facts: HostFacts, name: str) -> Command:
    subnet = free_subnet(facts.taken)
    if subnet is None:
        raise LXDError(
            "No private IPv4 subnet is free for the bridge of the instances.",
            details="Every candidate overlaps with a route or an address of this machine.",
            resolution=f"Choose one: lxc network create {name} ipv4.address=A.B.C.D/24",
        )
    settings = [f"ipv4.address={bridge_address(subnet)}", "ipv4.nat=true", "ipv6.address=none"]
    if facts.uplink_mtu and facts.uplink_mtu < ETHERNET_MTU:
        settings.append(f"bridge.mtu={facts.uplink_mtu}")
    return (*LXC, "network", "create", f"local:{name}", *settings)


def _no_lxd(facts: HostFacts) -> LXDError:
    return LXDError(
        f"slurm-factory cannot install LXD on {facts.os.pretty_name}.",
        details="It supports Debian's packages and Ubuntu's snap.",
        resolution="Install LXD as described at https://documentation.ubuntu.com/lxd, then run:"
        " slurm-factory setup",
    )
