"""Hardening: what compiler and linker put into ELF files against exploits, counted and compared."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import PurePosixPath
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from slurm_factory.constants import Deps
from slurm_factory.exceptions import VerificationError
from slurm_factory.resources import load_json

SHOWN_FILES = 3


class Relro(StrEnum):
    """How much of its relocated data the loader makes read-only."""

    NONE = "none"
    PARTIAL = "partial"
    """Without the addresses of functions, which are looked up at their first call."""
    FULL = "full"


class Figure(StrEnum):
    """A counted property of files."""

    RELRO = "relro"
    """Partial or full."""
    RELRO_FULL = "relro_full"
    PIE = "pie"
    CANARY = "canary"
    FORTIFY = "fortify"
    CONTROL_FLOW = "control_flow"


@dataclass(frozen=True, slots=True)
class Hardening:
    """Hardening of one ELF file, by the rules of Debian's hardening-check(1) and of checksec.

    None: it does not apply to the file, or the file does not show it.

    Attributes:
        relro: Read-only relocations.
        pie: Whether a program is position-independent; None for shared objects, which all are.
        canary: Whether it imports what a damaged stack canary calls. A file whose functions need
            no canary imports nothing either.
        fortify: Whether it imports a checked variant of a function, such as `__memcpy_chk`; False
            if it imports only functions that have one. The compiler cannot check all calls.
        control_flow: Whether all of its code supports IBT and SHSTK (x86-64), or BTI and PAC
            (aarch64); None for other architectures.
        executable_stack: Whether the loader has to make the stack executable.
    """

    relro: Relro = Relro.NONE
    pie: bool | None = None
    canary: bool | None = None
    fortify: bool | None = None
    control_flow: bool | None = None
    executable_stack: bool = False

    def has(self, figure: Figure) -> bool | None:
        """Whether the file has a property; None if the file does not count."""
        return {
            Figure.RELRO: self.relro is not Relro.NONE,
            Figure.RELRO_FULL: self.relro is Relro.FULL,
            Figure.PIE: self.pie,
            Figure.CANARY: self.canary,
            Figure.FORTIFY: self.fortify,
            Figure.CONTROL_FLOW: self.control_flow,
        }[figure]


HardeningByPath: TypeAlias = dict[PurePosixPath, Hardening]
"""Hardening by path relative to a tree."""
Group: TypeAlias = Literal["slurm", "plugins", "bundled"]
"""Slurm's programs and libraries, its plugins, and the other files of a package."""
Floors: TypeAlias = dict[Figure, Annotated[float, Field(ge=0, le=1)] | None]
"""The lowest allowed share of files by figure, from 0 to 1; None allows every share."""


class Share(BaseModel):
    """How many files have a property, `of` those that count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    have: int
    of: int

    def __str__(self) -> str:
        return f"{self.have} of {self.of}"


def count(files: Iterable[Hardening]) -> dict[Figure, Share]:
    """Every figure of several files."""
    counted = list(files)
    found = {figure: [file.has(figure) for file in counted] for figure in Figure}
    return {
        figure: Share(have=has.count(True), of=len(has) - has.count(None))
        for figure, has in found.items()
    }


def require_floors(groups: Mapping[Group, HardeningByPath], floors: Mapping[Group, Floors]) -> None:
    """Do nothing if no figure is below its floor.

    Raises:
        VerificationError: One is; lists every such figure with some of the files that lack the
            property.
    """
    fallen = [
        f"{group}: {text}"
        for group, files in groups.items()
        for text in _fallen(files, floors[group])
    ]
    if fallen:
        raise VerificationError(
            "The package is less hardened than those of the release before.",
            details="; ".join(fallen),
            resolution=(
                "If compiler flags, the base or a package changed on purpose, correct the floor in"
                " resources/hardening.json; otherwise report it with the build log."
            ),
        )


def _fallen(files: HardeningByPath, floors: Floors) -> Iterator[str]:
    for figure, share in count(files.values()).items():
        floor = floors[figure]
        if floor is not None and share.have < share.of and share.have / share.of < floor:
            lacking = [str(path) for path, file in files.items() if file.has(figure) is False]
            more = ["…"] * (len(lacking) > SHOWN_FILES)
            shown = ", ".join([*lacking[:SHOWN_FILES], *more])
            ratio = f"{share.have / share.of:.3f}, floor {floor:.3f}"
            yield f"{figure} {share} ({ratio}), not {shown}"


@cache
def load_floors() -> dict[Deps, dict[Group, Floors]]:
    """The floors of packages of the default recipes (`resources/hardening.json`)."""
    return TypeAdapter(dict[Deps, dict[Group, Floors]]).validate_python(load_json("hardening.json"))
