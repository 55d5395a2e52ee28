"""Problems of another LXD that would stop builds there, and the commands that fix them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from slurm_factory.exceptions import SlurmFactoryError
from slurm_factory.host.checks import (
    POOL_LIKES_GIB,
    POOL_NEEDS_GIB,
    REMOTE_CHECKS,
    Check,
    Status,
)
from slurm_factory.host.doctor import cache_check, space_checks_here
from slurm_factory.instances.members import ONLINE, Member, members_of
from slurm_factory.instances.remote import Remote, open_remote

if TYPE_CHECKING:
    from slurm_factory.config import Settings

EXTENSIONS = ("projects", "resources_v2", "container_push_target")
CLUSTER_EXTENSIONS = ("clustering", "clustering_groups")
"""What this program needs of LXD's API (LXD's api-extensions.md)."""
CREATED = "Created"
GIB = 2**30


def examine(settings: Settings) -> tuple[Check, ...]:
    """Check the remote of the settings for everything that stops builds on it.

    Args:
        settings: For the remote, the LXD project and the cache directory of this machine.
    """
    here = (cache_check(settings), *space_checks_here(settings.cache_dir))
    try:
        with open_remote(settings.remote or "", settings.remotes_dir) as remote:
            return (*_examine(remote, settings), *here)
    except SlurmFactoryError as error:
        first = Check(
            REMOTE_CHECKS[0],
            Status.FAILED,
            f"{error.brief} {error.details}".strip(),
            error.resolution,
        )
        skipped = [
            Check(name, Status.SKIPPED, "the remote does not answer") for name in REMOTE_CHECKS[1:]
        ]
        return (first, *skipped, *here)


def _examine(remote: Remote, settings: Settings) -> Iterator[Check]:
    about, members = remote.ask("/1.0"), members_of(remote)
    environment = about["environment"]
    kind = f"a cluster of {len(members)}" if remote.members else "one server"
    message = f"LXD {environment['server_version']}, {kind}"
    yield Check("remote", Status.OK, message)
    yield members_check(remote.name, members)
    online = [member for member in members if member.status == ONLINE]
    yield versions_check({m.name: _version(remote, m) for m in online})
    yield extensions_check(about["api_extensions"], clustered=bool(remote.members))
    devices = _profile_devices(remote, settings.project_name)
    yield profile_check(devices, remote.name)
    pool, network = _named(devices, "disk", "pool"), _named(devices, "nic", "network")
    yield _where_check("remote-storage", "storage pool", pool, remote, online)
    yield _where_check("remote-network", "network", network, remote, online)
    yield space_check(remote.name, {m.name: _free(remote, m, pool) for m in online if pool})


def members_check(remote: str, members: Iterable[Member]) -> Check:
    """All members take instances."""
    name = "remote-members"
    away = [member for member in members if member.status != ONLINE]
    if not away:
        return Check(name, Status.OK, ", ".join(sorted(member.name for member in members)))
    states = "; ".join(f"{m.name} is {m.status.lower()} ({m.message})" for m in away)
    evacuated = [member.name for member in away if member.status == "Evacuated"]
    fix = f"lxc cluster list {remote}:"
    if evacuated:
        fix = f"lxc cluster restore {remote}:{evacuated[0]}"
    usable = any(member.status == ONLINE for member in members)
    return Check(name, Status.WARNING if usable else Status.FAILED, states, fix)


def versions_check(versions: Mapping[str, str]) -> Check:
    """All members run the same LXD; with a newer one among them, a cluster blocks."""
    name = "remote-versions"
    different = sorted(set(versions.values()))
    if len(different) <= 1:
        return Check(name, Status.OK, f"LXD {''.join(different)} everywhere")
    listed = ", ".join(f"{member}: {version}" for member, version in sorted(versions.items()))
    return Check(name, Status.WARNING, f"members run different versions: {listed}")


def extensions_check(known: Iterable[str], *, clustered: bool) -> Check:
    """LXD is new enough."""
    name = "remote-api"
    needed = {*EXTENSIONS, *(CLUSTER_EXTENSIONS if clustered else ())}
    missing = sorted(needed - {*known})
    if not missing:
        return Check(name, Status.OK, "LXD has what builds need of its API")
    return Check(name, Status.FAILED, f"LXD is too old: it has no {', '.join(missing)}")


def profile_check(devices: Mapping[str, Mapping[str, str]], remote: str) -> Check:
    """Instances get a disk and a network."""
    name = "remote-profile"
    kinds = {device["type"] for device in devices.values()}
    missing = [word for kind, word in (("disk", "disk"), ("nic", "network")) if kind not in kinds]
    if not missing:
        return Check(name, Status.OK, "instances get a disk and a network")
    message = f"the default profile gives instances no {' and no '.join(missing)}"
    fix = f"lxc profile edit {remote}:default"
    return Check(name, Status.FAILED, message, fix)


def space_check(remote: str, free: Mapping[str, int | None]) -> Check:
    """Room for instances on each member."""
    name = "remote-space"
    known = {member: room for member, room in free.items() if room is not None}
    if not known:
        return Check(name, Status.SKIPPED, "the storage pool does not say")
    least = min(known, key=lambda member: known[member])
    message = f"{known[least] / GIB:.1f} GiB free in the storage pool of {least}"
    if known[least] >= POOL_LIKES_GIB * GIB:
        return Check(name, Status.OK, f"{message}, the fullest")
    status = Status.WARNING if known[least] >= POOL_NEEDS_GIB * GIB else Status.FAILED
    return Check(name, status, message, f"slurm-factory clean --full --remote {remote}")


def _where_check(
    name: str, what: str, wanted: str, remote: Remote, online: Iterable[Member]
) -> Check:
    """A storage pool or a network is there on every member."""
    if not wanted:
        return Check(name, Status.SKIPPED, f"the default profile names no {what}")
    kind = "storage-pools" if what == "storage pool" else "networks"
    about = remote.ask(f"/1.0/{kind}/{quote(wanted)}")
    if "managed" in about and not about["managed"]:
        return Check(name, Status.OK, f"{wanted}, which LXD does not manage")
    there = about.get("locations") or ()
    missing = sorted(m.name for m in online if m.address and m.name not in there)
    if about.get("status", CREATED) == CREATED and not missing:
        return Check(name, Status.OK, wanted)
    where = f"missing on {', '.join(missing)}" if missing else str(about["status"]).lower()
    command = "storage" if what == "storage pool" else "network"
    fix = f"lxc {command} show {remote.name}:{wanted}"
    return Check(name, Status.FAILED, f"the {what} {wanted} is {where}", fix)


def _profile_devices(remote: Remote, project: str) -> Mapping[str, Mapping[str, str]]:
    """Devices of the profile that instances get; builds copy it from the default project."""
    projects = remote.ask("/1.0/projects?recursion=1")
    name = project if any(each["name"] == project for each in projects) else "default"
    profile = remote.ask(f"/1.0/profiles/default?project={quote(name)}")
    devices: dict[str, dict[str, str]] = profile.get("devices") or {}
    return devices


def _named(devices: Mapping[str, Mapping[str, str]], kind: str, key: str) -> str:
    return next((d[key] for d in devices.values() if d["type"] == kind and key in d), "")


def _version(remote: Remote, member: Member) -> str:
    where = f"?target={quote(member.name)}" if member.address else ""
    return str(remote.ask(f"/1.0{where}")["environment"]["server_version"])


def _free(remote: Remote, member: Member, pool: str) -> int | None:
    where = f"?target={quote(member.name)}" if member.address else ""
    about: Any = remote.ask(f"/1.0/storage-pools/{quote(pool)}/resources{where}")
    space = about.get("space") or {}
    total = int(space.get("total", 0))
    return total - int(space.get("used", 0)) if total else None
