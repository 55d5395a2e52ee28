"""Known advisories of Slurm releases, and how long upstream maintains a series. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cache
from typing import TYPE_CHECKING

from packaging.version import Version
from pydantic import BaseModel, ConfigDict

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.plan.releases import catalog, series
from slurm_factory.resources import load_toml

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from slurm_factory.plan.plan import BuildPlan
    from slurm_factory.plan.releases import Release

MOST_NAMED = 3


class Advisory(BaseModel):
    """A hole in Slurm that has been published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    summary: str
    date: date
    affected: tuple[str, ...]
    """Series of which somebody has published that they have it."""
    suspected: tuple[str, ...] = ()
    """Series of which nobody has, and whose source has the same code."""
    fixed: Mapping[str, str]
    """The first release without it, by series; a series that is missing here has none."""
    source: str

    def concerns(self, release: str) -> bool:
        """Whether a release, such as 24.11.5, is known to have the hole."""
        return _series_of(release) in self.affected and not self._is_fixed_in(release)

    def may_concern(self, release: str) -> bool:
        """Whether nobody has said so, and the source looks like it."""
        return _series_of(release) in self.suspected and not self._is_fixed_in(release)

    def _is_fixed_in(self, release: str) -> bool:
        first = self.fixed.get(_series_of(release))
        return first is not None and Version(release) >= Version(first)


class Support(BaseModel):
    """How long upstream maintains a series."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    support_ended: date
    source: str


def advisories() -> tuple[Advisory, ...]:
    """All advisories, the oldest first."""
    return _read()[0]


def support_ends(of: str) -> date | None:
    """The last day on which upstream maintains a series; None if nothing is known about it."""
    return _read()[1].get(of)


@cache
def _read() -> tuple[tuple[Advisory, ...], dict[str, date]]:
    document = load_toml("advisories.toml")
    found = [Advisory.model_validate(row) for row in document["advisory"]]
    rows = [Support.model_validate(row) for row in document["series"]]
    ends = {row.name: row.support_ended for row in rows}
    return tuple(sorted(found, key=lambda each: (each.date, each.id))), ends


def known_advisories(release: str, fixed: Collection[str] = ()) -> tuple[Advisory, ...]:
    """The advisories that a release has.

    Args:
        release: Such as 24.11.5.
        fixed: Advisories that patches of the package fix.
    """
    return tuple(each for each in advisories() if each.concerns(release) and each.id not in fixed)


def suspected_advisories(release: str, fixed: Collection[str] = ()) -> tuple[Advisory, ...]:
    """The advisories that a release may have, although nobody has said so; as above."""
    return tuple(e for e in advisories() if e.may_concern(release) and e.id not in fixed)


def is_supported(of: str, today: date) -> bool:
    """Whether upstream maintains a series; one that nothing is known about is new."""
    ends = support_ends(of)
    return ends is None or today <= ends


def way_out(release: str, today: date, among: Sequence[Release] = ()) -> str:
    """The release to take instead of one with advisories; empty if there is none.

    It is the newest of the same series if upstream maintains that and no advisory is known of it,
    else the newest of the next such series. One of another series has to have a checksum.

    Args:
        release: Such as 24.11.7.
        today: Decides which series are maintained.
        among: All known releases, oldest first; empty: those of the catalog.
    """
    of = _series_of(release)
    for name in series(among):
        if Version(name) < Version(of) or not is_supported(name, today):
            continue
        members = [each for each in among or catalog() if each.series == name]
        newest = members[-1]
        better = name != of or Version(newest.release) > Version(release)
        if better and (newest.sha256 or name == of) and not known_advisories(newest.release):
            return newest.release
    return ""


def warning_for(plan: BuildPlan, today: date, among: Sequence[Release] = ()) -> str:
    """One line about the known advisories of a package and the end of its series; empty: nothing
    is known.

    Args:
        plan: What to build.
        today: Date of the build.
        among: All known releases; empty: those of the catalog.
    """
    release = plan.release
    known = known_advisories(release.release, plan.fixed_advisories)
    suspected = suspected_advisories(release.release, plan.fixed_advisories)
    ends = support_ends(release.series)
    ended = ends is not None and today > ends
    parts = []
    if known:
        parts.append(f"has {_counted(known, 'known')} ({named(known)})")
    if suspected:
        parts.append(f"may have {_counted(suspected, 'unconfirmed')} ({named(suspected)})")
    if ended:
        parts.append(f"gets no more fixes: upstream's support of {release.series} ended on {ends}")
    if not parts:
        return ""
    better = way_out(release.release, today, among) if known or ended else ""
    advice = f"; the release to build is {better}" if better else ""
    return f"Slurm {release.release}{plan.suffix} {', and '.join(parts)}{advice}."


def _counted(found: Sequence[Advisory], kind: str) -> str:
    article = "an" if kind[0] in "aeiou" else "a"
    return f"{article} {kind} advisory" if len(found) == 1 else f"{len(found)} {kind} advisories"


def require_no_advisories(plan: BuildPlan, today: date, among: Sequence[Release] = ()) -> None:
    """Refuse a package with known advisories: `--strict`; the arguments are those of
    `warning_for`.

    Raises:
        ConfigurationError: It would have some.
    """
    release = plan.release.release
    known = known_advisories(release, plan.fixed_advisories)
    if not known:
        return
    better = way_out(release, today, among)
    build = f"Build {better}" if better else "Wait for a release that fixes them"
    raise ConfigurationError(
        f"Slurm {release}{plan.suffix} has {_counted(known, 'known')}.",
        details=f"{', '.join(each.id for each in known)}. --strict, or"
        " SLURM_FACTORY_REFUSE_VULNERABLE, refuses it.",
        resolution=f"{build}, or build without --strict. `slurm-factory versions` has the details.",
    )


def named(found: Sequence[Advisory]) -> str:
    """The newest few, for one line."""
    names = [each.id for each in found[::-1]]
    if len(names) > MOST_NAMED:
        return f"{', '.join(names[: MOST_NAMED - 1])} and {len(names) - MOST_NAMED + 1} more"
    return ", ".join(names)


def _series_of(release: str) -> str:
    return release.rpartition(".")[0]
