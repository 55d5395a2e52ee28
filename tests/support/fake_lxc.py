"""A stand-in for the `lxc` command, with answers of a real LXD 5.0.2, that notes every call."""

import atexit
import json
import os
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from subprocess import PIPE, Popen
from tempfile import mkdtemp
from typing import Any

import pytest

PROJECT = "slurm-factory"
DEAD = "build-20261013-175600-25-05-8-0a1b2c"
"""The instance of a build that has ended, as builds call theirs."""
SCRIPT = r"""#!/bin/sh
here=${0%/*}
printf '%s\n' "$*" >> "$here/calls"
case "$*" in
*local:*|*"image info"*) ;;
*) echo "Error: this is about the remote that the user has switched to" >&2; exit 1 ;;
esac
while IFS='|' read -r call code message; do
    case "$*" in
    *"$call"*) printf '%s\n' "$message" >&2; exit "$code" ;;
    esac
done < "$here/failures"
case "$*" in
"--project "*" project list local: --format json" | \
"--project "*" image list local: --format json" | \
"--project "*" profile list local: --format json" | \
"--project "*" operation list local: --format json")
    shift 2
    words="$*"
    answer="$here/$(printf '%s' "${words% local: --format json}" | tr ' ' -).json"
    cat "$answer"
    [ ! -e "$answer.next" ] || mv "$answer.next" "$answer"
    ;;
"--project "*" list local: --format json")
    printf '['; paste -s -d , "$here/instances"; printf ']'
    ;;
*" query "*) echo "Error: --project cannot be used with the query command" >&2; exit 1 ;;
"--project "*" delete --force "*)
    shift 4
    sed -i "/\"name\": \"${1#local:}\"/d" "$here/instances"
    [ ! -e "$here/late" ] || mv "$here/late" "$here/instances"
    ;;
esac
"""
PATCH = re.compile(r"query --wait -X PATCH local:/1\.0/instances/(.+)\?project=(\S+) --data (.+)")
HOLDER = """
import sys, filelock
with filelock.FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


class FakeLxc:
    """Answers from files; `calls` are the arguments of every call after the project.

    Only what names the local remote is answered; `calls` leave that out.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        program = directory / "lxc"
        program.write_text(SCRIPT)
        program.chmod(0o755)
        (directory / "failures").touch()
        self.projects("default", PROJECT)
        self.instances([])
        self.images([])
        self.operations([])
        self.profile({"root": {"path": "/", "pool": "default", "type": "disk"}})

    def operations(
        self, entries: Sequence[dict[str, Any]], then: Sequence[dict[str, Any]] | None = None
    ) -> None:
        """What LXD does at the moment, or has done a while ago; `then`: once that was asked."""
        self._answer("operation-list", entries)
        if then is not None:
            (self.directory / "operation-list.json.next").write_text(json.dumps(then))

    def profile(self, devices: dict[str, Any]) -> None:
        """What the default profile of every project gives to instances."""
        self._answer("profile-list", [{"name": "default", "devices": devices}])

    def projects(self, *names: str) -> None:
        self._answer("project-list", [{"config": {}, "name": n, "used_by": []} for n in names])

    def instances(self, entries: Sequence[dict[str, Any]]) -> None:
        self._list_instances("instances", entries)

    def finish_late(self, entries: Sequence[dict[str, Any]]) -> None:
        """Have these instances once the next one has been deleted."""
        self._list_instances("late", entries)

    def images(self, entries: Sequence[dict[str, Any]]) -> None:
        self._answer("image-list", entries)

    def fail(self, part: str, message: str, code: int = 1) -> None:
        """Fail every call that contains `part`."""
        with (self.directory / "failures").open("a") as file:
            file.write(f"{part}|{code}|{message}\n")

    @property
    def calls(self) -> list[str]:
        return [
            PATCH.sub(r"patch \1", line)
            if line.startswith("query ")
            else shlex.join(shlex.split(line.replace("local:", ""))[2:])
            for line in self._lines()
        ]

    @property
    def patches(self) -> list[dict[str, Any]]:
        """What was changed of instances in one step, with the project."""
        found = filter(None, map(PATCH.fullmatch, self._lines()))
        return [{"project": match[2], **json.loads(match[3])} for match in found]

    def _lines(self) -> list[str]:
        path = self.directory / "calls"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def changes(self) -> list[str]:
        """The calls that do more than look."""
        calls = (call for call in self.calls if not call.endswith("--format json"))
        return [call for call in calls if not call.startswith(("image info ", "config get "))]

    def _list_instances(self, name: str, entries: Sequence[dict[str, Any]]) -> None:
        # One a line, so that the script can take one away.
        lines = [f"{json.dumps(entry)}\n" for entry in entries]
        (self.directory / name).write_text("".join(lines))

    def _answer(self, name: str, document: Any) -> None:
        (self.directory / f"{name}.json").write_text(json.dumps(document))


@cache
def daemon_directory() -> Path:
    """A directory for LXD_DIR with a socket on which a daemon seems to listen.

    Paths of sockets are short (unix(7)), those of pytest's directories are not.
    """
    directory = Path(mkdtemp(prefix="daemon-"))
    atexit.register(shutil.rmtree, directory)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "unix.socket"))
    # Nobody accepts: this is how many calls of lxc may fail in one run of pytest.
    listener.listen(4096)
    atexit.register(listener.close)
    return directory


def install_fake_lxc(directory: Path, monkeypatch: pytest.MonkeyPatch) -> FakeLxc:
    """Put a fake `lxc` first into PATH, whose daemon listens."""
    directory.mkdir()
    monkeypatch.setenv("LXD_DIR", str(daemon_directory()))
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    return FakeLxc(directory)


def instance(
    name: str,
    created: datetime,
    lock: Path | None = None,
    *,
    description: str = "",
    **providers: str,
) -> dict[str, Any]:
    """An entry of `lxc list`, with what craft-providers notes in it; LXD writes nanoseconds.

    A base instance is stopped once it is made.
    """
    noted = {"status": "FINISHED", **providers}
    config = {f"user.craft_providers.{key}": value for key, value in noted.items()}
    config["volatile.last_state.idmap"] = json.dumps(
        [
            {"Isuid": kind == "u", "Isgid": kind == "g", "Hostid": host, "Nsid": inner}
            for kind in "ug"
            for host, inner in ((os.getuid() or 1_000_000, 0), (1_000_001, 1))
        ]
    )
    if description:
        config["image.description"] = description
    if lock:
        config["user.slurm_factory.lock"] = str(lock)
    return {
        "name": name,
        "status": "Stopped" if name.startswith("base-instance-") else "Running",
        "type": "container",
        "config": config,
        "created_at": created.strftime("%Y-%m-%dT%H:%M:%S.%f644Z"),
        # The map of an ordinary user, as LXD notes it at the start of an instance.
        "expanded_config": {},
        "expanded_devices": {
            "eth0": {"name": "eth0", "network": "lxdbr0", "type": "nic"},
            "root": {"path": "/", "pool": "default", "type": "disk"},
        },
        "last_used_at": "2026-11-22T17:17:38.281687144Z",
        "project": PROJECT,
    }


def image(alias: str) -> dict[str, Any]:
    """An entry of `lxc image list`."""
    return {
        "aliases": [{"name": alias, "description": ""}],
        "fingerprint": "1eaa7465f6b17289646f7f6713782f24c1fcd32393adb966b5609965dd548d21",
        "size": 233510627,
        "type": "container",
    }


@contextmanager
def locked_elsewhere(lock: Path) -> Iterator[Popen[str]]:
    """Hold a lock in another process."""
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()
