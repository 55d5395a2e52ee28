"""From a plan to a published artifact: the steps of a build, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory.assembly import assemble
from slurm_factory.constants import Deps
from slurm_factory.exceptions import OutputError
from slurm_factory.freshness import Outcome
from slurm_factory.machine import choose_jobs
from slurm_factory.package.manifest import load_manifest
from slurm_factory.package.publish import publish
from slurm_factory.preparation import (
    Place,
    disk_errors,
    fetch_supplies,
    find_supplies,
    launched,
    require_machine,
)
from slurm_factory.recipes import Workshop, spack, system
from slurm_factory.workspace import new_build_id, open_workspace, prepare_cache

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.output import Reporter
    from slurm_factory.plan import BuildPlan
    from slurm_factory.preparation import Supplies


RECIPES = {Deps.SPACK: spack, Deps.SYSTEM: system}


def build(
    plan: BuildPlan,
    settings: Settings,
    reporter: Reporter,
    *,
    keep_instance: bool,
    offline: bool = False,
) -> Outcome:
    """Build a package.

    Args:
        plan: What to build.
        settings: Of this site.
        reporter: Shows and logs what happens.
        keep_instance: Keep the build instance whatever happens.
        offline: Download nothing; fail before anything is done where something is missing.

    Raises:
        SlurmFactoryError: The subclass tells what failed.
    """
    jobs = choose_jobs(plan.jobs, settings)
    prepare_cache(settings)
    build_id = new_build_id(plan.version)
    with disk_errors(settings), open_workspace(build_id, settings) as workspace:
        reporter.log_to(workspace.log.parent)
        require_machine(plan, settings)
        supplies = _supplies(plan, settings, reporter, offline=offline)
        place = Place(workspace, keep_instance, supplies.spack_files, offline)
        with launched(plan, settings, reporter, place) as instance:
            workshop = Workshop(
                plan=plan,
                settings=settings,
                instance=instance,
                reporter=reporter,
                work=workspace.work,
                sources=supplies.sources,
                jobs=jobs,
                offline=offline,
            )
            tree = RECIPES[plan.deps].build(workshop)
            manifest = assemble(workshop, tree, instance.record)
            # Before the instance is deleted, which may hang: a package is done when it is here.
            with reporter.step("Publish"):
                published = _publish(manifest, settings.builds_dir / plan.version)
            if keep_instance and instance.enter_command:
                reporter.note(f"The instance is kept: {instance.enter_command}")
    return Outcome(published, load_manifest(published), up_to_date=False, log=workspace.log)


def _supplies(
    plan: BuildPlan, settings: Settings, reporter: Reporter, *, offline: bool
) -> Supplies:
    if offline:
        with reporter.step("Check sources"):
            return find_supplies(plan, settings)
    with reporter.step("Fetch sources"):
        return fetch_supplies(plan, settings, reporter)


def _publish(manifest: Path, directory: Path) -> Path:
    try:
        return publish(manifest, directory)
    except OutputError as error:
        if not manifest.exists():  # Whoever looks next publishes it.
            raise
        raise OutputError(
            error.brief,
            details=error.details,
            resolution=f"{error.resolution} The finished files are in {manifest.parent}; they can"
            f" be moved to {directory}, the manifest last.",
        ) from error
