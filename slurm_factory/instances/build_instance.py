"""The instance of one build: launched, configured, and deleted afterwards."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from slurm_factory.constants import INSTANCE_BUILD, INSTANCE_CACHE
from slurm_factory.exceptions import (
    ConfigurationError,
    DownloadError,
    InterruptedBuildError,
    LXDError,
    OutputError,
    SlurmFactoryError,
    VerificationError,
)
from slurm_factory.instances.delivery import Delivery, devices_for
from slurm_factory.instances.instance import ENVIRONMENT, Instance, enter_command
from slurm_factory.instances.launch import Launch, launch_copy, provider_errors
from slurm_factory.instances.lxc import (
    KEPT_KEY,
    LOCAL,
    LOCK_KEY,
    RUNNING,
    delete_instance,
    delete_quietly,
    delete_unfinished,
    instance_status,
    list_instances,
    lxc,
    patch_instance,
)
from slurm_factory.instances.members import watched
from slurm_factory.instances.network import both_spellings
from slurm_factory.instances.remote import MemberLostError
from slurm_factory.util.signals import signals_held
from slurm_factory.workspace import note_instance

if TYPE_CHECKING:
    from pathlib import Path

    from craft_providers import lxd

    from slurm_factory.config import Settings
    from slurm_factory.instances.instance import Mount
    from slurm_factory.output.reporter import Reporter

LXD_FALSE = {"", "false", "0", "no", "off"}
"""LXD keeps values as they were given (shared/util.go, `IsFalse`)."""
MEMORY_SHARE = "90%"
"""Limit of memory without a setting: the build ends before this machine does."""
NOTHING_TO_SEE = (ConfigurationError, DownloadError, LXDError, OutputError)
"""Failures for which the instance has no evidence: with an LXDError it is gone or does not run,
and on a full disk it would take up space."""


@contextmanager
def lxd_instance(launch: Launch, settings: Settings, reporter: Reporter) -> Iterator[Instance]:
    """An instance copied from the cached base, deleted afterwards.

    After a failure with evidence in it, the instance is kept, and the error shows how to enter it;
    otherwise it is deleted unless `launch.keep` is set.

    Args:
        launch: What to launch.
        settings: Settings of this site.
        reporter: Shows progress, and a warning if the instance cannot be deleted.

    Raises:
        LXDError: Cannot get an instance.
        ConfigurationError: Instances cannot use a proxy of the environment.
        OSError: Cannot write to the directory of images.
    """
    try:
        with watched(launch.place), _launched(launch, settings, reporter) as instance:
            yield instance
    except MemberLostError:
        # It is there again when the member is.
        note_instance(launch.lock)
        raise


@contextmanager
def _launched(launch: Launch, settings: Settings, reporter: Reporter) -> Iterator[Instance]:
    try:
        instance = _equip(launch, settings, reporter, *launch_copy(launch, settings, reporter))
    except BaseException:
        with signals_held():
            if not delete_unfinished(launch.name, settings.project_name):
                note_instance(launch.lock)
        raise
    try:
        yield instance
    except SlurmFactoryError as error:
        if isinstance(error, VerificationError):
            # What ran in it may be hostile: it may be looked at, and runs no longer.
            with suppress(LXDError):
                lxc("stop", "--force", f"{LOCAL}{launch.name}", project=settings.project_name)
        vain = isinstance(error, NOTHING_TO_SEE) and not launch.keep
        notice = _break_off(launch, settings) if vain else _kept_notice(launch, settings)
        error.resolution = f"{error.resolution} {notice}".strip()
        raise
    except KeyboardInterrupt as error:
        left = _break_off(launch, settings)
        if left:
            raise InterruptedBuildError("Interrupted.", resolution=left) from error
        raise
    except BaseException:
        _break_off(launch, settings)
        raise
    if launch.keep:
        with suppress(LXDError):
            _mark_kept(launch.name, settings.project_name)
    else:
        try:
            with signals_held():
                delete_instance(launch.name, settings.project_name)
        except LXDError as error:
            # The work is finished anyway.
            reporter.warning(f"{_left(launch)} {error.brief}")


def _equip(
    launch: Launch,
    settings: Settings,
    reporter: Reporter,
    executor: lxd.LXDInstance,
    record: Mapping[str, Any],
) -> Instance:
    """Set the limits, and leave no other devices than disk, network and what the build needs."""
    entry = _entry(launch.name, settings.project_name)
    delivery = None
    if launch.place:
        _require_nobody(entry)
        there = devices_for(launch.mounts, entry, launch.place, settings)
        devices = there.devices
        delivery = Delivery(executor, settings.cache_dir, launch.mounts, elsewhere=there.elsewhere)
    else:
        _prepare(launch.mounts, entry)
        devices = {
            f"mount-{number}": _device(mount, settings)
            for number, mount in enumerate(launch.mounts)
        }
    _confine(entry, settings, launch.lock, devices, offline=launch.offline)
    if delivery:
        with provider_errors():
            made = ["mkdir", "--parents", str(delivery.cache)]
            executor.execute_run(made, check=True, capture_output=True)
    executor.default_command_environment.update(ENVIRONMENT)
    return Instance(
        name=launch.name,
        executor=executor,
        cache_on_host=settings.cache_dir,
        cache=INSTANCE_CACHE,
        build_dir=INSTANCE_BUILD,
        mounts=launch.mounts,
        record=record,
        project=settings.project_name,
        reporter=reporter,
        secrets=both_spellings(os.environ),
        delivery=delivery,
    )


def confine(name: str, settings: Settings, lock: Path, *, offline: bool) -> None:
    """Set the limits of an instance, and leave it no other devices than disk and network.

    Args:
        name: Name of the instance, which need not run.
        settings: For the LXD project and the limits.
        lock: Lock file (host), locked while it is used.
        offline: It gets no network either.

    Raises:
        LXDError: It could take over this machine, or LXD does not answer.
    """
    _confine(_entry(name, settings.project_name), settings, lock, {}, offline=offline)


def _confine(
    entry: Mapping[str, Any],
    settings: Settings,
    lock: Path,
    mounts: Mapping[str, Mapping[str, str]],
    *,
    offline: bool,
) -> None:
    project = settings.project_name
    _require_unprivileged(entry, project)
    config = {
        "limits.cpu": settings.cpu_limit,
        "limits.memory": settings.memory_limit or MEMORY_SHARE,
        "limits.processes": settings.process_limit,
        LOCK_KEY: lock,
    }
    devices = {
        name: {"type": "none"}
        for name, device in entry["expanded_devices"].items()
        if not _is_needed(device, offline=offline)
    }
    patch_instance(
        entry["name"],
        project,
        config={key: str(value) for key, value in config.items() if value is not None},
        devices={**devices, **mounts},
    )


def _entry(name: str, project: str) -> Mapping[str, Any]:
    entries = [entry for entry in list_instances(project) if entry["name"] == name]
    if not entries:
        raise LXDError(
            f"The instance {name} was deleted in the meantime.",
            details="Another program or user has deleted it.",
            resolution="Run the command again.",
        )
    return entries[0]


def _require_unprivileged(entry: Mapping[str, Any], project: str) -> None:
    for key in ("security.privileged", "security.nesting"):
        if str(entry["expanded_config"].get(key, "")).lower() not in LXD_FALSE:
            raise LXDError(
                f"The instances of the LXD project {project} have {key}.",
                details="Code in such an instance may take over this machine.",
                resolution="Take it out of the profile: lxc profile unset --project"
                f" {project} {LOCAL}default {key}",
            )


def _is_needed(device: Mapping[str, str], *, offline: bool) -> bool:
    """Whether a device of the profile is the disk of the instance, or a network that it uses."""
    if device["type"] == "nic":
        return not offline
    return device["type"] == "disk" and device.get("path") == "/"


def _device(mount: Mount, settings: Settings) -> dict[str, str]:
    """A mount in LXD's notation. LXD 5.0 ignores the options for directories, others need not."""
    return {
        "type": "disk",
        "source": str(mount.source),
        "path": str(INSTANCE_CACHE / mount.below(settings.cache_dir)),
        "readonly": "false" if mount.writable else "true",
        "raw.mount.options": "nosuid,nodev",
        # A kept instance starts again when the build's own files are gone.
        "required": "false",
    }


