"""What an instance on another LXD gets instead of mounts: no directory of this machine is there.

What only an instance reads comes as a stream when it is asked for, or from a directory that the
site shares with the members. The compiler cache, which it writes to, stays there in a volume.
"""

from __future__ import annotations

import tarfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from slurm_factory.constants import INSTANCE_CACHE
from slurm_factory.exceptions import LXDError
from slurm_factory.instances.lxc import LOCAL, lxc, query
from slurm_factory.util.files import file_errors
from slurm_factory.util.process import ATTEMPTS, TRANSIENT, feed

if TYPE_CHECKING:
    from typing import IO

    from slurm_factory.config import Settings
    from slurm_factory.instances.instance import Mount
    from slurm_factory.job import Place
    from slurm_factory.util.process import CommandRunner

VOLUME_PREFIX = "slurm-factory-ccache-"
"""Prefix of the names of volumes made here."""
UNPACK = ("tar", "--extract", "--no-same-owner")
FILE_MODE, DIRECTORY_MODE = 0o644, 0o755
"""As an instance sees mounted files; none of them is a program."""

Signature = tuple[int, int]
"""Size, and time of the last change in nanoseconds."""


@dataclass
class Delivery:
    """Brings files of this machine into one instance.

    Attributes:
        executor: Runs commands in it.
        cache_on_host: The cache directory (host).
        mounts: What it would see on this machine.
        cache: Path of the cache directory in the instance.
        elsewhere: Directories (host) whose content it does not get from here.
        sent: What it has by now.
    """

    executor: CommandRunner
    cache_on_host: Path
    mounts: tuple[Mount, ...]
    cache: PurePosixPath = INSTANCE_CACHE
    elsewhere: tuple[Path, ...] = ()
    sent: dict[Path, Signature] = field(default_factory=dict)

    def bring(self, *paths: Path) -> None:
        """Send files and all in directories (host), as far as the instance has not got them.

        Raises:
            LXDError: LXD refused them.
            OutputError: A file cannot be read.
        """
        with file_errors(self.cache_on_host, "read"):
            signed = {
                path: _signature(path)
                for top in paths
                if not any(top.is_relative_to(place) for place in self.elsewhere)
                for path in _below(top)
            }
        missing = [path for path, signature in signed.items() if self.sent.get(path) != signature]
        if missing:
            self._send(missing)
            self.sent |= {path: signed[path] for path in missing}

    def bring_whole(self) -> None:
        """Send what is new where commands look for files that no parameter names; raises as
        `bring` does."""
        self.bring(*(mount.source for mount in self.mounts if mount.whole))

    def _send(self, paths: Sequence[Path]) -> None:
        def give(stream: IO[bytes]) -> None:
            with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                for path in paths:
                    self._add(path, archive)

        errors: deque[str] = deque()
        for _ in range(ATTEMPTS):
            errors.clear()
            status = feed(self.executor, [*UNPACK, f"--directory={self.cache}"], give, errors)
            if status == 0:
                return
            if not any(TRANSIENT in line for line in errors):
                break
        raise LXDError(
            "Files could not be sent to the instance.",
            details=next(iter(errors), f"tar ended with {status} there."),
            resolution="Run the command again.",
        )

    def _add(self, path: Path, archive: tarfile.TarFile) -> None:
        mount = next(each for each in self.mounts if path.is_relative_to(each.source))
        name = mount.below(self.cache_on_host) / path.relative_to(mount.source)
        about = tarfile.TarInfo(str(name))
        if path.is_dir():
            about.type, about.mode = tarfile.DIRTYPE, DIRECTORY_MODE
            archive.addfile(about)
            return
        with path.open("rb") as file:
            about.size, about.mode = path.stat().st_size, FILE_MODE
            archive.addfile(about, file)


def _below(top: Path) -> Iterator[Path]:
    """A file, or a directory with the directories and plain files in it; no links."""
    if top.is_dir() and not top.is_symlink():
        yield top
        for path in sorted(top.iterdir()):
            yield from _below(path)
    elif top.is_file() and not top.is_symlink():
        yield top


