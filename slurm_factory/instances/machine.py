"""A machine on which a package is tried: scripts as root, with limits, and none of it trusted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from signal import SIGKILL
from typing import BinaryIO

from slurm_factory import resources
from slurm_factory.exceptions import VerificationError
from slurm_factory.instances.lxc import LOCAL, LONG_SECONDS, lxc, require_running
from slurm_factory.util.process import (
    ATTEMPTS,
    FROM_STDIN,
    STREAMED,
    TAIL_LINES,
    TIMED_OUT,
    TRANSIENT,
    environment,
    exports,
    receive,
)

WAIT_SECONDS = 300
"""What a script waits for takes seconds, on the busiest machine a minute."""
SCRIPT_SECONDS = 1800
"""Limit for a whole script, most of which wait more than once."""
LARGEST_OUTPUT = 8 << 20
"""Limit for the output of a script in bytes."""
LXC_LINE = re.compile(r"Error: Command not (found|executable)$")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ScriptError(VerificationError):
    """A script failed on the machine.

    Attributes:
        output: The end of all that it printed.
    """

    def __init__(self, title: str, why: str, output: str) -> None:
        self.output = output
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        super().__init__(f"{title} failed.", details=lines[-1] if lines else why)


@dataclass(frozen=True)
class Machine:
    """Where scripts of `resources/verify` run as root: an LXD instance, or this machine.

    Attributes:
        name: Name of the LXD instance; "" for this machine.
        project: LXD project.
        wait: Seconds after which something that a script waits for counts as failed.
        variables: Variables of each script.
        secrets: Variables that must not appear in command lines: the proxies.
    """

    name: str = ""
    project: str = ""
    wait: int = WAIT_SECONDS
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)

    def run(self, script: str, *arguments: object, **variables: str) -> str:
        """Run a script, with `lib.sh` before it; returns what it printed.

        Args:
            script: File name of the script.
            arguments: Its arguments; paths are the machine's.
            variables: Added to those of the machine.

        Raises:
            ScriptError: It failed, did not end in time, or printed too much.
            LXDError: The instance was stopped or deleted.
        """
        return self.run_text(script, resources.verify_file(script), *arguments, **variables)

    def run_text(self, title: str, text: str, *arguments: object, **variables: str) -> str:
        """As `run`, with the text of a script."""
        whole = resources.verify_file("lib.sh") + text
        given = {"LIMIT": str(self.wait), **self.variables, **variables}
        words = ["bash", "-c", whole, title, *map(str, arguments)]
        return self.execute(title, words, given)

    def execute(self, title: str, words: Sequence[str], variables: Mapping[str, str]) -> str:
        """Run a command; returns what it printed.

        Args:
            title: Names it in errors.
            words: The command.
            variables: Its variables, which may be visible to all users of this machine.

        Raises:
            ScriptError: It failed, did not end in time, or printed too much.
            LXDError: The instance was stopped or deleted.
        """
        command = [*self._prefix(variables), *FROM_STDIN, *words]
        for _ in range(ATTEMPTS):
            status, output, errors = _run(command, self._environment(variables), self.secrets)
            if status == 0:
                return output
            if TRANSIENT not in errors:
                break
        if self.name:
            require_running(self.name, self.project, title)
        # lxc's own line for the exit statuses 126 and 127 hides the script's.
        errors = "\n".join(line for line in errors.splitlines() if not LXC_LINE.match(line))
        why = "It did not end in time." if status == TIMED_OUT else f"Exit status {status}."
        raise ScriptError(title, why, f"{output}{errors}")

    def push(self, path: Path, destination: PurePosixPath) -> None:
        """Copy a file (host) into a directory of the machine.

        Raises:
            LXDError: LXD refused it.
            OSError: It cannot be copied on this machine.
        """
        if self.name:
            target = f"{LOCAL}{self.name}{destination}"
            lxc("file", "push", str(path), target, project=self.project, timeout=LONG_SECONDS)
        else:
            shutil.copyfile(path, destination)

    def _prefix(self, variables: Mapping[str, str]) -> list[str]:
        if not self.name:
            return []
        given = [f"--env={key}={value}" for key, value in variables.items()]
        instance = f"{LOCAL}{self.name}"
        return ["lxc", "--project", self.project, "exec", "-T", instance, *given, "--"]

    def _environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        if self.name:
            return environment()
        return {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", **variables}


def _run(
    command: Sequence[str], variables: Mapping[str, str], secrets: Mapping[str, str]
) -> tuple[int, str, str]:
    """Exit status, output and errors of a command; 124 after the limit."""
    errors: deque[str] = deque(maxlen=TAIL_LINES)
    with tempfile.TemporaryFile() as file:
        file.write((exports(secrets) if secrets else "\n").encode())
        file.seek(0)
        process = subprocess.Popen(command, env=dict(variables), **{**STREAMED, "stdin": file})
    late = threading.Event()

    def end() -> None:
        late.set()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, SIGKILL)

    def take(stream: BinaryIO) -> bytes:
        content = stream.read(LARGEST_OUTPUT)
        if stream.read(1):
            end()
        return content

    timer = threading.Timer(SCRIPT_SECONDS, end)
    timer.daemon = True
    timer.start()
    try:
        output = receive(process, take, errors)
    finally:
        timer.cancel()
    status = TIMED_OUT if late.is_set() else process.returncode
    return status, output.decode(errors="replace"), "\n".join(errors)
