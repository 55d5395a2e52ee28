"""From the words of a command line to a request, and to the plan of a build."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory.cache_dir import make_cache_dir
from slurm_factory.constants import DEFAULT_BASE, DEFAULT_DEPS, Deps
from slurm_factory.exceptions import ConfigurationError
from slurm_factory.fetch.site_patches import read_site_patches
from slurm_factory.plan.bases import host_release
from slurm_factory.plan.plan import BuildPlan, BuildRequest, make_plan, require_plain_path

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.plan.plan import SpackChoice
    from slurm_factory.plan.releases import Release


@dataclass(frozen=True)
class BuildOptions:
    """The options of `build` that say what to build, as they were given."""

    slurm_version: str = ""
    source: str = ""
    sha256: str = ""
    gpu: bool = False
    minimal: bool = False
    additional_variants: str = ""
    deps: str = DEFAULT_DEPS.value
    base: str = DEFAULT_BASE
    glibc: str = ""
    arch: str = ""
    destructive_mode: bool = False
    jobs: int | None = None
    offline: bool = False
    backports: bool = True
    patches: tuple[Path, ...] = ()
    suffix: str = ""

    def words(self) -> list[str]:
        """The options as words of a command line."""
        values = {
            "--slurm-version": self.slurm_version,
            "--source": self.source,
            "--sha256": self.sha256,
            "--additional-variants": self.additional_variants,
            "--deps": self.deps,
            "--base": self.base,
            "--glibc": self.glibc,
            "--arch": self.arch,
            "--suffix": self.suffix,
            "--jobs": str(self.jobs or ""),
        }
        flags = {
            "--gpu": self.gpu,
            "--minimal": self.minimal,
            "--destructive-mode": self.destructive_mode,
            "--offline": self.offline,
            "--no-backports": not self.backports,
        }
        words = [f"{option}={value}" for option, value in values.items() if value]
        words += [f"--patch={path}" for path in self.patches]
        return words + [flag for flag, given in flags.items() if given]


@contextmanager
def open_machine(options: BuildOptions, settings: Settings) -> Iterator[str]:
    """Architecture of the machine that builds; inside, LXD is that of the remote in the settings.

    Raises:
        ConfigurationError: There is no such remote or target, or an option contradicts it.
        LXDError: The remote cannot be used.
    """
    if not settings.remote:
        if settings.target:
            raise ConfigurationError(
                "--target names a member of a cluster, and there is no --remote.",
                details="LXD on this machine was meant, which is asked for no target.",
                resolution="Add --remote NAME, or set SLURM_FACTORY_REMOTE.",
            )
        yield platform.machine()
        return
    if options.destructive_mode:
        raise ConfigurationError(
            "--destructive-mode builds on this machine, and --remote on another one.",
            resolution="Omit one of them.",
        )
    from slurm_factory.instances.members import architecture_there
    from slurm_factory.instances.remote import open_remote

    with open_remote(settings.remote, settings.remotes_dir) as remote:
        yield architecture_there(remote, settings.target or "", options.arch)


def read_request(
    options: BuildOptions,
    settings: Settings,
    reporter: Reporter,
    *,
    for_offline: bool = False,
    catalog: tuple[Release, ...] | None = None,
    machine: str = "",
) -> BuildRequest:
    """The request of some options; what they name is read, and a source of the user's fetched.

    Args:
        options: The options.
        settings: Settings of this site.
        reporter: Shows what is fetched.
        for_offline: The request of a later build without a network; now there is one.
        catalog: What `read_catalog` has read; None: read it.
        machine: Architecture of the machine that builds, as uname(1) names it; empty: this one's.

    Raises:
        ConfigurationError: An option is wrong.
        DownloadError: The source or a catalog could not be fetched.
        OutputError: The cache directory cannot be used.
    """
    recipe = _parse_deps(options.deps)
    return BuildRequest(
        slurm_version=options.slurm_version,
        source=_own_source(options, settings, reporter),
        catalog=read_catalog(settings, reporter, offline=options.offline)
        if catalog is None
        else catalog,
        gpu=options.gpu,
        minimal=options.minimal,
        additional_variants=options.additional_variants,
        deps=recipe,
        base=options.base,
        glibc=_glibc(options.glibc, recipe, settings),
        arch=options.arch,
        destructive_mode=options.destructive_mode,
        jobs=options.jobs,
        offline=options.offline or for_offline,
        spack=_spack_choice(recipe, settings, machine or platform.machine()),
        backports=options.backports,
        patches=read_site_patches(options.patches),
        suffix=options.suffix,
        sha256=options.sha256,
    )


def plan_request(request: BuildRequest, machine: str = "") -> BuildPlan:
    """The plan of a request.

    Args:
        request: What to build.
        machine: Architecture of the machine that builds, as uname(1) names it; empty: this one's.

    Raises:
        ConfigurationError: The request cannot be built.
    """
    return make_plan(request, machine or platform.machine(), host_release())


def read_catalog(
    settings: Settings, reporter: Reporter, *, offline: bool = False
) -> tuple[Release, ...]:
    """All known releases; empty where there are none beside those of the shipped catalog.

    Raises:
        ConfigurationError: A catalog is wrong.
        DownloadError: A catalog could not be fetched.
    """
    if not settings.catalogues and not settings.own_catalog.exists():
        return ()
    from slurm_factory.fetch.catalogs import known_releases

    return known_releases(settings, reporter, offline=offline)


def check_plan(
    plan: BuildPlan,
    catalog: Sequence[Release],
    settings: Settings,
    reporter: Reporter,
    *,
    strict: bool,
) -> None:
    """Warn of known advisories and of the end of a series, or refuse them; warn of the untried.

    Args:
        plan: The plan.
        catalog: The releases that it was chosen from; empty: those of the shipped catalog.
        settings: Settings of this site.
        reporter: Takes the warnings.
        strict: Refuse a release with known advisories.

    Raises:
        ConfigurationError: The plan is refused.
    """
    from slurm_factory.plan.advisories import require_no_advisories, warning_for
    from slurm_factory.plan.releases import series

    today = datetime.now(UTC).date()
    if strict or settings.refuse_vulnerable:
        require_no_advisories(plan, today, catalog)
    if plan.destructive:
        require_plain_path(settings.cache_dir)
    if warning := warning_for(plan, today, catalog):
        reporter.warning(warning)
    if plan.is_newer_than_the_catalog:
        reporter.warning(
            f"Slurm {plan.release.series} is newer than the catalog: the patches and features of"
            f" {series()[-1]} are tried."
        )
    if plan.is_experimental:
        reporter.warning(
            f"Packages for {plan.architecture} are experimental: no cluster of such machines has"
            " run one yet."
        )


def _own_source(options: BuildOptions, settings: Settings, reporter: Reporter) -> Release | None:
    """The release of the user's own source, which is then in the cache."""
    if not options.source:
        return None
    from slurm_factory.fetch.own_source import read_source

    make_cache_dir(settings)
    return read_source(
        options.source,
        options.sha256,
        settings,
        reporter,
        asked=options.slurm_version,
        offline=options.offline,
    )


def _parse_deps(text: str) -> Deps:
    try:
        return Deps(text)
    except ValueError as error:
        raise ConfigurationError(
            f"--deps: there is no recipe {text!r}.",
            details="spack builds the libraries from source; system uses those of the base.",
            resolution="Write --deps spack or --deps system.",
        ) from error


def _glibc(asked: str, deps: Deps, settings: Settings) -> str:
    """The libraries of a distribution need its own glibc, whatever the setting."""
    return asked or ((settings.glibc or "") if deps is Deps.SPACK else "")


def _spack_choice(deps: Deps, settings: Settings, machine: str) -> SpackChoice | None:
    if deps is not Deps.SPACK:
        return None
    from slurm_factory.plan.spack import choose_spack

    return choose_spack(settings, machine)
