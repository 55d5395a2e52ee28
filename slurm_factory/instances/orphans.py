"""Instances whose builds were killed, and in which everything goes on as if nobody had."""

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
"""So long an instance without a lock counts as one that is being launched, or looked from."""
BUILD_NAME = re.compile(rf"{BUILD_PREFIX}({BUILD_ID.pattern}|benchmark-\d+)")
"""What a build instance is called: a build id follows (workspace.py), or that of a benchmark."""


def stop_orphans(
    entries: Iterable[Mapping[str, Any]], settings: Settings, reporter: Reporter
) -> None:
    """Stop the instances of builds that were killed, and tell so.

    LXD carries on with what runs in an instance when the lxc that asked for it dies: a compilation
    goes on with all processors. Stopped and not deleted, so that nothing is lost that may be looked
    at; `clean` deletes them.

    Args:
        entries: Of all instances in the project (`lxc.list_instances`).
        settings: For the LXD project, and the directory of the locks.
        reporter: Is told what was stopped, and warned of what could not be.
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
            reporter.warning(f"{name} still runs, and its build was killed: {error.brief}")
        else:
            reporter.note(
                f"{name} still ran, though its build was killed. It is stopped now; slurm-factory"
                " clean deletes it."
            )


def is_orphan(entry: Mapping[str, Any], work: Path) -> bool:
    """Whether an instance runs without the build that it belongs to.

    One that its build has left on purpose is not an orphan, nor is one with a lock that this user
    cannot look at. A killed build leaves the file of its lock behind. Killed before it could name
    its lock, it has left an instance that is known by its name, and by its age.

    Args:
        entry: Of `lxc list`.
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
