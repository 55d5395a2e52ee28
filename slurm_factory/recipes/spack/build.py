"""The recipe `spack`: Slurm and its run-time libraries from source, for one CPU target."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from slurm_factory.constants import (
    INSTANCE_CACHE,
    INSTANCE_PROJECT,
    INSTANCE_SPACK,
    INSTANCE_STORE,
    INSTANCE_VIEW,
)
from slurm_factory.exceptions import ConfigurationError, SpackError
from slurm_factory.fetch.upstream import BACKPORTS, SLURM, sources_for
from slurm_factory.instances.instance import CommandError, Mount
from slurm_factory.package.built import Built
from slurm_factory.package.manifest import SpackBuild, SpackPackage
from slurm_factory.plan.plan import default_target
from slurm_factory.plan.spack import cloned_repositories, require_runnable, seen_repositories
from slurm_factory.recipes.ccache import compiler_cache, compiler_cache_use
from slurm_factory.recipes.patches import applied, patch_files
from slurm_factory.recipes.spack.cache import missing_packages, refresh_indexes
from slurm_factory.recipes.spack.install import install
from slurm_factory.recipes.spack.libraries import SpackLibraries, installed_packages
from slurm_factory.recipes.spack.project import write_project
from slurm_factory.recipes.spack.remote import (
    RemotePackages,
    show_indexes,
    take_remote_packages,
)
from slurm_factory.recipes.spack.session import InstancePaths, Spack, spack_choice
from slurm_factory.recipes.spack.sources import fetch_sources, require_sources
from slurm_factory.recipes.spack.tree import collect
from slurm_factory.relocate.policy import load_policy
from slurm_factory.relocate.relocate import find_closure

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_factory.fetch.sources import Source
    from slurm_factory.instances.instance import Instance
    from slurm_factory.job import Job
    from slurm_factory.recipes.spack.install import InstallProgress
    from slurm_factory.recipes.spack.lock import Lock
    from slurm_factory.recipes.spack.project import Project
    from slurm_factory.recipes.spack.tree import Collected

OWN_PATHS = (INSTANCE_PROJECT, INSTANCE_SPACK, INSTANCE_STORE, INSTANCE_VIEW)
"""Spack's own paths, which packages must not contain."""
FIRST_REASON = re.compile(r" +1\. (?P<reason>.+)")
"""Below the line of an error that ends with "for the following reasons:" (Spack 1.1)."""


def check(job: Job) -> None:
    """Fail if this machine cannot run the result, or if an offline build would clone.

    Raises:
        ConfigurationError: Says what to change.
    """
    choice, settings = spack_choice(job), job.settings
    require_runnable(choice.target)
    names = cloned_repositories(choice.config) if job.offline else ()
    if names:
        listed = ", ".join(repr(name[:40]) for name in names)
        raise ConfigurationError(
            f"--offline: Spack would clone package repositories: {listed}.",
            details=f"{settings.spack_config} has their URLs, and every instance clones them.",
            resolution=f"Clone each into a directory below {settings.cache_dir}, which instances"
            f" see as {INSTANCE_CACHE}, and set the path of the directory with its repo.yaml.",
        )


def sources(job: Job) -> dict[str, Source]:
    """Debian's patches, if any, and a source of the user's own. Spack lists the others in the
    instance, where it knows the build cache."""
    own = {BACKPORTS} | ({SLURM} if job.plan.release.location else set())
    ours = sources_for(job.plan, job.settings)
    return {name: source for name, source in ours.items() if name in own}


def mounts(job: Job) -> tuple[Mount, ...]:
    """The directories of this machine that the instance of a build sees."""
    settings, choice = job.settings, spack_choice(job)
    # Spack finds in them what it needs.
    shown = [settings.source_cache_dir]
    shown += [settings.cache_dir / path for path in seen_repositories(choice.config)]
    # spack.yaml names them by these paths.
    packages = [
        Mount(settings.results_dir / name, whole=True, at=PurePosixPath(name))
        for name in choice.local_buildcaches
    ]
    found = [Mount(directory, whole=True) for directory in shown]
    # What comes from build caches elsewhere appears in it later.
    own = Mount(job.workspace.input, whole=True, shared=False)
    return (*found, own, *packages, Mount(compiler_cache(job), writable=True))


def prefetch(job: Job, instance: Instance, paths: InstancePaths | None = None) -> tuple[Path, ...]:
    """Fetch the sources of every package of the plan into the source cache; saves the lock.

    Remote build caches would affect the concretization. The plan has none, so the sources match
    those of an offline build.

    Args:
        job: Job with a plan for this recipe, made for an offline build.
        instance: Instance of a base with Spack.
        paths: Paths of Spack in the instance; by default those of our bases.

    Returns:
        Paths (host) of the sources.

    Raises:
        SpackError: Spack cannot concretize it.
        DownloadError: Some sources are not available; all others were fetched.
        OutputError: The cache directory is full.
    """
    spack = Spack(job, instance, paths or InstancePaths())
    lock, _ = _decided(spack)
    with job.reporter.step("Fetch package sources"):
        return fetch_sources(spack, lock, every=True)


