"""Records for the screen: steps, packages, errors."""

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
        depth: Number of enclosing steps.
        propagated: It failed only because a step inside it failed.
    """

    name: str
    seconds: float
    outcome: Outcome
    depth: int = 0
    propagated: bool = False


@dataclass(frozen=True)
class PackageProgress:
    """Progress of the packages of a build.

    Attributes:
        done: Number of finished packages.
        total: Number of all packages.
        cached: Number of finished packages from a cache.
        active: Packages in progress, a line each.
        last: The last finished package; empty if there is none.
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
class SourceError:
    """What a compiler says about a place in a source.

    Attributes:
        file: Name of the file, from the top of its source if that is known.
        line: Number of the line.
        column: Number of the column; 0: the compiler does not say.
        text: What is wrong there.
    """

    file: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        column = f":{self.column}" if self.column else ""
        return f"{self.file}:{self.line}{column}: error: {self.text}"


@dataclass(frozen=True)
class ErrorText:
    """An error as shown to the user, without empty parts."""

    brief: str
    details: str = ""
    resolution: str = ""
    log: Path | None = None

    @property
    def explanation(self) -> tuple[str, ...]:
        """The lines under the first one."""
        log = f"log: {self.log}" if self.log else ""
        return tuple(part for part in (self.details, self.resolution, log) if part)


def duration(seconds: float) -> str:
    """`3.4 s`, `2 min 05 s`, `1 h 02 min`."""
    if round(seconds, 1) < SECONDS:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), SECONDS)
    if minutes < MINUTES:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // MINUTES} h {minutes % MINUTES:02} min"
