"""A child process of a matrix: its command, its events, its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from slurm_factory.util.documents import parse_json, read_bytes
from slurm_factory.util.files import file_errors
from slurm_factory.util.process import which

GITHUB_VARIABLES: Final = ("GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
"""The matrix itself writes outputs, annotations and the summary."""
LONGEST_EVENT: Final = 1 << 20
BUILD_FAILED: Final = 1


class State(StrEnum):
    """How a cell ended."""

    BUILT = "built"
    UP_TO_DATE = "up-to-date"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    NOT_RUN = "not-run"


@dataclass(frozen=True)
class Result:
    """How a child ended.

    Attributes:
        state: How.
        exit_code: Its exit code; 0: it succeeded, or did not run; 130 after an interrupt.
        seconds: How long it ran.
        document: What it printed with `--json`; None without.
        error: Why it failed: exit_code, brief, details, resolution.
        log: What it wrote to standard error (host).
        attempts: How often it was started.
    """

    state: State
    exit_code: int = 0
    seconds: float = 0.0
    document: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    log: Path | None = None
    attempts: int = 1


@dataclass(frozen=True)
class Event:
    """A step of a child has begun or ended, or a package of it is finished."""

    kind: str
    facts: Mapping[str, Any]


@dataclass
class Child:
    """A running child.

    Attributes:
        name: Name of its cell.
        attempts: How often it has been started, with this time.
        step: The step that it is in.
    """

    name: str
    attempts: int
    files: Path
    process: subprocess.Popen[bytes]
    step: str = ""
    began: float = field(default_factory=time.monotonic)
    step_began: float = field(default_factory=time.monotonic)
    asked_to_end: float | None = None
    late: bool = False
    """It has run for longer than it may."""
    _read: int = 0

    @property
    def log(self) -> Path:
        """What it writes to standard error (host)."""
        return self.files.with_name(f"{self.files.name}.log")

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began

    def events(self) -> Iterator[Event]:
        """What has happened in it since the last call."""
        path = _events_file(self.files)
        with suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n") and len(line) < LONGEST_EVENT:
                    break  # It is being written.
                self._read += len(line)
                with suppress(ValueError, TypeError, KeyError):
                    facts = parse_json(line)
                    yield self._noted(Event(str(facts["event"]), facts))

    def _noted(self, event: Event) -> Event:
        if event.kind == "step-start":
            self.step, self.step_began = str(event.facts["name"]), time.monotonic()
        elif event.kind == "packages":
            done, total = event.facts["done"], event.facts["total"]
            self.step = f"{self.step.partition(' (')[0]} ({done} of {total})"
        return event

    def ask_to_end(self) -> None:
        """Let it clean up and end, as Ctrl-C does."""
        self.asked_to_end = self.asked_to_end or time.monotonic()
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, with what it has started in its session."""
        self.asked_to_end = self.asked_to_end or time.monotonic()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def _send(self, number: int) -> None:
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def result(self) -> Result:
        """How it ended; it has ended."""
        code = self.process.returncode
        document = _document(self.files)
        error = (document or {}).get("error")
        facts: dict[str, Any] = {"seconds": self.seconds, "log": self.log}
        facts |= {"attempts": self.attempts, "document": document}
        if code == 0 and document and not error:
            there = bool(document.get("up_to_date"))
            return Result(State.UP_TO_DATE if there else State.BUILT, **facts)
        if self.asked_to_end and not self.late:
            return Result(State.INTERRUPTED, exit_code=130, error=error, **facts)
        error = error if isinstance(error, dict) else _unexplained(code, late=self.late)
        exit_code = code if code > 0 and not self.late else BUILD_FAILED
        return Result(State.FAILED, exit_code=exit_code, error=error, **facts)


def start_child(
    name: str, command: Sequence[str], files: Path, environment: Mapping[str, str], attempts: int
) -> Child:
    """Start a child in a session of its own, so that Ctrl-C reaches its parent only.

    Where there is setpriv(1), the kernel asks it to end when its parent is gone, also by SIGKILL.

    Args:
        name: Name of its cell.
        command: Its command line.
        files: Its files (host), without their endings.
        environment: Its variables.
        attempts: How often it has been started, with this time.

    Raises:
        OutputError: Its files cannot be written.
        OSError: It cannot be started.
    """
    variables = {key: value for key, value in environment.items() if key not in GITHUB_VARIABLES}
    variables["SLURM_FACTORY_EVENTS_FILE"] = str(_events_file(files))
    with (
        file_errors(files.parent),
        _events_file(files).open("wb"),
        _answer_file(files).open("wb") as answer,
        files.with_name(f"{files.name}.log").open("ab") as log,
    ):
        process = subprocess.Popen(
            [*_dying_with_parent(), *command],
            stdin=subprocess.DEVNULL,
            stdout=answer,
            stderr=log,
            env=variables,
            start_new_session=True,
        )
    return Child(name, attempts, files, process)


def _dying_with_parent() -> list[str]:
    program = which("setpriv")
    return [str(program), "--pdeathsig", "TERM", "--"] if program else []


def _events_file(files: Path) -> Path:
    return files.with_name(f"{files.name}.events.jsonl")


def _answer_file(files: Path) -> Path:
    return files.with_name(f"{files.name}.json")


def _document(files: Path) -> dict[str, Any] | None:
    """What a child has printed; None if it is no document."""
    try:
        found = parse_json(read_bytes(_answer_file(files)))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _unexplained(code: int, *, late: bool) -> dict[str, Any]:
    """The error of a child that gives none."""
    if late:
        brief, details = "It did not end in time.", "It ran longer than matrix_cell_limit allows."
        way = "Look into its log for the step that hangs, or raise SLURM_FACTORY_MATRIX_CELL_LIMIT."
    elif code < 0:
        brief = f"It was ended by {_signal_name(-code)}."
        details = "The kernel does so where memory is short." if code == -signal.SIGKILL else ""
        way = "Look for its end with `journalctl -k`, and run the command again with fewer at once."
    else:
        brief, details = f"It ended with exit code {code} and without a result.", ""
        way = "Look into its log, and run its command alone."
    return {"exit_code": BUILD_FAILED, "brief": brief, "details": details, "resolution": way}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def dumped(document: Mapping[str, Any]) -> str:
    """A document as one text, for a program or a server."""
    return json.dumps(document, default=str)
