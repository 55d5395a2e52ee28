"""The members of an LXD cluster: which one a build runs on, and whether it is still there."""

from __future__ import annotations

import os
import platform
import signal
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from slurm_factory.exceptions import ConfigurationError, LXDError
from slurm_factory.instances.lxc import (
    LOCK_KEY,
    delete_quietly,
    query,
)
from slurm_factory.instances.remote import PORT, Address, Remote, member_lost, open_now
from slurm_factory.job import Place
from slurm_factory.util.hints import nearest, quoted
from slurm_factory.util.signals import signals_held

if TYPE_CHECKING:
    from slurm_factory.workspace import Workspace

ONLINE, OFFLINE = "Online", "Offline"
"""LXD's status of a member."""
GROUP = "@"
"""Before the name of a group of members (lxc init --target)."""
POLL_SECONDS = 2.0
ASK_SECONDS = 10.0
SILENT_SECONDS = 60.0
"""After that time without any answer from the remote, what runs there counts as lost."""
VERDICT_SECONDS = 90.0
"""In that time LXD must have noticed that a member has gone (cluster.offline_threshold is 20)."""
KILL_SECONDS = 0.2
CLIENT = "lxc"


@dataclass(frozen=True)
class Member:
    """A member of a cluster, or the one server that is none.

    Attributes:
        name: Of the member.
        architecture: As uname(1) names it.
        status: LXD's word for it.
        message: What LXD says about it.
        groups: Groups of members that it belongs to.
        address: Where its API is; None for a server without a cluster.
    """

    name: str
    architecture: str
    status: str
    message: str = ""
    groups: tuple[str, ...] = ()
    address: Address | None = None


def members_of(remote: Remote) -> tuple[Member, ...]:
    """All members of a remote.

    Raises:
        LXDError: It does not answer.
    """
    environment = remote.ask("/1.0")["environment"]
    if not environment.get("server_clustered"):
        name, architecture = environment["server_name"], environment["kernel_architecture"]
        return (Member(str(name), str(architecture), ONLINE),)
    return tuple(map(_member, remote.ask("/1.0/cluster/members?recursion=1")))


def _member(about: Mapping[str, Any]) -> Member:
    url = urlsplit(str(about["url"]))
    return Member(
        str(about["server_name"]),
        str(about["architecture"]),
        str(about["status"]),
        str(about.get("message") or ""),
        tuple(map(str, about.get("groups") or ())),
        Address(url.hostname or "", url.port or PORT),
    )


def targeted(remote: Remote, target: str) -> tuple[Member, ...]:
    """The members that a build may run on.

    Args:
        remote: The cluster.
        target: A member, `@` and a group, or empty for all.

    Raises:
        ConfigurationError: There is no such member or group.
        LXDError: None of them is online.
    """
    members = members_of(remote)
    if target and members[0].address is None:
        raise ConfigurationError(
            f"--target: the remote {remote.name} is no cluster.",
            details=f"It is one server, {members[0].name}.",
            resolution="Omit --target.",
        )
    group = target.removeprefix(GROUP)
    if target.startswith(GROUP):
        found = [member for member in members if group in member.groups]
        names = [f"{GROUP}{name}" for member in members for name in member.groups]
    else:
        found = [member for member in members if target in {"", member.name}]
        names = [member.name for member in members]
    if not found:
        near = nearest(target, names)
        raise ConfigurationError(
            f"--target: {remote.name} has no member or group {quoted(target)}.",
            details=f"Did you mean {near}?" if near else f"It has {', '.join(sorted(set(names)))}.",
            resolution=f"`lxc cluster list {remote.name}:` shows its members and their groups.",
        )
    online = tuple(member for member in found if member.status == ONLINE)
    if not online:
        states = ", ".join(f"{member.name} is {member.status.lower()}" for member in found)
        raise LXDError(
            f"No member of {remote.name} can take the build.",
            details=f"{states}.",
            resolution=f"Run `slurm-factory doctor --remote {remote.name}`.",
        )
    return online


