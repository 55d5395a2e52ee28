"""Instances whose builds were killed, and in which everything goes on as if nobody had."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm_factory.constants import BUILD_PREFIX
from slurm_factory.exceptions import LXDError
from slurm_factory.instances.lxc import KEPT_KEY, LOCAL, LOCK_KEY, RUNNING, lxc
from slurm_factory.util.locks import is_running, is_visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slurm_factory.output.reporter import Reporter

STOP_SECONDS = 60


def stop_orphans(entries: Iterable[Mapping[str, Any]], project: str, reporter: Reporter) -> None:
    """Stop the instances of builds that were killed, and tell so.

    LXD carries on with what runs in an instance when the lxc that asked for it dies: a compilation
    goes on with all processors. Stopped and not deleted, so that nothing is lost that may be looked
    at; `clean` deletes them.

    Args:
        entries: Of all instances in the project (`lxc.list_instances`).
        project: LXD project.
        reporter: Is told what was stopped, and warned of what could not be.
    """
    for entry in entries:
        if not is_orphan(entry):
            continue
        name = entry["name"]
        try:
            lxc("stop", "--force", f"{LOCAL}{name}", project=project, timeout=STOP_SECONDS)
        except LXDError as error:
            reporter.warning(f"{name} still runs, and its build was killed: {error.brief}")
        else:
            reporter.note(
                f"{name} still ran, though its build was killed. It is stopped now; slurm-factory"
                " clean deletes it."
            )


def is_orphan(entry: Mapping[str, Any]) -> bool:
    """Whether an instance runs without the build that it belongs to.

    One that its build has left on purpose is not an orphan, nor is one without a lock that this
    user could look at. A killed build leaves the file of its lock behind.

    Args:
        entry: Of `lxc list`.
    """
    config = entry["config"]
    lock = config.get(LOCK_KEY)
    if entry["status"] != RUNNING or not entry["name"].startswith(BUILD_PREFIX):
        return False
    if not lock or KEPT_KEY in config or not is_visible(Path(lock)):
        return False
    return Path(lock).exists() and not is_running(Path(lock))
