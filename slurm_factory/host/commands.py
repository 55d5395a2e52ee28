"""Running programs on this machine, with a time limit and, where needed, as root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from slurm_factory.proxies import proxies

SEARCH_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin:/snap/bin"
"""A user of Debian has no sbin directory in PATH, and a shell older than snapd no /snap/bin."""

NOT_FOUND = 127
TIMED_OUT = 124
QUERY_SECONDS = 10.0


@dataclass(frozen=True)
class Outcome:
    """What a program left: its exit status, or 127 when there is none, or 124 after the limit.

    Output and errors are empty where they went to a log.
    """

    status: int
    output: str
    errors: str

    @property
    def ok(self) -> bool:
        """Whether the program succeeded."""
        return self.status == 0


def which(program: str) -> Path | None:
    """Path (host) of a program, also in the directories that only root or snapd's shells search."""
    found = shutil.which(program, path=SEARCH_PATH)
    return Path(found) if found else None


def run(
    argv: Sequence[str],
    *,
    seconds: float = QUERY_SECONDS,
    text: str = "",
    out_of_reach: bool = False,
) -> Outcome:
    """Run a program to its end, or kill it.

    Args:
        argv: The program and its arguments.
        seconds: Time after which it is killed.
        text: Its standard input.
        out_of_reach: Give it a session of its own, where Ctrl-C does not reach it.
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
            start_new_session=out_of_reach,
        )
    except FileNotFoundError as error:
        return Outcome(NOT_FOUND, "", str(error))
    except subprocess.TimeoutExpired:
        return Outcome(TIMED_OUT, "", f"{argv[0]} did not answer within {seconds:g} s")
    return Outcome(done.returncode, done.stdout, done.stderr)


def run_logged(argv: Sequence[str], log: IO[str]) -> Outcome:
    """Run a program that limits its own time and may ask on the terminal (sudo(8)).

    Args:
        argv: The program and its arguments.
        log: Open file (host) that takes all it prints.
    """
    done = subprocess.run(
        argv, check=False, stdout=log, stderr=subprocess.STDOUT, env=environment()
    )
    return Outcome(done.returncode, "", "")


def environment() -> dict[str, str]:
    """This process's environment with the wider search path, untranslated messages, and the proxies
    in the spelling that all programs read."""
    own = {"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8"}
    return {**os.environ, **proxies(os.environ), **own}