def architecture_there(remote: Remote, target: str, asked: str) -> str:
    """Architecture of the machine that will compile.

    Args:
        remote: Where.
        target: As for `targeted`.
        asked: Architecture of the package; empty: the one of this machine, if it is there.
    """
    return choose_architecture(
        Counter(each.architecture for each in targeted(remote, target)), asked
    )


def choose_architecture(machines: Mapping[str, int], asked: str) -> str:
    """Architecture of the machine that compiles a package.

    Args:
        machines: How many machines there are of each.
        asked: Architecture of the package; empty: the one of this machine, if it is there.
    """
    wanted = asked or platform.machine()
    return wanted if wanted in machines else max(machines, key=lambda name: machines[name])


@dataclass(frozen=True)
class Resources:
    """What a member has: CPUs, and bytes of memory; `used` ones are those of its processes."""

    cpus: int
    memory: int
    used: int


def resources_of(remote: Remote, member: Member) -> Resources:
    """What a member has.

    Raises:
        LXDError: It does not answer.
    """
    where = f"?target={quote(member.name)}" if member.address else ""
    about = remote.ask(f"/1.0/resources{where}", seconds=ASK_SECONDS)
    memory = about["memory"]
    return Resources(int(about["cpu"]["total"]), int(memory["total"]), int(memory.get("used") or 0))


class Placement:
    """The place of a build, which LXD counts as taken until `release` is called."""

    def __init__(self, place: Place, reserved: str = "", project: str = "") -> None:
        self.place = place
        self._reserved, self._project = reserved, project

    def release(self) -> None:
        """Let go of the place: the instance of the build is there."""
        if self._reserved:
            with signals_held():
                delete_quietly(self._reserved, self._project)
            self._reserved = ""


@contextmanager
def placed(
    target: str, architecture: str, workspace: Workspace, name: str
) -> Iterator[Placement | None]:
    """The machine of the open remote on which a build runs; None if no remote is open.

    The member must be known before its base can be chosen, and only LXD knows where it places an
    instance: it places an empty one. That one stays until the build's own is there, so that builds
    that begin at the same time go to different members.

    Args:
        target: As for `targeted`.
        architecture: The one that the member must have.
        workspace: Of the build.
        name: Of the empty instance.

    Raises:
        ConfigurationError: There is no such member or group.
        LXDError: LXD has no place, or does not answer.
    """
    remote = open_now()
    if remote is None:
        yield None
        return
    wish = (target, architecture)
    before = _candidates(remote, wish)
    try:
        placement = _placement(remote, before, wish, workspace, name)
    except LXDError:
        if not _has_given_up_members(remote, before.values()):
            raise
        remote.lost = ""
        placement = _placement(remote, _candidates(remote, wish), wish, workspace, name)
    try:
        yield placement
    finally:
        placement.release()


def _candidates(remote: Remote, wish: tuple[str, str]) -> dict[str, Member]:
    """The members on which a build may be placed, by name."""
    target, architecture = wish
    members = {
        member.name: member
        for member in targeted(remote, target)
        if member.architecture == architecture
    }
    if not members:
        raise LXDError(
            f"No member of {remote.name} for {architecture} is online.",
            details="There was one when the build was planned.",
            resolution=f"Run `slurm-factory doctor --remote {remote.name}`.",
        )
    return members


def _has_given_up_members(remote: Remote, before: Collection[Member]) -> bool:
    """Whether members are offline now that LXD has counted on.

    A member that has just gone stays online for LXD for some seconds, and LXD places builds there.
    The cluster may not answer for a moment, too. Where no member can be reached from here, the
    network tells nothing.
    """
    deadline = time.monotonic() + VERDICT_SECONDS
    reachable = any(remote.answers(address) for address in remote.members.values())
    silent = any(each.address and not remote.answers(each.address) for each in before)
    while True:
        with suppress(LXDError):
            now = {member.name for member in members_of(remote) if member.status == ONLINE}
            if not {member.name for member in before} <= now:
                return True
        if not (silent and reachable) or time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)


