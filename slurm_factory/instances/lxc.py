"""The `lxc` command, with time limits and readable errors."""

from __future__ import annotations

import grp
import json
import os
import pwd
import shlex
import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from slurm_factory.constants import APPLICATION, LXD_GROUP
from slurm_factory.exceptions import LXDError
from slurm_factory.host.facts import Daemon
from slurm_factory.host.socket import socket_state
from slurm_factory.instances.remote import open_now, require_not_lost
from slurm_factory.util.files import disk_full_lines
from slurm_factory.util.process import NOT_FOUND, TIMED_OUT, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LOCAL = "local:"
"""This machine's LXD, even if the user has switched to another remote (lxc remote switch)."""
BASE_PREFIX = "base-instance-slurm-factory-"
"""Prefix of the names of base instances (craft-providers' lxd/launcher.py and our tag)."""
IMAGE_PREFIX = "slurm-factory-"
"""Prefix of the aliases of images made here."""
LOCK_KEY = "user.slurm_factory.lock"
"""Instance configuration: path (host) of the lock file of its build."""
STATUS = "user.craft_providers.status"
"""Instance configuration: craft-providers' status of it (lxd_instance_status.py)."""
KEPT_KEY = "user.slurm_factory.kept"
"""Instance configuration: set if the build has ended and kept its instance on purpose."""
RUNNING = "Running"
OUT_OF_REACH = "Error"
"""LXD's status of an instance on a member of its cluster that does not answer."""
SIMPLE_SECONDS = 60
POLL_SECONDS = 0.1
QUIET_LOOKS = 6
"""Checks in a row without a running operation after which making an instance counts as aborted.

Checks and not seconds: on a busy machine, starting lxc takes a second.
"""
FINISHED = 200
"""Codes of LXD's operations from here on: success, failure, canceled."""
DELETE_SECONDS = 180
"""An instance at its memory limit takes more than a minute to die."""
LONG_SECONDS = 600

ADVICE = "Try `lxc info --show-log"
"""Begin of lxc's last line, after the error."""

_NOT_ANSWERING = {
    Daemon.DENIED: (
        "You do not have access to LXD.",
        f"Only root and the group {LXD_GROUP} have access to its socket.",
        "slurm-factory setup",
    ),
    Daemon.STOPPED: (
        "The LXD daemon does not run.",
        "No process listens on its socket.",
        "slurm-factory setup",
    ),
    Daemon.SILENT: (
        "The LXD daemon does not answer.",
        "Its socket does not accept connections.",
        "slurm-factory doctor",
    ),
}
"""Messages for the states of its socket; on Debian 13, lxc prints the same for the first two."""
_REASONS = (
    ("no space left on device", "The storage pool is full.", "slurm-factory clean"),
    ("quota exceeded", "The storage pool is full.", "slurm-factory clean"),
    ("uid range not allowed", "LXD is not allowed to map this user's id.", "slurm-factory setup"),
)


class TimedOutError(LXDError):
    """lxc did not end in time."""


def lxc(
    *arguments: str,
    project: str,
    timeout: float = SIMPLE_SECONDS,
    stdin: str = "",
    cwd: Path | None = None,
) -> str:
    """Run `lxc --project PROJECT ARGUMENTS`.

    Args:
        arguments: Arguments of the lxc command.
        project: LXD project.
        timeout: Limit in seconds.
        stdin: Text for its standard input.
        cwd: Directory (host) to run in.

    Returns:
        Its standard output.

    Raises:
        LXDError: It failed, did not end in time, or is not installed.
    """
    return _output(["--project", project], arguments, timeout, stdin, cwd)


def patch_instance(name: str, project: str, **changes: Any) -> None:
    """Change an instance in one step.

    Args:
        name: Name of the instance.
        project: LXD project.
        changes: Parts of its configuration to merge, such as `config` and `devices` (LXD's
            rest-api.md, `PATCH /1.0/instances/<name>`).

    Raises:
        LXDError: As `lxc` does.
    """
    query("PATCH", f"/1.0/instances/{name}?project={quote(project)}", changes)


def query(method: str, path: str, data: Mapping[str, Any] | None = None) -> Any:
    """What LXD's API answers; waits for the end of an operation.

    Args:
        method: Of HTTP.
        path: With the query.
        data: Document to send.

    Raises:
        LXDError: As `lxc` does.
    """
    given = ["--data", json.dumps(data)] if data is not None else []
    arguments = ["query", "--wait", "-X", method, f"{LOCAL}{path}", *given]
    return json.loads(_output([], arguments, SIMPLE_SECONDS) or "null")


def _output(
    options: Sequence[str],
    arguments: Sequence[str],
    timeout: float,
    stdin: str = "",
    cwd: Path | None = None,
) -> str:
    require_not_lost()
    command = ["lxc", *options, *arguments]
    # Ctrl-C must reach only this program, which may be cleaning up.
    done = run(command, seconds=timeout, text=stdin, own_session=True, cwd=cwd)
    if done.status == NOT_FOUND:
        raise LXDError(
            "LXD is not installed.",
            details="There is no lxc command.",
            resolution="Run `slurm-factory setup`.",
        )
    if done.status == TIMED_OUT:
        raise TimedOutError(
            f"LXD did not answer within {timeout:.0f} s.",
            details=f"Command: lxc {' '.join(arguments[:3])}",
            resolution="Run `slurm-factory doctor`.",
        )
    if not done.ok:
        # A client of a member that is gone was ended.
        require_not_lost()
        raise explain(done.errors, arguments)
    return done.output


