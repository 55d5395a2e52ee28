"""The `lxc` command: one door, with time limits and errors that a user can read."""

from __future__ import annotations

import grp
import json
import os
import pwd
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from slurm_factory.constants import APPLICATION, LXD_GROUP
from slurm_factory.exceptions import LXDError
from slurm_factory.host.facts import Daemon
from slurm_factory.host.socket import socket_state
from slurm_factory.util.files import disk_full_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LOCAL = "local:"
"""This machine's LXD, whatever remote the user has switched to (lxc remote switch)."""
BASE_PREFIX = "base-instance-slurm-factory-"
"""Names of base instances begin so (craft-providers' lxd/launcher.py and our tag)."""
IMAGE_PREFIX = "slurm-factory-"
"""Aliases of the images that are made here begin so."""
LOCK_KEY = "user.slurm_factory.lock"
"""Instance configuration: path (host) of the file that is locked while its build runs."""
STATUS = "user.craft_providers.status"
"""Instance configuration: how far craft-providers has come with it (lxd_instance_status.py)."""
KEPT_KEY = "user.slurm_factory.kept"
"""Instance configuration: set when the build has ended and has left its instance on purpose."""
RUNNING = "Running"
SIMPLE_SECONDS = 60
POLL_SECONDS = 0.1
QUIET_LOOKS = 6
"""So often in a row LXD has to be quiet about an instance before its making counts as broken off.

Looks and not seconds: on a busy machine a second passes while lxc starts.
"""
FINISHED = 200
"""Codes of LXD's operations from here on: success, failure, canceled."""
DELETE_SECONDS = 180
"""An instance at its memory limit takes more than a minute to die."""
LONG_SECONDS = 600

_NOT_ANSWERING = {
    Daemon.DENIED: (
        "You may not talk to LXD.",
        f"Its socket is open to root and the group {LXD_GROUP} only.",
        "slurm-factory setup",
    ),
    Daemon.STOPPED: (
        "The LXD daemon does not run.",
        "Nothing listens on its socket.",
        "slurm-factory setup",
    ),
    Daemon.SILENT: (
        "The LXD daemon does not answer.",
        "Its socket takes no connections.",
        "slurm-factory doctor",
    ),
}
"""What the state of its socket means; lxc's words for the first two are the same on Debian 13."""
_REASONS = (
    ("no space left on device", "The storage pool is full.", "slurm-factory clean"),
    ("quota exceeded", "The storage pool is full.", "slurm-factory clean"),
    ("uid range not allowed", "This user's id may not be mapped.", "slurm-factory setup"),
)


class TimedOutError(LXDError):
    """An lxc that did not end in time."""


