"""Why a package failed, from Spack's output and the build log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from pathlib import PurePosixPath

from slurm_factory.instances.instance import COMPILER_KILLED
from slurm_factory.util.files import disk_full_lines

FAILED_PACKAGE = re.compile(r"(?P<label>[^\s@/]+@[^\s/]+)/(?P<hash>[a-z0-9]{32}): (?P<log>/.+)")
"""A line of the new installer's final list (Spack 1.1, PackageInstaller)."""
TRACEBACK = "Traceback (most recent call last):"
ERROR_LINE = re.compile(
    r"\b(fatal )?error:|^CMake Error|undefined reference|cannot find -l|\*\*\* |"
    r"command not found|Killed signal",
    re.IGNORECASE,
)
RAISED = re.compile(r"(?P<direct>==> Error: )?(?P<kind>[A-Za-z_][\w.]*(Error|Exception)): ")
"""The last line of a traceback, or the form that Spack's old installer gives it."""
PERMANENT = re.compile(r"HTTP (Error )?4\d\d|404|ChecksumError|No such file or directory")
"""Errors that another try does not fix."""
SHOWN = 5


class Cause(StrEnum):
    """The kind of a failure."""

    BUILD = "build"
    FETCH = "fetch"
    CHECKSUM = "checksum"
    DISK = "disk"
    MEMORY = "memory"


@dataclass(frozen=True)
class FailedPackage:
    """A package in Spack's list, and its build log (instance)."""

    label: str
    hash: str
    log: PurePosixPath

    @property
    def stage(self) -> str:
        """Name of its stage without Spack's prefix."""
        name = self.log.parent.name.removeprefix("spack-stage-")
        return name if name.strip(".") else self.hash


@dataclass(frozen=True)
class Reason:
    """Why a package failed: what kind of failure, and the error lines, the most specific first.

    `transient`: trying again may help.
    """

    cause: Cause
    lines: tuple[str, ...]
    transient: bool = False


def failed_packages(output: Sequence[str]) -> tuple[FailedPackage, ...]:
    """The packages that Spack's `output` lists as failed at its end."""
    found = (FAILED_PACKAGE.fullmatch(line.strip()) for line in output)
    return tuple(FailedPackage(m["label"], m["hash"], PurePosixPath(m["log"])) for m in found if m)


def explain(log: Sequence[str]) -> Reason | None:
    """The reason in the lines of a build log; None if they have none."""
    full = tuple(dict.fromkeys(disk_full_lines(log)))
    if full:
        return Reason(Cause.DISK, full[:SHOWN])
    exception = _exception(log)
    if exception and _raised(exception) == "ChecksumError":
        return Reason(Cause.CHECKSUM, exception)
    if exception and _raised(exception) == "FetchError":
        return _not_fetched(exception)
    output = log[: log.index(TRACEBACK)] if TRACEBACK in log else log
    errors = tuple(dict.fromkeys(line.strip() for line in output if ERROR_LINE.search(line)))
    lines = (errors or exception)[:SHOWN]
    if any(COMPILER_KILLED in line for line in (*errors, *exception)):
        return Reason(Cause.MEMORY, lines)
    return Reason(Cause.BUILD, lines) if lines else None


def _exception(log: Sequence[str]) -> tuple[str, ...]:
    """The last Python error in a log: its line and the following details."""
    raised = [n for n, line in enumerate(log) if (m := RAISED.match(line)) and _counts(m, log[:n])]
    if not raised:
        return ()
    first, *rest = log[raised[-1] :]
    belonging = takewhile(lambda line: line[:1].isspace() or not line, rest)
    message = first.removeprefix("==> Error: ")
    kind, _, text = message.partition(": ")
    return (
        f"{kind.rpartition('.')[2]}: {text}",
        *(line.strip() for line in belonging if line.strip()),
    )


def _counts(raised: re.Match[str], before: Sequence[str]) -> bool:
    """A compiler's message may look like a Python error, but only the latter follows a
    traceback."""
    return raised["direct"] is not None or TRACEBACK in before


def _raised(exception: Sequence[str]) -> str:
    return exception[0].partition(": ")[0]


def _not_fetched(exception: tuple[str, ...]) -> Reason:
    """One line for each tried URL; the first only says that none had it."""
    asked = [line for line in exception[1:] if "No such file or directory" not in line]
    wrong = any("ChecksumError" in line for line in asked)
    return Reason(
        Cause.CHECKSUM if wrong else Cause.FETCH,
        tuple(asked or exception)[:SHOWN],
        transient=any(not PERMANENT.search(line) for line in asked),
    )