def _placement(
    remote: Remote,
    members: Mapping[str, Member],
    wish: tuple[str, str],
    workspace: Workspace,
    name: str,
) -> Placement:
    if len(members) == 1:
        [member] = members.values()
        return Placement(_place(remote, member))
    target, architecture = wish
    project = workspace.settings.project_name
    where = f"&target={quote(target)}" if target else ""
    try:
        query(
            "POST",
            f"/1.0/instances?project={quote(project)}{where}",
            {
                "name": name,
                "architecture": architecture,
                "source": {"type": "none"},
                "config": {LOCK_KEY: str(workspace.lock)},
            },
        )
        about = query("GET", f"/1.0/instances/{name}?project={quote(project)}")
        chosen = _chosen(str(about["location"]), members, remote, architecture)
        return Placement(_place(remote, chosen), name, project)
    except BaseException:
        with signals_held():
            delete_quietly(name, project)
        raise


def _chosen(name: str, members: Mapping[str, Member], remote: Remote, architecture: str) -> Member:
    if name not in members:
        raise LXDError(
            f"{remote.name} has placed the build on {name}.",
            details=f"That member is not one for {architecture}, or has just come.",
            resolution="Name a member with --target.",
        )
    return members[name]


def _place(remote: Remote, member: Member) -> Place:
    place = Place(member.name, member.architecture, 0, 0, clustered=member.address is not None)
    with watched(place):
        resources = resources_of(remote, member)
    if member.address and remote.answers(member.address):
        # What goes to it and comes from it then takes no way round.
        remote.prefer(member.address)
    return replace(place, cpus=resources.cpus, memory=resources.memory)


class _Watchdog(threading.Thread):
    """Looks whether a member is there, and ends the lxc that hang when it is not.

    A client of a member that is gone waits for ever, and ignores SIGTERM.
    """

    def __init__(self, remote: Remote, place: Place) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._remote, self._place = remote, place
        self._own = remote.members.get(place.member)
        self._reachable = self._own is not None and remote.answers(self._own)
        self._answered = time.monotonic()
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            if self._is_lost():
                self._remote.lost = self._place.member
                break
        # Whatever was begun in between hangs as well.
        while self._remote.lost and not self._ended.wait(KILL_SECONDS):
            kill_clients()

    def end(self) -> None:
        self._ended.set()
        self.join()

    def look(self) -> bool:
        """Whether the member is gone, after something has failed that may come from it."""
        gone = self._reachable and self._own and not self._remote.answers(self._own)
        if not self._remote.lost and (gone or self._is_lost()):
            self._remote.lost = self._place.member
        return bool(self._remote.lost)

    def _is_lost(self) -> bool:
        try:
            status = self._status()
        except LXDError:
            return time.monotonic() - self._answered > SILENT_SECONDS
        self._answered = time.monotonic()
        return status == OFFLINE

    def _status(self) -> str:
        if not self._place.clustered:
            self._remote.ask("/1.0", seconds=ASK_SECONDS)
            return ONLINE
        # Its own word would not come.
        others = len(self._remote.addresses) > 1
        without = (self._own,) if self._own and others else ()
        path = f"/1.0/cluster/members/{quote(self._place.member)}"
        about = self._remote.ask(path, without=without, seconds=ASK_SECONDS)
        return str(about["status"])


@contextmanager
def watched(place: Place | None) -> Iterator[None]:
    """End what runs on a member that goes away.

    Raises:
        MemberLostError: It is gone, and the block has failed.
    """
    remote = open_now()
    if place is None or remote is None:
        yield
        return
    watchdog = _Watchdog(remote, place)
    watchdog.start()
    try:
        yield
    except LXDError as error:
        if watchdog.look():
            raise member_lost(remote) from error
        raise
    except Exception as error:
        if remote.lost:
            raise member_lost(remote) from error
        raise
    finally:
        # What is cleaned up later does not wait for the member either.
        watchdog.end()


def kill_clients() -> None:
    """Kill every lxc that this process has started, and that has not ended."""
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            descriptor = os.pidfd_open(int(directory.name))
            try:
                name, _, rest = (directory / "stat").read_text().partition("(")[2].rpartition(")")
                state, parent = rest.split()[:2]
                if name == CLIENT and int(parent) == os.getpid() and state != "Z":
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            finally:
                os.close(descriptor)