def _prepare(mounts: Sequence[Mount], entry: Mapping[str, Any]) -> None:
    """Make the directories; those to write to belong to the instance's root.

    That is this user, or, where root builds, an id that nobody has.
    """
    owner, group = _require_nobody(entry)
    for mount in mounts:
        mount.source.mkdir(parents=True, exist_ok=True)
        if not mount.writable:
            if os.getuid() == 0:
                _let_read(mount.source)
            continue
        if mount.source.stat().st_uid != owner:
            # Only where root builds: the directory is new, or LXD's map has changed.
            _give(mount.source, owner, group)


def _require_nobody(entry: Mapping[str, Any]) -> tuple[int, int]:
    """The ids of the machine that root of an instance has, none of whose users is root there.

    Raises:
        LXDError: One is.
    """
    rows = json.loads(entry["config"].get("volatile.last_state.idmap") or "[]")
    owner, group = (
        next((row["Hostid"] for row in rows if row[kind] and row["Nsid"] == 0), 0)
        for kind in ("Isuid", "Isgid")
    )
    if 0 in {owner, group, *(row["Hostid"] for row in rows)}:
        raise LXDError(
            "A user of the instance would be root of this machine.",
            details="LXD's map of ids contains the id 0, which a profile or /etc/subuid may ask"
            " for, or there is no map.",
            resolution=f"Take raw.idmap out of the profile: lxc profile show {LOCAL}default",
        )
    return owner, group


