"""Which source archives a plan needs, and where each can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slurm_factory import resources
from slurm_factory.mirrors import ETC_APT, configured_mirrors, debian_pool_urls
from slurm_factory.sources import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_factory.config import Settings
    from slurm_factory.plan import BuildPlan
    from slurm_factory.releases import Release

SLURM = "slurm"


def sources_for(plan: BuildPlan, settings: Settings) -> dict[str, Source]:
    """Every source archive by name; `slurm` is Slurm's own."""
    rows = {row["name"]: row for row in resources.load_toml("sources.toml")["source"]}
    further = {
        name: Source(**{**rows[name], "urls": tuple(rows[name]["urls"])})
        for name in plan.selection.sources
    }
    return {SLURM: slurm_source(plan.release, debian_mirrors(settings)), **further}


def slurm_source(release: Release, mirrors: Sequence[str]) -> Source:
    """The archive of a release: upstream's tag, or the same bytes in the Debian archive.

    Args:
        release: What to fetch.
        mirrors: Debian mirrors, the preferred one first.
    """
    pool = debian_pool_urls(release.debian_pool, mirrors) if release.debian_pool else ()
    return Source(
        name=f"Slurm {release.release}",
        sha256=release.sha256,
        size=release.size,
        urls=(release.url, *pool),
        extension=".tar.gz",
    )


def debian_mirrors(settings: Settings) -> tuple[str, ...]:
    """The setting, else this machine's own."""
    if settings.debian_mirror:
        return (settings.debian_mirror,)
    return configured_mirrors(ETC_APT, "debian")
