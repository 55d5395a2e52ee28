"""Running instances of killed builds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm_factory.constants import BUILD_PREFIX
from slurm_factory.exceptions import LXDError
from slurm_factory.instances.lxc import KEPT_KEY, LOCAL, LOCK_KEY, RUNNING, created, lxc
from slurm_factory.util.locks import is_running, is_visible
from slurm_factory.workspace import BUILD_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter

STOP_SECONDS = 60
LAUNCHING = timedelta(minutes=10)
"""Younger instances without a lock count as being launched, or as doctor's."""
BUILD_NAME = re.compile(rf"{BUILD_PREFIX}({BUILD_ID.pattern}|benchmark-\d+)")
"""Names of build instances: a build id (workspace.py), or that of a benchmark."""


def stop_orphans(
    entries: Iterable[Mapping[str, Any]], settings: Settings, reporter: Reporter
) -> None:
    """Stop the instances of killed builds, and report it.

    LXD continues the commands in an instance when lxc dies: a compilation goes on with all
    processors. They are stopped and not deleted, to keep evidence; `clean` deletes them.

    Args:
        entries: Entries of all instances in the project (`lxc.list_instances`).
        settings: For the LXD project and the directory of locks.
        reporter: Shows the stopped instances, and warnings about others.
    """
    for entry in entries:
        if not is_orphan(entry, settings.work_dir):
            continue
        name = entry["name"]
        try:
            lxc(
                "stop",
                "--force",
                f"{LOCAL}{name}",
                project=settings.project_name,
                timeout=STOP_SECONDS,
            )
        except LXDError as error:
            reporter.warning(f"{name} still runs, but its build was killed: {error.brief}")
        else:
            reporter.note(
                f"Stopped {name}, whose build was killed. slurm-factory clean deletes it."
            )


def is_orphan(entry: Mapping[str, Any], work: Path) -> bool:
    """Whether an instance runs without its build.

    An instance that its build kept on purpose is not an orphan, and neither is one with an
    unreadable lock file. A killed build leaves its lock file behind. If it was killed before it
    recorded the lock, the name and the age of the instance identify it.

    Args:
        entry: Entry of `lxc list`.
        work: Directory of the locks of this user's builds (host).
    """
    config, name = entry["config"], entry["name"]
    if entry["status"] != RUNNING or not name.startswith(BUILD_PREFIX) or KEPT_KEY in config:
        return False
    if LOCK_KEY in config:
        lock = Path(config[LOCK_KEY])
        return is_visible(lock) and lock.exists() and not is_running(lock)
    if not BUILD_NAME.fullmatch(name) or datetime.now(UTC) - created(entry) < LAUNCHING:
        return False
    return not is_running(work / f"{name.removeprefix(BUILD_PREFIX)}.lock")