def _let_read(directory: Path) -> None:
    """Let an id that nobody has read all in a directory (host), without following links.

    It lies in the cache directory, which only root can enter.
    """
    for _, _, files, descriptor in os.fwalk(directory):
        os.fchmod(descriptor, os.fstat(descriptor).st_mode | 0o055)
        for name in files:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and not status.st_mode & 0o004:
                os.chmod(name, status.st_mode | 0o044, dir_fd=descriptor)


def _give(directory: Path, owner: int, group: int) -> None:
    """Change the owner of a directory (host) and all in it, without following links."""
    for _, directories, files, descriptor in os.fwalk(directory):
        os.fchown(descriptor, owner, group)
        for name in (*directories, *files):
            os.chown(name, owner, group, dir_fd=descriptor, follow_symlinks=False)


def _kept_notice(launch: Launch, settings: Settings) -> str:
    """The message for the user about a kept instance; empty if there is none."""
    project = settings.project_name
    try:
        status = instance_status(launch.name, project)
    except LXDError:
        return (
            f"The instance {launch.name} may still exist; run `slurm-factory clean` when LXD runs."
        )
    if status is None:
        return ""
    # On a full disk, LXD sets the mark and fails to write its copy into the instance.
    with suppress(LXDError):
        _mark_kept(launch.name, project)
    if status != RUNNING:
        return f"The instance is kept: lxc --project {project} start {LOCAL}{launch.name}"
    return f"The instance is kept: {enter_command(launch.name, project)}"


def _mark_kept(name: str, project: str) -> None:
    """Otherwise the next build would treat it as the instance of a killed build."""
    lxc("config", "set", f"{LOCAL}{name}", f"{KEPT_KEY}=yes", project=project)


def _break_off(launch: Launch, settings: Settings) -> str:
    """End everything in the instance; only deleting or restarting it does so reliably.

    Returns:
        The message for the user about a remaining instance; empty if there is none.
    """
    with signals_held():
        if launch.keep:
            with suppress(LXDError):
                lxc("restart", "--force", f"{LOCAL}{launch.name}", project=settings.project_name)
            return _kept_notice(launch, settings)
        if delete_quietly(launch.name, settings.project_name):
            return ""
        return _left(launch)


def _left(launch: Launch) -> str:
    return f"The instance {launch.name} could not be deleted; run `slurm-factory clean`."