def lxc(
    *arguments: str,
    project: str,
    timeout: float = SIMPLE_SECONDS,
    stdin: str | None = None,
    cwd: Path | None = None,
) -> str:
    """Run `lxc --project PROJECT ARGUMENTS`.

    Args:
        arguments: Of the lxc command.
        project: LXD project.
        timeout: Seconds after which the call counts as hung.
        stdin: Text for its standard input.
        cwd: Directory (host) to run in.

    Returns:
        Its standard output.

    Raises:
        LXDError: It failed, did not end in time, or is not installed.
    """
    command = ["lxc", "--project", project, *arguments]
    try:
        done = subprocess.run(
            command,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            cwd=cwd,
            # Ctrl-C reaches this program only, which may be about to clean up.
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise LXDError(
            "LXD is not installed.",
            details="There is no lxc command.",
            resolution="Run `slurm-factory setup`.",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise TimedOutError(
            f"LXD did not answer within {timeout:.0f} s.",
            details=f"Command: lxc {' '.join(arguments[:3])}",
            resolution="Run `slurm-factory doctor`.",
        ) from error
    if done.returncode != 0:
        raise explain(done.stderr, arguments)
    return done.stdout


def lxc_json(*arguments: str, project: str) -> Any:
    """Like `lxc`, with `--format json`, parsed."""
    return json.loads(lxc(*arguments, "--format", "json", project=project))


def explain(stderr: str, arguments: Sequence[str]) -> LXDError:
    """The error for an lxc that failed: the daemon's socket tells more than what lxc wrote.

    Args:
        stderr: What it wrote.
        arguments: Of the lxc command.
    """
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    message = lines[-1].removeprefix("Error: ") if lines else "lxc failed without a message."
    state = socket_state()
    if state is Daemon.DENIED and _group_is_new():
        command = shlex.join([APPLICATION, *sys.argv[1:]])
        return LXDError(
            "You may not talk to LXD yet.",
            details=f"You are in the group {LXD_GROUP}, and this shell is older than that.",
            resolution=f"Log in again, or run: sg {LXD_GROUP} -c {shlex.quote(command)}",
        )
    if state in _NOT_ANSWERING:
        reason, why, command = _NOT_ANSWERING[state]
        return LXDError(reason, details=why, resolution=f"Run `{command}`.")
    for mark, reason, command in _REASONS:
        if mark in stderr.lower():
            return LXDError(reason, details=message, resolution=f"Run `{command}`.")
    return LXDError(
        f"lxc {' '.join(arguments[:2])} failed.",
        details=message,
        resolution="Run `slurm-factory doctor`.",
    )


def _group_is_new() -> bool:
    """Whether this user has joined LXD's group, and this process does not have it yet."""
    try:
        gid = grp.getgrnam(LXD_GROUP).gr_gid
        user = pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    joined = gid in os.getgrouplist(user.pw_name, user.pw_gid)
    return joined and gid not in {*os.getgroups(), os.getegid()}


def instance_names(project: str) -> tuple[str, ...]:
    """Names of all instances in the project; none if there is no such project."""
    return tuple(entry["name"] for entry in list_instances(project))


def list_instances(project: str) -> tuple[dict[str, Any], ...]:
    """Everything that LXD knows of all instances in the project; none if there is no such project.

    Raises:
        LXDError: LXD cannot be asked.
    """
    try:
        return tuple(lxc_json("list", LOCAL, project=project))
    except LXDError:
        # LXD 5.0 lists nothing for a project that is not there, others may refuse to.
        if project_exists(project):
            raise
        return ()


def require_running(name: str, project: str, what: str) -> None:
    """Look whether an instance is still there and runs, before a failure in it is explained.

    A command dies some moments before LXD has stopped or deleted its instance, which is waited for.

    Args:
        name: Of the instance.
        project: LXD project.
        what: Names what failed, for people.

    Raises:
        LXDError: It was deleted or stopped, or LXD does not answer.
    """
    try:
        wait_for_operations(name, project)
        status = instance_status(name, project)
    except LXDError as error:
        raise LXDError(
            f"{what} was broken off: LXD does not answer any more.",
            details=f"{error.brief} {error.details}".strip(),
            resolution=error.resolution,
        ) from error
    if status == RUNNING:
        return
    happened = "deleted" if status is None else "stopped"
    raise LXDError(
        f"{what} was broken off: the instance {name} was {happened} meanwhile.",
        details=f"Something other than this program has {happened} it.",
        resolution="Run the command again.",
    )


def instance_status(name: str, project: str) -> str | None:
    """What LXD calls the state of an instance, such as `Running`; None if it is not there.

    Raises:
        LXDError: LXD cannot be asked.
    """
    entries = list_instances(project)
    return next((str(entry["status"]) for entry in entries if entry["name"] == name), None)


def created(entry: Mapping[str, Any]) -> datetime:
    """When the instance of an entry of `lxc list` was made."""
    return datetime.fromisoformat(entry["created_at"])


def is_finished(entry: Mapping[str, Any]) -> bool:
    """Whether a base instance of an entry of `lxc list` is made, and can be copied.

    One whose maker was killed keeps its name and age, and the status PREPARING or STARTING; one
    that is still running may be about to be changed (craft-providers' lxd/launcher.py,
    `_wait_for_instance_ready`).
    """
    return (entry["status"], entry["config"].get(STATUS)) == ("Stopped", "FINISHED")


def project_exists(project: str) -> bool:
    """Whether LXD has the project."""
    projects = lxc_json("project", "list", LOCAL, project="default")
    return any(entry["name"] == project for entry in projects)


def wait_for_operations(name: str, project: str, timeout: float = SIMPLE_SECONDS) -> None:
    """Wait until LXD has done what it was asked to do with an instance.

    When an lxc is killed, LXD carries on with what it asked for: a copy appears after all.

    Args:
        name: Of the instance, which need not exist yet.
        project: LXD project.
        timeout: Seconds after which to wait no longer.

    Raises:
        LXDError: LXD cannot be asked.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and _is_busy(name, project):
        time.sleep(POLL_SECONDS)


def _is_busy(name: str, project: str) -> bool:
    """Whether a task, such as a copy, concerns the instance.

    LXD keeps finished ones in its list for some seconds (status codes: LXD's "rest-api.md").
    """
    return any(
        PurePosixPath(urlsplit(url).path).name == name
        for operation in lxc_json("operation", "list", LOCAL, project=project)
        if operation["class"] == "task" and operation["status_code"] < FINISHED
        for urls in (operation["resources"] or {}).values()
        for url in urls
    )


def delete_instance(name: str, project: str) -> None:
    """Delete an instance, running or not; what is gone already is fine.

    Deletion by force is the only way that surely ends every process in it. An instance that has
    used up its disk is stopped by the first attempt, which then fails (LXD 5.0 on btrfs: "Failed
    clearing ownership"), and deleted by the second.
    """
    try:
        _delete(name, project)
    except LXDError as error:
        if not disk_full_lines([error.details]):
            raise
        _delete(name, project)


def _delete(name: str, project: str) -> None:
    try:
        lxc("delete", "--force", f"{LOCAL}{name}", project=project, timeout=DELETE_SECONDS)
    except LXDError:
        if name in instance_names(project):
            raise


def delete_unfinished(name: str, project: str) -> bool:
    """Delete an instance whose making was broken off, for good.

    LXD has the name of a copy before it lists the operation, and carries on when the lxc that asked
    for it is killed: what was deleted in between is there again.

    Args:
        name: Of the instance, which LXD may still be making.
        project: LXD project.

    Returns:
        Whether it is gone.
    """
    gone = delete_quietly(name, project)
    quiet = 0
    deadline = time.monotonic() + SIMPLE_SECONDS
    while quiet < QUIET_LOOKS and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        quiet += 1
        with suppress(LXDError):
            if _is_busy(name, project) or name in instance_names(project):
                gone = delete_quietly(name, project)
                quiet = 0
    return gone


def delete_quietly(name: str, project: str) -> bool:
    """Delete an instance; the error that led here matters more than one while cleaning up.

    Args:
        name: Of the instance, which LXD may still be making.
        project: LXD project.

    Returns:
        Whether it is gone.
    """
    with suppress(LXDError):
        wait_for_operations(name, project)
    try:
        delete_instance(name, project)
    except LXDError:
        return False
    return True
