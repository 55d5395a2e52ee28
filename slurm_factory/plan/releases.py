"""The catalog of available Slurm releases."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from packaging.version import Version
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt

from slurm_factory.constants import LATEST
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.resources import load_json
from slurm_factory.util.hints import nearest, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

TAGS = "https://github.com/SchedMD/slurm/archive/refs/tags"
DOWNLOADS = "https://download.schedmd.com/slurm"
VERSION_PATTERN = re.compile(
    r"(?:slurm-|v)?([0-9]{2})[.-]([0-9]{2})(?![0-9])(?:[.-]([0-9]+))?", re.ASCII
)
"""A series, or a release in the notation of users, tags and Spack: 25.05.8, slurm-25-05-8-1,
25-05-8-1."""


def _day(text: str) -> str:
    date.fromisoformat(text)
    return text


def _location(text: str) -> str:
    urlsplit(text)
    if not text.isprintable():
        raise ValueError("It has control characters.")
    return text


Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"), AfterValidator(_day)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Member = Annotated[str, Field(pattern=r"^(?:[0-9A-Za-z._+-]+/)*[0-9A-Za-z][0-9A-Za-z._+-]{0,99}$")]
"""A file in an archive."""
Word = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]*$")]
"""Part of a file name."""


class Backports(BaseModel):
    """Patches of Debian for a release that upstream no longer maintains."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9]{1,20}$")]
    """Debian's revision, such as deb13u1: a part of the package's name."""
    pool: Annotated[str, Field(pattern=r"^pool/[0-9A-Za-z/._+~-]+$")]
    """Path below a mirror of Debian's security archive."""
    uploaded: Day
    """Date of the upload, as snapshot.debian.org finds it."""
    sha256: Sha256
    size: PositiveInt
    patches: tuple[Member, ...]
    """Files in the archive, in their order."""
    fixes: tuple[Annotated[str, Field(pattern=r"^[A-Z0-9-]{1,40}$")], ...]
    """Advisories that they fix."""


class Release(BaseModel):
    """One release of Slurm and its source archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release: Annotated[
        str, Field(pattern=r"^[0-9]{2}\.[0-9]{2}\.[0-9]{1,3}(?:(?:rc|a|b)[0-9]{1,3})?$")
    ]
    series: Annotated[str, Field(pattern=r"^[0-9]{2}\.[0-9]{2}$")]
    spack_version: Word
    tag: Word
    date: Day
    sha256: Sha256 | None
    """None: no checksum is known, and the user has to give one."""
    size: PositiveInt | None = None
    debian_pool: Annotated[str, Field(pattern=r"^pool/[0-9A-Za-z/._+~-]+$")] | None = None
    """Path of the same file below a Debian mirror, if there is one."""
    archive: Annotated[str, Field(pattern=r"^(?:[0-9A-Za-z][0-9A-Za-z._-]*)?$")] = ""
    """File name of the source archive; by default, that of the tag."""
    backports: Backports | None = None
    location: Annotated[str, AfterValidator(_location)] = ""
    """Where the user has it from; empty for a release of the catalog."""
    commit: Annotated[str, Field(pattern=r"^(?:[0-9a-f]{40})?$")] = ""
    """The commit of a source from a repository."""

    @property
    def epoch(self) -> int:
        """The release date as POSIX seconds, the time of all files in a package."""
        return int(datetime.fromisoformat(self.date).replace(tzinfo=UTC).timestamp())

    @property
    def backported(self) -> tuple[str, ...]:
        """Advisories that its backports fix."""
        return self.backports.fixes if self.backports else ()

    @property
    def url(self) -> str:
        """Upstream's URL of the archive, or the place of the user's."""
        if self.location:
            return self.location
        return f"{DOWNLOADS}/{self.archive}" if self.archive else f"{TAGS}/{self.tag}.tar.gz"


@cache
def catalog() -> tuple[Release, ...]:
    """All releases, oldest first."""
    releases = (Release.model_validate(entry) for entry in load_json("releases.json")["releases"])
    return tuple(sorted(releases, key=lambda release: Version(release.release)))


def series(among: Sequence[Release] = ()) -> tuple[str, ...]:
    """All series, oldest first, of some releases or of the catalog."""
    return tuple(dict.fromkeys(release.series for release in among or catalog()))


def find_release(version: str, among: Sequence[Release] = ()) -> Release:
    """The newest release of a series (`25.05`) or of all (`latest`), or exactly one (`25.05.1`).

    Args:
        version: Such a name.
        among: The releases to choose from, oldest first; empty: those of the catalog.

    Raises:
        ConfigurationError: It is not in the catalog; suggests the nearest one.
    """
    among = among or catalog()
    matching = [r for r in among if version in (r.release, r.series, LATEST)]
    if matching:
        return matching[-1]
    raise ConfigurationError(
        f"There is no Slurm release {quoted(version)} in the catalog.",
        details=f"The nearest is {_nearest(version, among)}.",
        resolution="`slurm-factory versions` lists the releases that can be built, and with"
        " --update asks upstream for new ones.",
    )


def _nearest(version: str, among: Sequence[Release]) -> str:
    """The most similar release, else the nearest series by date: 25.05 for 25.06.

    A series means its newest release.
    """
    match = VERSION_PATTERN.match(version)
    if match is None:
        begun = [name for name in series(among) if name.startswith(version)]
        names = [LATEST, *(release.release for release in among), *series(among)]
        return begun[-1] if begun else nearest(version, names) or series(among)[-1]
    asked_series = f"{match[1]}.{match[2]}"
    meant = f"{asked_series}.{(match[3] or '').lstrip('0') or '0'}"
    if match[3] and meant in {release.release for release in among}:
        return meant
    asked = _months(asked_series)
    near_series = min(series(among), key=lambda name: (abs(_months(name) - asked), -_months(name)))
    return find_release(near_series, among).release if near_series == asked_series else near_series


def _months(series_name: str) -> int:
    year, month = series_name.split(".")
    return 12 * int(year) + int(month)
