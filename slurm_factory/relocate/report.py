"""What an audit finds: plain records."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from slurm_factory.exceptions import VerificationError

SHOWN_PROBLEMS = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a tree may not run elsewhere; `path` is relative to the tree."""

    path: PurePosixPath
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True, slots=True)
class OutsideLibrary:
    """A library that the machine must have, or may have if files only open it by name.

    `versions` are the symbol versions asked of it; `packages` what provides it, by package manager.
    """

    soname: str
    reason: str
    packages: dict[str, str]
    versions: tuple[str, ...]
    linked_by: tuple[PurePosixPath, ...]
    opened_by: tuple[PurePosixPath, ...]


@dataclass(frozen=True, slots=True)
class BundledLibrary:
    """A library in `lib/private` or below; `soname` is the one it had before it was tagged.

    Plugins that a library brings along often have no soname of their own: theirs is the file name.
    """

    path: PurePosixPath
    soname: str
    tagged: bool


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that relocation cannot mend, for the manifest."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Everything an audit found; `glibc` is the release the tree needs, None if any will do."""

    problems: tuple[Problem, ...]
    glibc: str | None
    outside: tuple[OutsideLibrary, ...]
    bundled: tuple[BundledLibrary, ...]
    limits: tuple[Limit, ...]

    def require_clean(self) -> None:
        """Do nothing if there are no problems.

        Raises:
            VerificationError: There are; it names the first few and how many there are.
        """
        if self.problems:
            first = "; ".join(str(problem) for problem in self.problems[:SHOWN_PROBLEMS])
            raise VerificationError(
                f"The audit found {len(self.problems)} problem(s): the tree is not relocatable.",
                details=first,
                resolution=(
                    "A package from `slurm-factory build` never has these: build it again, and if"
                    " they stay report them with the build log."
                ),
            )