def _signature(path: Path) -> Signature:
    status = path.stat()
    return (0, 0) if path.is_dir() else (status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Devices:
    """The devices of an instance on another LXD, and which mounts they stand for."""

    devices: Mapping[str, Mapping[str, str]]
    elsewhere: tuple[Path, ...]


def devices_for(
    mounts: Iterable[Mount], entry: Mapping[str, Any], place: Place, settings: Settings
) -> Devices:
    """Devices in the place of mounts: volumes to write to, and the directory that a site shares.

    Args:
        mounts: What the instance would see on this machine.
        entry: Of the instance in `lxc list`.
        place: Where it is.
        settings: For the shared directory, and the LXD project.

    Raises:
        LXDError: LXD refused a volume.
    """
    devices: dict[str, Mapping[str, str]] = {}
    elsewhere = []
    for number, mount in enumerate(mounts):
        mount.source.mkdir(parents=True, exist_ok=True)
        below = mount.below(settings.cache_dir)
        if mount.writable:
            pool = _pool(entry)
            device = {"pool": pool, "source": f"{VOLUME_PREFIX}{mount.source.name}"}
            _make_volume(pool, device["source"], place, settings.project_name)
        elif settings.remote_shared_dir and mount.shared and not mount.at:
            device = {"source": str(settings.remote_shared_dir / below), "readonly": "true"}
        else:
            continue
        path = str(INSTANCE_CACHE / below)
        devices[f"mount-{number}"] = {"type": "disk", "path": path, **device}
        elsewhere.append(mount.source)
    return Devices(devices, tuple(elsewhere))


def _pool(entry: Mapping[str, Any]) -> str:
    """The storage pool of an instance."""
    devices = entry["expanded_devices"].values()
    return next(str(d["pool"]) for d in devices if d["type"] == "disk" and d.get("path") == "/")


def _make_volume(pool: str, name: str, place: Place, project: str) -> None:
    """Make a volume on a member, unless it is there."""
    target = ("--target", place.member) if place.clustered else ()
    try:
        lxc("storage", "volume", "create", f"{LOCAL}{pool}", name, *target, project=project)
    except LXDError:
        if not any(
            volume.name == name and volume.location in {place.member, NO_MEMBER}
            for volume in ccache_volumes(project)
        ):
            raise


NO_MEMBER = "none"
"""LXD's location of what is on a server without a cluster."""


@dataclass(frozen=True)
class Volume:
    """A compiler cache on a member."""

    pool: str
    name: str
    location: str
    used: bool

    def __str__(self) -> str:
        where = "" if self.location in {"", NO_MEMBER} else f"@{self.location}"
        return f"{self.pool}/{self.name}{where}"


def ccache_volumes(project: str) -> tuple[Volume, ...]:
    """The compiler caches on all members.

    Raises:
        LXDError: LXD does not answer.
    """
    found = []
    for pool in query("GET", "/1.0/storage-pools"):
        name = PurePosixPath(pool.partition("?")[0]).name
        path = f"/1.0/storage-pools/{name}/volumes/custom?recursion=1&project={quote(project)}"
        # A pool of a member that is gone cannot be asked.
        with suppress(LXDError):
            found += [
                Volume(name, about["name"], about.get("location", ""), bool(about.get("used_by")))
                for about in query("GET", path)
                if about["name"].startswith(VOLUME_PREFIX)
            ]
    return tuple(found)


def delete_volume(volume: str, project: str) -> None:
    """Delete a compiler cache; it may be gone already.

    Args:
        volume: As `str` of a Volume.
        project: LXD project.

    Raises:
        LXDError: LXD refused it.
    """
    path, _, member = volume.partition("@")
    pool, _, name = path.partition("/")
    target = ("--target", member) if member else ()
    try:
        lxc("storage", "volume", "delete", f"{LOCAL}{pool}", name, *target, project=project)
    except LXDError:
        if any(str(each) == volume for each in ccache_volumes(project)):
            raise
