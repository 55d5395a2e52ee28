"""What the screen is told: steps, errors, results."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

SECONDS: Final = 60
MINUTES: Final = 60


class Outcome(StrEnum):
    """How a step ended."""

    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class StepRecord:
    """A step that has ended.

    Attributes:
        name: What it did.
        seconds: Wall-clock time.
        outcome: How it ended.
        depth: How many steps it was a part of.
        blameless: It failed only because a step inside it did.
    """

    name: str
    seconds: float
    outcome: Outcome
    depth: int = 0
    blameless: bool = False


@dataclass(frozen=True)
class PackageProgress:
    """How far the packages of a build are.

    Attributes:
        done: How many are finished.
        total: How many there are.
        cached: How many of those that are finished came from a cache.
        active: What is being worked on, a line each.
        last: What was finished last; empty where nothing is.
    """

    done: int
    total: int
    cached: int
    active: tuple[str, ...] = ()
    last: str = ""

    @property
    def summary(self) -> str:
        """Such as `12 of 24 packages, 9 from the build cache`."""
        cached = f", {self.cached} from the build cache" if self.cached else ""
        return f"{self.done} of {self.total} packages{cached}"


@dataclass(frozen=True)
class ErrorText:
    """An error as the user reads it; empty parts are not shown."""

    brief: str
    details: str = ""
    resolution: str = ""
    log: Path | None = None

    @property
    def explanation(self) -> tuple[str, ...]:
        """The lines under the first one."""
        log = f"log: {self.log}" if self.log else ""
        return tuple(part for part in (self.details, self.resolution, log) if part)


@dataclass(frozen=True)
class FileRecord:
    """A file that a build left: path (host), size in bytes, SHA-256 checksum."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class PackageRecord:
    """A package that the build installed, and the seconds that took.

    `cached`: it came from a build cache; otherwise it was compiled.
    """

    name: str
    seconds: float
    cached: bool


@dataclass(frozen=True)
class Results:
    """What is told at the end of a build.

    Attributes:
        files: What the build left.
        glibc: The glibc version that the package needs at least, such as `2.36`; empty: none.
        distributions: Names of distributions that have it.
        packages: What Spack installed on the way; none for the other recipe.
        compilations: How many compilations ccache had the result of, and how many there were.
    """

    files: tuple[FileRecord, ...] = ()
    glibc: str = ""
    distributions: tuple[str, ...] = ()
    packages: tuple[PackageRecord, ...] = ()
    compilations: tuple[int, int] = (0, 0)


def duration(seconds: float) -> str:
    """`3.4 s`, `2 min 05 s`, `1 h 02 min`."""
    if round(seconds, 1) < SECONDS:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), SECONDS)
    if minutes < MINUTES:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // MINUTES} h {minutes % MINUTES:02} min"