def build(job: Job, instance: Instance, paths: InstancePaths | None = None) -> Built:
    """Build Slurm and its dependencies with Spack.

    Args:
        job: Job with a plan for this recipe.
        instance: Instance of a base with Spack.
        paths: Paths of Spack in the instance; by default those of our bases.

    Raises:
        SpackError: Spack cannot concretize it, or a package failed.
        DownloadError: A source could not be fetched, or has the wrong content; offline: it is not
            in the cache.
        BuildError: A required feature is missing.
        OutputError: The cache directory is full.
    """
    spack = Spack(job, instance, paths or InstancePaths())
    reporter = job.reporter
    lock, concretized = _decided(spack)
    taken = _take_remote_packages(spack, lock)
    if job.offline:
        with reporter.step("Check package sources"):
            require_sources(spack, lock)
    else:
        with reporter.step("Fetch package sources"):
            fetch_sources(spack, lock, remote=taken.hashes)
    # Before anything but Spack has run in the instance.
    spack.packages  # noqa: B018
    with reporter.step("Build packages"):
        progress = install(spack, lock, remote=taken.hashes)
    with reporter.step("Collect and strip"):
        collected = collect(spack, lock)
    with reporter.step("Collect libraries"):
        libraries = SpackLibraries(spack, collected.packages)
        return Built(
            tree=collected.tree,
            closure=find_closure(collected.tree, libraries, load_policy()),
            packages=libraries.packages,
            common_licenses=libraries.fetch_common_licenses(),
            installed=installed_packages(spack, collected),
            build_paths=(str(instance.build_dir), *map(str, OWN_PATHS)),
            configure=collected.configure or job.plan.configure_arguments,
            spack=_record(spack, lock, progress, collected, taken, concretized=concretized),
            patches=applied(patch_files(job.plan, job.settings), job.plan),
        )


def _decided(spack: Spack) -> tuple[Lock, bool]:
    """The lock of the project in the instance, and whether Spack has just made it."""
    reporter = spack.job.reporter
    with reporter.step("Prepare Spack"):
        project, saved = write_project(spack)
        _refresh_indexes(spack)
    if saved is not None:
        return project.accept(saved), False
    with reporter.step("Concretize"):
        show_indexes(spack)
        return _concretize(project), True


def _take_remote_packages(spack: Spack, lock: Lock) -> RemotePackages:
    if not spack.choice.buildcaches:
        return RemotePackages()
    with spack.job.reporter.step("Take packages from build caches"):
        return take_remote_packages(spack, lock, missing_packages(spack, lock, frozenset()))


def _refresh_indexes(spack: Spack) -> None:
    """The content of the build caches affects the concretization."""
    try:
        refresh_indexes(spack)
    except CommandError as error:
        raise SpackError(
            "Spack could not update the index of the build cache.",
            details=error.details,
            resolution="Build again; if the error comes back, move"
            f" {spack.job.settings.buildcache_dir} away.",
        ) from error


def _concretize(project: Project) -> Lock:
    try:
        return project.concretize()
    except CommandError as error:
        found = next(filter(None, map(FIRST_REASON.fullmatch, error.tail)), None)
        raise SpackError(
            "Spack cannot concretize this plan.",
            details=found["reason"] if found else error.details,
            resolution=f"If {_suspect_settings(project.spack)} is set, try without it; the"
            f" environment is {project.spack.logs / 'spack.yaml'}.",
        ) from error


def _suspect_settings(spack: Spack) -> str:
    """The settings that most likely cause the failure."""
    target = spack.choice.target != default_target(spack.job.plan.architecture)
    names = ["SLURM_FACTORY_SPACK_CONFIG", *["SLURM_FACTORY_SPACK_TARGET"] * target]
    return f"{', '.join(names)} or --additional-variants"


def _stats_log(spack: Spack) -> str:
    """Empty if nothing was compiled."""
    try:
        return spack.instance.take_file(spack.stats_log).decode(errors="replace")
    except CommandError:
        return ""


def _record(
    spack: Spack,
    lock: Lock,
    progress: InstallProgress,
    collected: Collected,
    taken: RemotePackages,
    *,
    concretized: bool,
) -> SpackBuild:
    """The record of Spack for the manifest."""
    use = compiler_cache_use(_stats_log(spack))
    run_time = {node.hash for node in lock.run_time}
    return SpackBuild(
        concretized=concretized,
        lock=json.loads(lock.text),
        packages=tuple(
            SpackPackage(
                name=state.node.name,
                version=state.node.version,
                hash=state.node.hash,
                run_time=state.node.hash in run_time,
                cached=state.from_cache,
                seconds=round(state.seconds, 1),
            )
            for state in progress.states.values()
        ),
        externals=tuple(
            f"{package.name}@{package.version}"
            for package in collected.packages
            if package.external
        ),
        configure=collected.configure,
        compiler_cache_hits=use.hits,
        compiler_cache_misses=use.misses,
        buildcaches=taken.uses,
    )
