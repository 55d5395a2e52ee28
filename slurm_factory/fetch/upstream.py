"""The sources that a plan needs, and the error for missing ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from slurm_factory import resources
from slurm_factory.constants import BASE_GLIBC, BuildType
from slurm_factory.exceptions import ConfigurationError, DownloadError
from slurm_factory.fetch.apt_mirrors import (
    ETC_APT,
    configured_mirrors,
    debian_pool_urls,
    debian_security_urls,
)
from slurm_factory.fetch.sources import Source, archive_extension
from slurm_factory.plan.glibc import ZIG, default_floor
from slurm_factory.plan.plan import BuildRequest
from slurm_factory.plan.releases import catalog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from slurm_factory.config import Settings
    from slurm_factory.plan.bases import Base
    from slurm_factory.plan.plan import BuildPlan
    from slurm_factory.plan.releases import Backports, Release

SLURM = "slurm"
BACKPORTS = "backports"
CLINGO = "clingo"


def sources_for(plan: BuildPlan, settings: Settings) -> dict[str, Source]:
    """Every source archive of a package, by name; `slurm` is Slurm's own, `backports` has Debian's
    patches for it."""
    sources = {SLURM: slurm_source(plan.release, debian_mirrors(settings))}
    if plan.backports:
        sources[BACKPORTS] = backports_source(plan.release, plan.backports, settings)
    return sources | {name: catalog_source(name) for name in plan.selection.sources}


def base_sources(plan: BuildPlan) -> dict[str, Source]:
    """Archives for a new base instance, by name; `clingo` is for Spack, `zig` for a sysroot.

    Raises:
        ConfigurationError: There is none of them for this architecture.
    """
    if plan.setup.spack is None:
        return {}
    sources = {CLINGO: clingo_source(plan.base, plan.architecture)}
    return sources | ({ZIG: zig_source(plan.architecture)} if plan.setup.floor else {})


def zig_source(architecture: str) -> Source:
    """The wheel with the headers and export lists of all releases of glibc.

    Args:
        architecture: As uname(1) names it.

    Raises:
        ConfigurationError: There is none.
    """
    missing = ConfigurationError(
        f"There is no older glibc to compile for on {architecture}.",
        resolution=f"Build with --glibc {BASE_GLIBC}.",
    )
    return _source_or(f"{ZIG}-{architecture}", missing)


def clingo_source(base: Base, architecture: str) -> Source:
    """The wheel of clingo for the Python of a base.

    Args:
        base: The base in which Spack runs.
        architecture: As uname(1) names it.

    Raises:
        ConfigurationError: There is none.
    """
    missing = ConfigurationError(
        f"Spack cannot run on {architecture}.",
        details=f"There is no clingo for Python {base.python} on {architecture}.",
        resolution="Build with --deps system, which needs no Spack.",
    )
    return _source_or(f"{CLINGO}-{base.python}-{architecture}", missing)


def _source_or(name: str, missing: ConfigurationError) -> Source:
    """A source of resources/sources.toml, which not every base or architecture has."""
    if name not in _rows():
        raise missing
    return catalog_source(name)


def slurm_source(release: Release, mirrors: Sequence[str]) -> Source:
    """The archive of a release: upstream's tag, or the same bytes in the Debian archive.

    Args:
        release: What to fetch.
        mirrors: Debian mirrors, the preferred one first.

    Raises:
        ConfigurationError: The catalog has no checksum of it.
    """
    if release.sha256 is None:
        raise ConfigurationError(
            f"The catalog has no checksum of Slurm {release.release}.",
            details=f"Its archive is {release.url}.",
            resolution="Take the checksum from somebody you trust, such as SchedMD's download page"
            " or your own copy of the file (sha256sum), and add --sha256 SUM.",
        )
    pool = debian_pool_urls(release.debian_pool, mirrors) if release.debian_pool else ()
    return Source(
        name=f"Slurm {release.release}",
        sha256=release.sha256,
        size=release.size,
        urls=(release.url, *pool),
        extension=archive_extension(release.archive or release.url),
    )


def backports_source(release: Release, backports: Backports, settings: Settings) -> Source:
    """The archive with Debian's patches for a release."""
    return Source(
        name=f"Debian's patches {backports.name} for Slurm {release.release}",
        sha256=backports.sha256,
        size=backports.size,
        urls=debian_security_urls(
            backports.pool, backports.uploaded, settings.debian_mirror, ETC_APT
        ),
        extension=archive_extension(backports.pool),
    )


def debian_mirrors(settings: Settings) -> tuple[str, ...]:
    """The setting, else this machine's own."""
    if settings.debian_mirror:
        return (settings.debian_mirror,)
    return configured_mirrors(ETC_APT, "debian")


def catalog_source(name: str) -> Source:
    """The source that resources/sources.toml lists under a name."""
    row = _rows()[name]
    return Source(**{**row, "urls": tuple(row["urls"])})


def _rows() -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in resources.load_toml("sources.toml")["source"]}


def not_here(
    missing: Sequence[str], plan: BuildPlan, settings: Settings, note: str = ""
) -> DownloadError:
    """The error that lists everything that is missing, and how to get it.

    Args:
        missing: A name for each missing object.
        plan: What to build.
        settings: Settings of this site.
        note: What else the user should do.
    """
    return DownloadError(
        "--offline: some sources are not in the cache.",
        details=f"Missing: {', '.join(missing)}.",
        resolution=(
            f"Run `{prefetch_command(plan)}` on a machine with a network, and copy"
            f" {settings.cache_dir} from there. {note}"
        ).strip(),
    )


def _given_sha256(release: Release) -> str:
    """The checksum that the user has given, for a release or an archive that the catalog lacks."""
    known = next((each.sha256 for each in catalog() if each.release == release.release), None)
    given = not known or (release.location and not release.commit)
    return release.sha256 or "" if given else ""


def prefetch_command(plan: BuildPlan) -> str:
    """The command that fills the caches for a plan, on any machine."""
    request = BuildRequest(
        plan.requested,
        gpu=plan.build_type is BuildType.GPU,
        minimal=plan.build_type is BuildType.MINIMAL,
        additional_variants=" ".join(f"{'+' if on else '~'}{n}" for n, on in plan.variants.items()),
        deps=plan.deps,
        base=plan.base.name,
        glibc="" if plan.floor == default_floor(plan.deps) else plan.floor or BASE_GLIBC,
        arch=plan.architecture if plan.is_cross else "",
        backports=plan.backports is not None or plan.release.backports is None,
        patches=plan.site_patches,
        source=plan.release if plan.release.location else None,
        sha256=_given_sha256(plan.release),
    )
    return request.command("prefetch")
