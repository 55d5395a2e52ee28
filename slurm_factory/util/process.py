"""Running programs: to their end, or following their output line by line."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar, cast

from slurm_factory.util.files import FULL
from slurm_factory.util.machine import proxies
from slurm_factory.util.search_path import search_path

NOT_FOUND = 127
TIMED_OUT = 124
QUERY_SECONDS = 60.0


@dataclass(frozen=True)
class Outcome:
    """The result of a program: its exit status, 127 if there is no such program, 124 after the
    limit. Output and errors are empty if they went to a log.
    """

    status: int
    output: str
    errors: str

    @property
    def ok(self) -> bool:
        """Whether the program succeeded."""
        return self.status == 0


def which(program: str) -> Path | None:
    """Path (host) of a program, also in the sbin and snap directories."""
    found = shutil.which(program, path=search_path())
    return Path(found) if found else None


def run(
    argv: Sequence[str],
    *,
    seconds: float = QUERY_SECONDS,
    text: str = "",
    own_session: bool = False,
    cwd: Path | None = None,
) -> Outcome:
    """Run a program to its end, or kill it.

    Args:
        argv: The program and its arguments.
        seconds: Time after which it is killed.
        text: Its standard input.
        own_session: Start it in its own session, which Ctrl-C does not reach.
        cwd: Directory (host) to run in.
    """
    try:
        done = subprocess.run(
            argv,
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            input=text,
            timeout=seconds,
            env=environment(),
            start_new_session=own_session,
            cwd=cwd,
        )
    except FileNotFoundError as error:
        return Outcome(NOT_FOUND, "", str(error))
    except subprocess.TimeoutExpired:
        return Outcome(TIMED_OUT, "", f"{argv[0]} did not answer within {seconds:g} s")
    return Outcome(done.returncode, done.stdout, done.stderr)


def run_logged(argv: Sequence[str], log: IO[str]) -> Outcome:
    """Run a program that limits its own time and may prompt on the terminal (sudo(8)).

    Args:
        argv: The program and its arguments.
        log: Open file (host) for all its output.
    """
    done = subprocess.run(
        argv, check=False, stdout=log, stderr=subprocess.STDOUT, env=environment()
    )
    return Outcome(done.returncode, "", "")


def environment() -> dict[str, str]:
    """This process's environment with the wider search path, untranslated messages, and the
    proxies in the spelling that all programs support."""
    own = {"PATH": search_path(), "LC_ALL": "C.UTF-8"}
    return {**os.environ, **proxies(os.environ), **own}


TAIL_LINES = 200
LONGEST_LINE = 1 << 16
"""In characters."""
ENDED_SECONDS = 10.0
"""Limit for the end of a process that has closed its output."""
ERROR = re.compile(rf"\b(error|E|Err)\b:|{FULL.pattern}", re.IGNORECASE)


class CommandRunner(Protocol):
    """Runs commands: craft-providers' executors, and this machine."""

    def execute_popen(
        self, command: list[str], *, env: dict[str, str | None] | None = None, **kwargs: Any
    ) -> subprocess.Popen[Any]:
        """Start a command; `kwargs` are those of `subprocess.Popen`."""
        ...

    def execute_run(
        self,
        command: list[str],
        *,
        env: dict[str, str | None] | None = None,
        timeout: float | None = None,
        check: bool = False,
        **kwargs: Any,
    ) -> subprocess.CompletedProcess[Any]:
        """Run a command to its end; `kwargs` are those of `subprocess.run`."""
        ...


# Start every process without a terminal, and in its own session so that Ctrl-C reaches only this
# program, which then decides what to stop.
PIPED: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.STDOUT,
    "text": True,
    "encoding": "utf-8",
    "errors": "replace",
    "start_new_session": True,
}


# The output of a command as bytes, and its errors apart.
STREAMED: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.PIPE,
    "start_new_session": True,
}


TRANSIENT = "Failed to retrieve PID of executing child process"
"""Error of lxc exec under load, before it starts the command; seen with LXD 5.0, rc 255."""
ATTEMPTS = 3
"""So often an lxc that says this is started."""
FROM_STDIN = ("sh", "-c", 'IFS= read -r line; eval "$line"; exec "$@"', "sh")
"""Wrapper for a command: reads exports from the first line of standard input."""


