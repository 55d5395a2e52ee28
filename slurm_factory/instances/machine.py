"""A machine on which a package is tried: scripts as root, with limits, and none of it trusted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from signal import SIGKILL
from typing import BinaryIO

from slurm_factory import resources
from slurm_factory.exceptions import VerificationError
from slurm_factory.instances.lxc import LOCAL, LONG_SECONDS, lxc, require_running
from slurm_factory.instances.this_machine import SYSTEM_PATH
from slurm_factory.util.files import file_errors
from slurm_factory.util.process import (
    ATTEMPTS,
    FROM_STDIN,
    TIMED_OUT,
    TRANSIENT,
    environment,
    exports,
)

WAIT_SECONDS = 300
"""What a script waits for takes seconds, on the busiest machine a minute."""
SCRIPT_SECONDS = 1800
"""Limit for an ordinary script, most of which wait more than once."""
LARGEST_OUTPUT = 8 << 20
"""Limit for the output of a script in bytes."""
LXC_LINE = re.compile(r"Error: Command not (found|executable)$")
LXC_FAILED = 255
"""Exit status of lxc for its own errors."""
POLL_SECONDS = 0.2


class ScriptError(VerificationError):
    """A script failed on the machine.

    Attributes:
        output: The end of all that it printed.
        status: Its exit status.
    """

    def __init__(self, title: str, why: str, output: str, status: int = 1) -> None:
        self.output = output
        self.status = status
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
        seconds: Limit for a whole script.
    """

    name: str = ""
    project: str = ""
    wait: int = WAIT_SECONDS
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    seconds: float = SCRIPT_SECONDS

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
            given = self._environment(variables)
            status, output, errors = _run(command, given, self.secrets, self.seconds)
            if status == 0:
                return output
            if status != LXC_FAILED or TRANSIENT not in errors or output:
                break
        if self.name:
            require_running(self.name, self.project, title)
        # lxc's own line for the exit statuses 126 and 127 hides the script's.
        errors = "\n".join(line for line in errors.splitlines() if not LXC_LINE.match(line))
        why = "It did not end in time." if status == TIMED_OUT else f"Exit status {status}."
        raise ScriptError(title, why, f"{output}{errors}", status)

    def push(self, path: Path, destination: PurePosixPath) -> None:
        """Copy a file (host) into a directory of the machine.

        Raises:
            LXDError: LXD refused it.
            OutputError: It cannot be copied on this machine.
        """
        if self.name:
            target = f"{LOCAL}{self.name}{destination}"
            lxc("file", "push", str(path), target, project=self.project, timeout=LONG_SECONDS)
        else:
            with file_errors(Path(destination)):
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
        return {"PATH": SYSTEM_PATH, "HOME": "/root", "LC_ALL": "C.UTF-8", **variables}


def _run(
    command: Sequence[str],
    variables: Mapping[str, str],
    secrets: Mapping[str, str],
    seconds: float,
) -> tuple[int, str, str]:
    """Exit status, output and errors of a command; 124 after the limit.

    They go into files: something that has left the session may keep a pipe open for ever.
    """
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        given.write((exports(secrets) if secrets else "\n").encode())
        given.seek(0)
        with subprocess.Popen(
            command,
            env=dict(variables),
            stdin=given,
            stdout=output,
            stderr=errors,
            start_new_session=True,
        ) as process:
            try:
                status = _wait(process, (output, errors), seconds)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, SIGKILL)
        return status, _text(output), _text(errors)


def _wait(process: subprocess.Popen[bytes], files: Sequence[BinaryIO], seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(POLL_SECONDS)
        if any(os.fstat(file.fileno()).st_size > LARGEST_OUTPUT for file in files):
            break
    return TIMED_OUT


def _text(file: BinaryIO) -> str:
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - LARGEST_OUTPUT))
    return file.read(LARGEST_OUTPUT).decode(errors="replace")
