"""Reading what a process prints, line by line, and ending all of it when that is broken off."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from slurm_factory.disks import FULL

TAIL_LINES = 200
ERROR = re.compile(rf"\b(error|E|Err)\b:|{FULL.pattern}", re.IGNORECASE)

# How every process is started: without a terminal, and in a session of its own so that Ctrl-C
# reaches this program only, which then decides what to stop.
PIPED: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.STDOUT,
    "text": True,
    "encoding": "utf-8",
    "errors": "replace",
    "start_new_session": True,
}


def follow(
    process: subprocess.Popen[Any], on_line: Callable[[str], None], *, grace: float = 0.0
) -> tuple[int, Sequence[str]]:
    """Pass on every line until the process ends.

    Args:
        process: Started with `PIPED`.
        on_line: Takes each line, without its end.
        grace: Seconds to clean up in that the process is given when this is broken off.

    Returns:
        Its exit status and its last lines.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with process:
        try:
            for line in process.stdout or ():
                tail.append(str(line).rstrip("\n"))
                on_line(tail[-1])
        except BaseException:
            # Before the end of `with`, which waits for the process.
            _end_session(process, grace)
            raise
    return process.returncode, tail


def telling_line(tail: Sequence[str], default: str) -> str:
    """The last line that says what went wrong, else the last that says something."""
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