def start_with_secrets(
    executor: CommandRunner,
    command: Sequence[str],
    environment: Mapping[str, str],
    secrets: Mapping[str, str],
) -> subprocess.Popen[Any]:
    """Start a command with `PIPED`, and with variables that no command line shows.

    An executor puts its environment into the command line of `lxc exec`, which every user of this
    machine can read while the command runs. Proxies may contain passwords.

    Args:
        executor: Starts it.
        command: Program and arguments.
        environment: Variables that may be visible.
        secrets: Variables that must not be visible; passed through standard input.
    """
    if not secrets:
        return executor.execute_popen([*command], env={**environment}, **PIPED)
    with tempfile.TemporaryFile() as file:
        file.write(exports(secrets).encode())
        file.seek(0)
        by_file = {**PIPED, "stdin": file}
        return executor.execute_popen([*FROM_STDIN, *command], env={**environment}, **by_file)


def exports(variables: Mapping[str, str]) -> str:
    """One line of shell code that exports variables."""
    words = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    return f"export {' '.join(words)}\n"


def follow(
    process: subprocess.Popen[Any], on_line: Callable[[str], None], *, grace: float = 0.0
) -> tuple[int, Sequence[str]]:
    """Pass on every line until the process ends.

    Args:
        process: Started with `PIPED`.
        on_line: Called with each line, without its end, and with parts of lines that are longer
            than `LONGEST_LINE`.
        grace: Seconds that the process gets to clean up after an interrupt.

    Returns:
        Its exit status and its last lines.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with process:
        try:
            # A program may print without ever ending a line.
            output = cast("IO[str]", process.stdout)
            for line in iter(lambda: output.readline(LONGEST_LINE), ""):
                tail.append(str(line).rstrip("\n"))
                on_line(tail[-1])
        except BaseException:
            # Stop it before the end of `with`, which waits for the process.
            _end_session(process, grace)
            raise
    return process.returncode, tail


T = TypeVar("T")


def receive(
    process: subprocess.Popen[bytes], take: Callable[[BufferedReader], T], errors: deque[str]
) -> T:
    """Let `take` read the output of a process, and wait for its end.

    Args:
        process: Started with `STREAMED`.
        take: Reads the output to its end; if it fails, the process is killed.
        errors: Gets the lines of its error output, as far as it has room.
    """
    with process:
        reader = threading.Thread(target=_drain, args=(process.stderr, errors), daemon=True)
        reader.start()
        try:
            return take(cast("BufferedReader", process.stdout))
        except BaseException:
            _end_session(process, grace=0)
            raise
        finally:
            reader.join(ENDED_SECONDS)


def feed(
    executor: CommandRunner,
    command: Sequence[str],
    give: Callable[[IO[bytes]], None],
    lines: deque[str],
) -> int:
    """Let `give` write the input of a command, and wait for its end.

    Args:
        executor: Starts it.
        command: Program and arguments.
        give: Writes the input.
        lines: Gets the lines that it prints, as far as it has room.

    Returns:
        Its exit status.
    """
    process = executor.execute_popen([*command], **{**STREAMED, "stdin": subprocess.PIPE})
    stdin = cast("IO[bytes]", process.stdin)
    with process:
        readers = [
            threading.Thread(target=_drain, args=(stream, lines), daemon=True)
            for stream in (process.stdout, process.stderr)
        ]
        for reader in readers:
            reader.start()
        try:
            # It may end before it has read all; its exit status says why.
            with suppress(BrokenPipeError):
                give(stdin)
            with suppress(BrokenPipeError):
                stdin.close()
            process.wait()
        except BaseException:
            _end_session(process, grace=0)
            raise
        finally:
            for reader in readers:
                reader.join(ENDED_SECONDS)
    return int(process.returncode)


def _drain(stream: IO[bytes], errors: deque[str]) -> None:
    # Closed while it is read, if something hostile keeps it open.
    with suppress(ValueError, OSError):
        for line in iter(lambda: stream.readline(LONGEST_LINE), b""):
            errors.append(line.decode(errors="replace").rstrip("\n"))


def error_line(tail: Sequence[str], default: str) -> str:
    """The last line with an error, else the last line with text."""
    lines = [line.strip() for line in tail if line.strip()]
    errors = [line for line in lines if ERROR.search(line)]
    return (errors or lines or [default])[-1]


def _end_session(process: subprocess.Popen[Any], grace: float) -> None:
    with suppress(ProcessLookupError):
        if grace:
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(grace)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
