"""The recipe `spack`: Slurm and its run-time libraries from source, for one kind of CPU."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from slurm_factory.exceptions import SpackError
from slurm_factory.instances import CommandError
from slurm_factory.package.records import SpackBuild, SpackPackage
from slurm_factory.plan import default_target
from slurm_factory.recipes.ccache import compiler_cache_use
from slurm_factory.recipes.spack_cache import held_elsewhere, refresh_index
from slurm_factory.recipes.spack_install import install
from slurm_factory.recipes.spack_project import write_project
from slurm_factory.recipes.spack_session import Places, Spack
from slurm_factory.recipes.spack_sources import fetch_sources, require_sources
from slurm_factory.recipes.spack_tree import collect, configure_arguments, run_time_packages

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_factory.recipes import Workshop
    from slurm_factory.recipes.spack_lock import Lock
    from slurm_factory.recipes.spack_progress import InstallProgress
    from slurm_factory.recipes.spack_project import Project


FIRST_REASON = re.compile(r" +1\. (?P<reason>.+)")
"""Below the line of an error that ends with "for the following reasons:" (Spack 1.1)."""


def build(workshop: Workshop, places: Places | None = None) -> Path:
    """Build Slurm and all that it needs with Spack.

    Args:
        workshop: Of this build; its plan is one for this recipe.
        places: Where things are in the instance; those of our bases by default.

    Returns:
        The installed and stripped tree (host), not yet relocated.

    Raises:
        SpackError: Spack found no way to build it, or a package failed.
        DownloadError: A source could not be fetched, or is not what it should be; offline: it is
            not in the cache.
        BuildError: Something that the feature table promises is missing.
        OutputError: The cache directory is full.
    """
    spack = Spack(_on_its_own(workshop) if workshop.offline else workshop, places or Places())
    reporter = workshop.reporter
    lock, concretized = _decided(spack)
    held = held_elsewhere(spack, lock)
    if workshop.offline:
        with reporter.step("Check package sources"):
            require_sources(spack, lock)
    else:
        with reporter.step("Fetch package sources"):
            fetch_sources(spack, lock, held=held)
    with reporter.step("Build packages"):
        progress = install(spack, lock, held=held)
    with reporter.step("Collect and strip"):
        tree = collect(spack, lock)
        _record(spack, lock, progress, concretized=concretized)
    return tree


def prefetch(workshop: Workshop, places: Places | None = None) -> tuple[Path, ...]:
    """Fetch the sources of every package of the plan into the source cache; keeps the lock.

    Args:
        workshop: Its plan is one for this recipe.
        places: Where things are in the instance; those of our bases by default.

    Returns:
        Paths (host) of the sources.

    Raises:
        SpackError: Spack found no way to build it.
        DownloadError: Sources could not be had; all others were fetched.
        OutputError: The cache directory is full.
    """
    spack = Spack(_on_its_own(workshop), places or Places())
    lock, _ = _decided(spack)
    with workshop.reporter.step("Fetch package sources"):
        return fetch_sources(spack, lock, every=True)


def spack_build(workshop: Workshop) -> SpackBuild:
    """What `build` did, for the manifest."""
    return SpackBuild.model_validate_json(_record_file(workshop).read_text("utf-8"))


def _on_its_own(workshop: Workshop) -> Workshop:
    """The same with no mirror but those of this machine.

    What other build caches have is a part of what Spack decides: what is fetched beforehand has to
    be for the packages that an offline build will want.
    """
    choice = workshop.plan.spack
    if choice is None:
        return workshop
    choice = replace(choice, source_mirrors=(), buildcaches=())
    return replace(workshop, plan=replace(workshop.plan, spack=choice))


def _decided(spack: Spack) -> tuple[Lock, bool]:
    """The lock of a project that is in the instance now, and whether Spack made it just now."""
    reporter = spack.workshop.reporter
    with reporter.step("Prepare Spack"):
        project, kept = write_project(spack)
        _refresh_index(spack)
    if kept is not None:
        return project.accept(kept), False
    with reporter.step("Concretize"):
        return _concretize(project), True


def _refresh_index(spack: Spack) -> None:
    """What is in the build cache is a part of what Spack decides."""
    try:
        refresh_index(spack)
    except CommandError as error:
        raise SpackError(
            "Spack could not write the index of the build cache anew.",
            details=error.details,
            resolution="Build again; should it come back, move"
            f" {spack.workshop.settings.buildcache_dir} away.",
        ) from error


def _concretize(project: Project) -> Lock:
    try:
        return project.concretize()
    except CommandError as error:
        found = next(filter(None, map(FIRST_REASON.fullmatch, error.tail)), None)
        raise SpackError(
            "Spack found no way to build this plan.",
            details=found["reason"] if found else error.details,
            resolution=f"If {_doubtful(project.spack)} is set, try without;"
            f" the environment is {project.spack.logs / 'spack.yaml'}.",
        ) from error


def _doubtful(spack: Spack) -> str:
    """The settings that most likely leave no way."""
    target = spack.choice.target != default_target(spack.workshop.plan.architecture)
    names = ["SLURM_FACTORY_SPACK_CONFIG", *["SLURM_FACTORY_SPACK_TARGET"] * target]
    return f"{', '.join(names)} or --additional-variants"


def _record(spack: Spack, lock: Lock, progress: InstallProgress, *, concretized: bool) -> None:
    """Write what was done to where `spack_build` finds it."""
    workshop = spack.workshop
    use = compiler_cache_use(spack.stats_log)
    run_time = {node.hash for node in lock.run_time}
    build = SpackBuild(
        concretized=concretized,
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
            for package in run_time_packages(workshop)
            if package.external
        ),
        configure=configure_arguments(workshop),
        compiler_cache_hits=use.hits,
        compiler_cache_misses=use.misses,
    )
    _record_file(workshop).write_text(build.model_dump_json(indent=1), "utf-8")


def _record_file(workshop: Workshop) -> Path:
    return workshop.work / "spack-build.json"