def lxc_json(*arguments: str, project: str) -> Any:
    """Like `lxc`, with `--format json`; returns the parsed output."""
    return json.loads(lxc(*arguments, "--format", "json", project=project))


def explain(stderr: str, arguments: Sequence[str]) -> LXDError:
    """The error for a failed lxc: the daemon's socket shows more than lxc's message.

    Args:
        stderr: Its error output.
        arguments: Arguments of the lxc command.
    """
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(ADVICE)] or lines
    message = lines[-1].removeprefix("Error: ") if lines else "lxc failed without a message."
    remote = open_now()
    if remote and remote.problem:
        return remote.problem
    state = socket_state()
    if state is Daemon.DENIED and _group_is_new():
        command = shlex.join([APPLICATION, *sys.argv[1:]])
        return LXDError(
            "You do not have access to LXD yet.",
            details=f"You are in the group {LXD_GROUP}, but this shell is older than your"
            " membership.",
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
    """Whether this user has joined LXD's group, but this process does not have the group yet."""
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
    """Full entries of all instances in the project; none if there is no such project.

    Raises:
        LXDError: LXD does not answer.
    """
    try:
        return tuple(_whole(entry) for entry in lxc_json("list", LOCAL, project=project))
    except LXDError:
        # LXD 5.0 lists nothing for a missing project, other versions may fail.
        if project_exists(project):
            raise
        return ()


def _whole(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry whose parts are there: LXD knows little of an instance on a member that is gone."""
    parts = ("config", "expanded_config", "devices", "expanded_devices")
    return entry | {part: entry.get(part) or {} for part in parts}


def is_out_of_reach(entry: Mapping[str, Any]) -> bool:
    """Whether the instance of an entry in `lxc list` is on a member that does not answer."""
    return str(entry["status"]) == OUT_OF_REACH


def require_running(name: str, project: str, what: str) -> None:
    """Check that an instance still exists and runs, before explaining a failure in it.

    Waits for LXD: a command dies some moments before its instance is stopped or deleted.

    Args:
        name: Name of the instance.
        project: LXD project.
        what: Name of the failed command in errors.

    Raises:
        LXDError: The instance was deleted or stopped, or LXD does not answer.
    """
    try:
        wait_for_operations(name, project)
        status = instance_status(name, project)
    except LXDError as error:
        raise LXDError(
            f"{what} was aborted: LXD does not answer any more.",
            details=f"{error.brief} {error.details}".strip(),
            resolution=error.resolution,
        ) from error
    if status == RUNNING:
        return
    happened = "deleted" if status is None else "stopped"
    raise LXDError(
        f"{what} was aborted: the instance {name} was {happened} in the meantime.",
        details=f"Another program or user has {happened} it.",
        resolution="Run the command again.",
    )


def instance_status(name: str, project: str) -> str | None:
    """LXD's name for the state of an instance, such as `Running`; None if there is no instance.

    Raises:
        LXDError: LXD does not answer.
    """
    entries = list_instances(project)
    return next((str(entry["status"]) for entry in entries if entry["name"] == name), None)


def created(entry: Mapping[str, Any]) -> datetime:
    """Creation time of an instance from its entry in `lxc list`."""
    return datetime.fromisoformat(entry["created_at"])


def is_finished(entry: Mapping[str, Any]) -> bool:
    """Whether the base instance of an entry in `lxc list` is finished and can be copied.

    An unfinished one of a killed build has the status PREPARING or STARTING; a running one may
    still change (craft-providers' lxd/launcher.py, `_wait_for_instance_ready`).
    """
    return (entry["status"], entry["config"].get(STATUS)) == ("Stopped", "FINISHED")


def project_exists(project: str) -> bool:
    """Whether LXD has the project."""
    projects = lxc_json("project", "list", LOCAL, project="default")
    return any(entry["name"] == project for entry in projects)


def wait_for_operations(name: str, project: str, timeout: float = SIMPLE_SECONDS) -> None:
    """Wait until LXD has finished its operations on an instance.

    If lxc is killed, LXD continues its operation: a copy still appears.

    Args:
        name: Name of the instance, which need not exist yet.
        project: LXD project.
        timeout: Limit in seconds.

    Raises:
        LXDError: LXD does not answer.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and _is_busy(name, project):
        time.sleep(POLL_SECONDS)


def _is_busy(name: str, project: str) -> bool:
    """Whether a task, such as a copy, concerns the instance.

    LXD lists finished ones for some seconds (status codes: LXD's "rest-api.md").
    """
    return any(
        PurePosixPath(urlsplit(url).path).name == name
        for operation in lxc_json("operation", "list", LOCAL, project=project)
        if operation["class"] == "task" and operation["status_code"] < FINISHED
        for urls in (operation["resources"] or {}).values()
        for url in urls
    )


def delete_instance(name: str, project: str) -> None:
    """Delete an instance, running or not; it may be gone already.

    Only forced deletion reliably ends every process in it. If its disk is full, the first attempt
    stops it and fails (LXD 5.0 on btrfs: "Failed clearing ownership"), and the second deletes it.
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
    """Delete an instance whose creation was aborted, for good.

    LXD reserves the name of a copy before it lists the operation, and continues if lxc is killed:
    an instance that was deleted in between comes back.

    Args:
        name: Name of the instance, which LXD may still be making.
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
    """Delete an instance; ignores errors, because the error that led here matters more.

    Args:
        name: Name of the instance, which LXD may still be making.
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
