"""The distributions on which a package starts, by what it needs of their C library and compiler."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from packaging.version import Version
from pydantic import BaseModel, ConfigDict

from slurm_factory.exceptions import VerificationError
from slurm_factory.resources import load_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VERSION = re.compile(r"([A-Z]+)_(\d+(?:\.\d+)*)", re.ASCII)


class Distribution(BaseModel):
    """A distribution, whose C library and compiler's libraries keep their releases.

    Attributes:
        name: For display.
        glibc: Release of its C library.
        versions: Newest versions of symbols in the compiler's libraries, by their prefix
            (gcc.gnu.org/onlinedocs/libstdc++/manual/abi.html; libgcc/libgcc-std.ver.in and
            libgfortran/gfortran.map of GCC).
    """

    model_config = ConfigDict(frozen=True)

    name: str
    glibc: str
    versions: dict[str, str]

    def starts(self, glibc: str, versions: Iterable[str]) -> bool:
        """Whether files start on it that need a release of glibc, and versions of symbols."""
        return Version(self.glibc) >= Version(glibc) and not self.lacks(versions)

    def lacks(self, versions: Iterable[str]) -> tuple[str, ...]:
        """Those of the versions of symbols, such as GLIBCXX_3.4.29, that it has not."""
        return tuple(version for version in versions if _is_above(version, self.versions))


@cache
def distributions() -> tuple[Distribution, ...]:
    """All known distributions (`resources/distributions.json`)."""
    document = load_json("distributions.json")
    return tuple(
        Distribution(name=row["name"], glibc=row["glibc"], versions=document["gcc"][row["gcc"]])
        for row in document["distributions"]
    )


def distributions_with(glibc: str, versions: Iterable[str] = ()) -> tuple[str, ...]:
    """Names of the distributions on which a package starts.

    Args:
        glibc: The release that it needs, such as 2.36.
        versions: Versions of symbols that it needs of the compiler's libraries.
    """
    needed = tuple(versions)
    return tuple(each.name for each in distributions() if each.starts(glibc, needed))


def require_startable(floor: str, versions: Iterable[str]) -> None:
    """Refuse versions of symbols that the distributions with the oldest C library have not.

    Args:
        floor: The release of glibc that was compiled for.
        versions: Versions of symbols that the package needs of the compiler's libraries.

    Raises:
        VerificationError: It would not start on one of them.
    """
    newer = [each for each in distributions() if Version(each.glibc) >= Version(floor)]
    oldest = min(Version(each.glibc) for each in newer)
    needed = tuple(versions)
    for each in newer:
        if Version(each.glibc) == oldest and (missing := each.lacks(needed)):
            raise VerificationError(
                f"The package would not start on {each.name}.",
                details=f"It needs {', '.join(missing)}, newer than the libraries of its compiler.",
                resolution="Leave out the feature that needs C++ or Fortran, or build with a newer"
                " --glibc.",
            )


def _is_above(version: str, newest: Mapping[str, str]) -> bool:
    match = VERSION.fullmatch(version)
    if match is None or match[1] not in newest:
        return False
    return Version(match[2]) > Version(newest[match[1]])
