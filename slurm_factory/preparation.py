"""What has to be there before a recipe can work: its sources, its base, and the instance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory.checkouts import fetch_checkouts, missing_checkouts
from slurm_factory.constants import BUILD_PREFIX, INSTANCE_CACHE
from slurm_factory.exceptions import ConfigurationError, OutputError
from slurm_factory.instances.base import SpackFiles
from slurm_factory.instances.base_instances import needs_base
from slurm_factory.instances.build_instance import lxd_instance
from slurm_factory.instances.host import this_machine
from slurm_factory.instances.launch import Launch
from slurm_factory.instances.lxc import project_exists
from slurm_factory.machine import require_build_packages
from slurm_factory.recipes.offline import not_here
from slurm_factory.sources import cached, fetch
from slurm_factory.spack_choice import cloned_repositories
from slurm_factory.targets import require_runnable
from slurm_factory.upstream import CLINGO, sources_for

if TYPE_CHECKING:
    from slurm_factory.base_record import SpackRefs
    from slurm_factory.config import Settings
    from slurm_factory.instances import Instance
    from slurm_factory.output import Reporter
    from slurm_factory.plan import BuildPlan
    from slurm_factory.sources import Source
    from slurm_factory.workspace import Workspace


@dataclass(frozen=True)
class Supplies:
    """What a build works with (host).

    Attributes:
        sources: Source archives by name.
        spack_files: What its base is made of; None where that is there, or needs no Spack.
    """

    sources: dict[str, Path]
    spack_files: SpackFiles | None = None


@dataclass(frozen=True)
class Place:
    """What launching needs to know of one build."""

    workspace: Workspace
    keep: bool = False
    spack_files: SpackFiles | None = None
    offline: bool = False


def require_machine(plan: BuildPlan, settings: Settings) -> None:
    """Fail where nothing can be built, before anything is downloaded for nothing.

    Raises:
        LXDError: LXD cannot be used; or packages are missing, for a build on this machine.
        ConfigurationError: This machine's CPU cannot run what Spack would build.
    """
    if plan.spack:
        require_runnable(plan.spack.target)
    if plan.destructive:
        require_build_packages(plan.base)
    else:
        project_exists(settings.project_name)


def fetch_supplies(plan: BuildPlan, settings: Settings, reporter: Reporter) -> Supplies:
    """Fetch into the cache what the build needs in any case, and its base where that is to be made.

    Raises:
        DownloadError: Something could not be had.
        ConfigurationError: There is no such ref of Spack, or no clingo for this architecture.
        LXDError: LXD cannot be asked for the base.
        OutputError: The cache cannot be written, or is full.
    """
    refs = plan.setup.spack
    new_base = bool(refs) and needs_base(plan.setup, plan.architecture, settings)
    checkouts = bring_checkouts(refs, settings, reporter) if refs and new_base else None
    wanted = _beforehand(plan, settings, new_base=new_base)
    sources = bring_sources(wanted, settings, reporter)
    return Supplies(sources, SpackFiles(*checkouts, sources[CLINGO]) if checkouts else None)


def find_supplies(plan: BuildPlan, settings: Settings) -> Supplies:
    """What the build needs in any case, out of the cache: for `--offline`. Touches no network.

    What makes a base of Spack counts as missing only together with the base itself, which is
    made from the archive of the distribution.

    Raises:
        ConfigurationError: The site's own configuration of Spack lets it clone repositories.
        DownloadError: Something is missing; names all of it.
        LXDError: LXD cannot be asked for the base.
        OutputError: The cache cannot be read.
    """
    _refuse_clones(plan, settings)
    new_base = not plan.destructive and needs_base(plan.setup, plan.architecture, settings)
    wanted = _beforehand(plan, settings, new_base=new_base)
    looked = {name: cached(source, settings.source_cache_dir) for name, source in wanted.items()}
    sources = {name: path for name, path in looked.items() if path}
    missing = [source.name for name, source in wanted.items() if name not in sources]
    note = ""
    if new_base:
        refs = plan.setup.spack
        archives = missing_checkouts(refs, settings.spack_checkouts_dir) if refs else []
        missing += [*map(str, archives), f"a base instance of {plan.base.name}"]
        note = (
            "The base instance is made here by the same command: once the caches are filled, it"
            " asks the distribution's archive only."
        )
    if missing:
        raise not_here(missing, plan, settings, note)
    return Supplies(sources)


def _refuse_clones(plan: BuildPlan, settings: Settings) -> None:
    names = cloned_repositories(plan.spack.config) if plan.spack else ()
    if names:
        listed = ", ".join(repr(name[:40]) for name in names)
        raise ConfigurationError(
            f"--offline: Spack would clone repositories of recipes: {listed}.",
            details=f"{settings.spack_config} names them by URL, and each instance clones anew.",
            resolution=f"Clone each into a directory below {settings.cache_dir}, which instances"
            f" see as {INSTANCE_CACHE}, and name that one instead: the one with its repo.yaml.",
        )


def _beforehand(plan: BuildPlan, settings: Settings, *, new_base: bool) -> dict[str, Source]:
    """The sources that a build needs in any case, by name.

    Spack tells later which it needs: none of packages that the build cache has.
    """
    wanted = sources_for(plan, settings, new_base=new_base)
    if plan.spack is None:
        return wanted
    return {name: source for name, source in wanted.items() if name == CLINGO}


def bring_checkouts(refs: SpackRefs, settings: Settings, reporter: Reporter) -> tuple[Path, Path]:
    """Archives (host) of Spack and of its recipes; raises as `checkouts.fetch_checkouts` does."""
    return fetch_checkouts(
        refs,
        settings.spack_checkouts_dir,
        timeout=settings.download_timeout,
        warn=reporter.warning,
    )


def bring_sources(
    wanted: Mapping[str, Source], settings: Settings, reporter: Reporter
) -> dict[str, Path]:
    """Source archives (host) in the cache, by name; raises as `sources.fetch` does."""
    return {
        name: fetch(
            source,
            settings.source_cache_dir,
            mirrors=settings.source_mirrors,
            timeout=settings.download_timeout,
            report=reporter.progress,
            warn=reporter.warning,
        )
        for name, source in wanted.items()
    }


@contextmanager
def launched(
    plan: BuildPlan, settings: Settings, reporter: Reporter, place: Place
) -> Iterator[Instance]:
    """The instance of a build, or this machine; raises as `build_instance.lxd_instance` does."""
    workspace = place.workspace
    if plan.destructive:
        instance = this_machine(plan.base, settings, workspace.work)
    else:
        launch = Launch(
            plan.setup,
            plan.architecture,
            f"{BUILD_PREFIX}{workspace.build_id}",
            workspace.lock,
            keep=place.keep,
            spack_files=place.spack_files,
            offline=place.offline,
        )
        instance = lxd_instance(launch, settings, reporter.line, reporter.warning, reporter.note)
    with ExitStack() as stack:
        with reporter.step("Launch"):
            ready = stack.enter_context(instance)
        yield ready


@contextmanager
def disk_errors(settings: Settings) -> Iterator[None]:
    """What the operating system says about files is about the cache directory here.

    Raises:
        OutputError: Instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{error.filename or settings.cache_dir} could not be written.",
            details=f"{error.strerror or error}.",
            resolution="Free space or correct the permissions, then run the command again.",
        ) from error
