"""The requirements of a recipe: its sources, its base, and the instance."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory.constants import BUILD_PREFIX
from slurm_factory.exceptions import LXDError
from slurm_factory.fetch.checkouts import fetch_checkouts, missing_checkouts
from slurm_factory.fetch.own_source import GIT, fetch_commit
from slurm_factory.fetch.sources import cached, fetch
from slurm_factory.fetch.upstream import CLINGO, base_sources, not_here
from slurm_factory.instances.lxc import project_exists
from slurm_factory.instances.this_machine import require_build_packages, this_machine
from slurm_factory.plan.glibc import ZIG
from slurm_factory.recipes.recipe import RECIPES
from slurm_factory.util.files import NOT_WRITTEN, file_error

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.fetch.sources import Source
    from slurm_factory.instances.base import SpackFiles
    from slurm_factory.instances.instance import Instance
    from slurm_factory.instances.members import Placement
    from slurm_factory.job import Job
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.plan.base_setup import SpackRefs
    from slurm_factory.plan.plan import BuildPlan
    from slurm_factory.workspace import Workspace


@contextmanager
def choose_place(
    plan: BuildPlan, settings: Settings, workspace: Workspace, reporter: Reporter
) -> Iterator[Placement | None]:
    """The machine of another LXD on which a plan is built; None: it is built on this one.

    Raises:
        ConfigurationError: There is no such member or group.
        LXDError: LXD has no place for it, or does not answer.
    """
    if settings.remote is None:
        yield None
        return
    from slurm_factory.instances.launch import ensure_project
    from slurm_factory.instances.members import placed

    ensure_project(settings, reporter)
    name = f"{BUILD_PREFIX}{workspace.build_id}-place"
    with placed(settings.target or "", plan.machine, workspace, name) as placement:
        yield placement


def require_machine(job: Job) -> None:
    """Fail early if the build is impossible, before downloading anything.

    Raises:
        LXDError: LXD cannot be used; or packages are missing, for a build on this machine.
        ConfigurationError: The recipe cannot build the plan here.
    """
    plan = job.plan
    RECIPES[plan.deps].check(job)
    if plan.destructive:
        require_build_packages(plan.base)
    else:
        project_exists(job.settings.project_name)


def fetch_supplies(job: Job) -> SpackFiles | None:
    """Fetch the known sources of the build into the cache, and those of its base if it has to be
    made.

    Returns:
        The files for a base with Spack; None if the base exists, or needs no Spack.

    Raises:
        DownloadError: A source could not be fetched.
        ConfigurationError: There is no such ref of Spack, or no clingo for this architecture.
        LXDError: LXD does not answer.
        OutputError: The cache cannot be written, or is full.
    """
    plan, settings, reporter = job.plan, job.settings, job.reporter
    refs = plan.setup.spack
    checkouts = None
    wanted = RECIPES[plan.deps].sources(job)
    if refs and _needs_base(job):
        checkouts = fetch_spack(refs, settings, reporter)
        wanted |= base_sources(plan)
    fetched = fetch_source_archives(wanted, settings, reporter)
    if checkouts is None:
        return None
    from slurm_factory.instances.base import SpackFiles

    return SpackFiles(*checkouts, fetched[CLINGO], fetched.get(ZIG))


def _needs_base(job: Job) -> bool:
    from slurm_factory.instances.base import needs_base

    return needs_base(job.plan.setup, job.plan.machine, job.settings, job.place)


def find_supplies(job: Job) -> None:
    """Fail if a known source of the build is missing, for `--offline`.

    Uses no network. The files for a base with Spack count as missing only together with the base
    itself, which is made from the archive of the distribution.

    Raises:
        DownloadError: Sources are missing; lists all of them.
        LXDError: LXD does not answer.
        OutputError: The cache cannot be read.
    """
    plan, settings = job.plan, job.settings
    new_base = not plan.destructive and _needs_base(job)
    wanted = RECIPES[plan.deps].sources(job)
    wanted |= base_sources(plan) if new_base else {}
    cache = settings.source_cache_dir
    missing = [source.name for source in wanted.values() if not cached(source, cache)]
    note = ""
    if new_base:
        refs = plan.setup.spack
        archives = missing_checkouts(refs, settings.spack_checkouts_dir) if refs else []
        missing += [*map(str, archives), f"a base instance of {plan.base.name}"]
        note = (
            "The same command makes the base instance on this machine: with filled caches, it"
            " uses only the distribution's archive."
        )
    if missing:
        raise not_here(missing, plan, settings, note)


def fetch_spack(refs: SpackRefs, settings: Settings, reporter: Reporter) -> tuple[Path, Path]:
    """Archives (host) of Spack and its package recipes; raises as `checkouts.fetch_checkouts`
    does."""
    return fetch_checkouts(
        refs,
        settings.spack_checkouts_dir,
        timeout=settings.download_timeout,
        warn=reporter.warning,
    )


def fetch_source_archives(
    wanted: Mapping[str, Source], settings: Settings, reporter: Reporter
) -> dict[str, Path]:
    """Source archives (host) in the cache, by name; raises as `sources.fetch` does."""
    for source in wanted.values():
        if source.urls[0].startswith(GIT) and not cached(source, settings.source_cache_dir):
            fetch_commit(source, settings, reporter)
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
def launch_instance(
    job: Job, spack_files: SpackFiles | None = None, others: Sequence[Job] = ()
) -> Iterator[Instance]:
    """The instance of a build, or this machine; raises as `build_instance.lxd_instance` does.

    Args:
        job: Job of this build.
        spack_files: The files for its base; None if the base exists, or needs no Spack.
        others: Further jobs, for the same base, that use the instance.
    """
    plan, settings, reporter, workspace = job.plan, job.settings, job.reporter, job.workspace
    jobs = (job, *others)
    mounts = tuple(dict.fromkeys(m for each in jobs for m in RECIPES[plan.deps].mounts(each)))
    if plan.destructive:
        instance = this_machine(plan.base, settings, workspace.work, mounts)
    else:
        from slurm_factory.instances.build_instance import lxd_instance
        from slurm_factory.instances.launch import Launch

        launch = Launch(
            plan.setup,
            plan.machine,
            f"{BUILD_PREFIX}{workspace.build_id}",
            workspace.lock,
            keep=job.keep,
            spack_files=spack_files,
            offline=job.offline,
            mounts=mounts,
            place=job.place,
        )
        instance = lxd_instance(launch, settings, reporter)
    with ExitStack() as stack:
        with reporter.step("Launch"):
            ready = stack.enter_context(instance)
        yield ready


@contextmanager
def system_errors(settings: Settings) -> Iterator[None]:
    """Convert an OSError into our own error.

    Raises:
        OutputError: For an OSError about the cache directory, or a full disk.
        LXDError: For any other one: a build writes nowhere else, so the user lacks permission to
            read or run something.
    """
    try:
        yield
    except OSError as error:
        # An open file has a number instead of a name.
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        if error.errno in NOT_WRITTEN or Path(name).is_relative_to(settings.cache_dir):
            raise file_error(error, Path(name or settings.cache_dir), "used") from error
        file = Path(name).is_absolute()
        raise LXDError(
            f"{name} could not be read."
            if file
            else f"This machine refused {name or 'what the build asked for'}.",
            details=f"{error.strerror or error}.",
            resolution=f"Check its permissions (ls -ld {shlex.quote(name)}), then run the command"
            " again."
            if file
            else "Run `slurm-factory doctor`.",
        ) from error
