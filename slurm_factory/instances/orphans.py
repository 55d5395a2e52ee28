"""What killed builds leave: running instances, and staged files."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm_factory.constants import BUILD_PREFIX
from slurm_factory.exceptions import LXDError
from slurm_factory.instances.lxc import (
    KEPT_KEY,
    LOCAL,
    LOCK_KEY,
    RUNNING,
    created,
    delete_instance,
    delete_unfinished,
    is_out_of_reach,
    list_instances,
    lxc,
)
from slurm_factory.util.locks import is_running, is_visible
from slurm_factory.workspace import BUILD_ID, forget, killed_builds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter

LAUNCHING = timedelta(minutes=10)
"""Younger instances without a lock count as being launched, or as doctor's."""
BUILD_NAME = re.compile(rf"{BUILD_PREFIX}({BUILD_ID.pattern}|benchmark-\d+)")
"""Names of build instances: a build id (workspace.py), or that of a benchmark."""


def end_killed_builds(settings: Settings, reporter: Reporter) -> None:
    """Remove what killed builds have left, where nothing has to be launched.

    Args:
        settings: Settings of this site.
        reporter: Shows what was removed.
    """
    # LXD may be away, and is not needed.
    with suppress(LXDError):
        if any(killed_builds(settings)):
            remove_orphans(list_instances(settings.project_name), settings, reporter)


def remove_orphans(
    entries: Iterable[Mapping[str, Any]], settings: Settings, reporter: Reporter
) -> None:
    """Delete the instances of killed builds with what these have staged, and report it.

    LXD continues the commands in an instance when lxc dies: a compilation goes on with all
    processors. Nothing in it is evidence, since nothing has failed; the log stays.

    Args:
        entries: Entries of all instances in the project (`lxc.list_instances`).
        settings: For the LXD project and the directory of locks.
        reporter: Shows the deleted instances, and warnings about others.
    """
    there = {entry["name"]: entry for entry in entries}
    # LXD would try for long to reach what is on a member that does not answer.
    away = {name for name, entry in there.items() if is_out_of_reach(entry)}
    killed = {
        name: workspace
        for workspace in killed_builds(settings)
        if (name := f"{BUILD_PREFIX}{workspace.build_id}") not in away
    }
    orphans = [name for name, entry in there.items() if is_orphan(entry, settings.work_dir)]
    for name in dict.fromkeys([*orphans, *killed]):
        # Its build may have kept it since the instances were listed.
        if name in there and (KEPT_KEY in there[name]["config"] or _is_kept(name, settings)):
            if name in killed:
                forget(killed[name])
        elif _is_deleted(name, settings, reporter, listed=name in there) and name in killed:
            forget(killed[name])


def _is_kept(name: str, settings: Settings) -> bool:
    """Whether the build of an instance has kept it on purpose."""
    with suppress(LXDError):
        found = lxc("config", "get", f"{LOCAL}{name}", KEPT_KEY, project=settings.project_name)
        return bool(found.strip())
    return False


def _is_deleted(name: str, settings: Settings, reporter: Reporter, *, listed: bool) -> bool:
    """Delete an instance, which LXD may still be making for a killed build if it is not listed."""
    if not listed:
        return delete_unfinished(name, settings.project_name)
    try:
        delete_instance(name, settings.project_name)
    except LXDError as error:
        reporter.warning(f"{name} still exists, but its build was killed: {error.brief}")
        return False
    reporter.note(f"Deleted {name}, which a killed build has left.")
    return True


def is_orphan(entry: Mapping[str, Any], work: Path) -> bool:
    """Whether an instance is there without its build.

    An instance that its build kept on purpose is not an orphan, and neither is one with an
    unreadable lock file. A killed build leaves its lock file behind. If it was killed before it
    recorded the lock, the name of the instance identifies it, and without any lock its age.

    Args:
        entry: Entry of `lxc list`.
        work: Directory of the locks of this user's builds (host).
    """
    config, name = entry["config"], entry["name"]
    if not name.startswith(BUILD_PREFIX) or KEPT_KEY in config or is_out_of_reach(entry):
        return False
    if LOCK_KEY in config:
        lock = Path(config[LOCK_KEY])
        return is_visible(lock) and lock.exists() and not is_running(lock)
    if not BUILD_NAME.fullmatch(name):
        return False
    lock = work / f"{name.removeprefix(BUILD_PREFIX)}.lock"
    if lock.exists():
        return not is_running(lock)
    return entry["status"] == RUNNING and datetime.now(UTC) - created(entry) >= LAUNCHING
