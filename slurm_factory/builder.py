"""From a plan to a published artifact: the steps of a build, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory.buildcaches.publishing import publish_packages
from slurm_factory.exceptions import OutputError
from slurm_factory.instances.members import watched
from slurm_factory.instances.this_machine import choose_jobs
from slurm_factory.job import Job
from slurm_factory.package.assemble import assemble
from slurm_factory.package.manifest import load_manifest
from slurm_factory.package.publish import publish
from slurm_factory.recipes.recipe import RECIPES
from slurm_factory.supplies import (
    choose_place,
    fetch_supplies,
    find_supplies,
    launch_instance,
    require_machine,
    system_errors,
)
from slurm_factory.up_to_date import Outcome
from slurm_factory.workspace import new_build_id, open_workspace

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.instances.base import SpackFiles
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.plan.plan import BuildPlan


def build(
    plan: BuildPlan,
    settings: Settings,
    reporter: Reporter,
    *,
    keep_instance: bool,
    offline: bool = False,
    lock: str = "",
) -> Outcome:
    """Build a package.

    Args:
        plan: What to build.
        settings: Settings of this site.
        reporter: Shows and logs what happens.
        keep_instance: Always keep the build instance.
        offline: Download nothing; fail at the start if something is missing.
        lock: Text of the spack.lock to build; empty: a saved one, else Spack decides.

    Raises:
        SlurmFactoryError: The subclass shows what failed.
    """
    with (
        system_errors(settings),
        open_workspace(new_build_id(plan.requested), settings, reporter) as workspace,
        choose_place(plan, settings, workspace, reporter) as placement,
    ):
        place = placement.place if placement else None
        jobs = choose_jobs(plan.jobs, settings, place)
        job = Job(
            *(plan, settings, reporter, workspace, jobs),
            offline=offline,
            keep=keep_instance,
            lock=lock,
            place=place,
        )
        reporter.log_to(workspace.log.parent)
        if place:
            reporter.line(f"Building on {settings.remote}:{place.member} ({place.architecture})")
        # The launch watches by itself.
        with watched(place):
            require_machine(job)
            supplies = _supplies(job)
        with launch_instance(job, supplies) as instance:
            if placement:
                placement.release()
            built = RECIPES[plan.deps].build(job, instance)
        # From here on, nothing that ran in the instance can change anything.
        if job.keep and instance.enter_command:
            reporter.note(f"The instance is kept: {instance.enter_command}")
        manifest = assemble(job, built, instance.record)
        with reporter.step("Publish"):
            published = _publish(manifest, settings.builds_dir / plan.requested)
        if built.spack:
            publish_packages(job, built.spack.packages)
    return Outcome(published, load_manifest(published), up_to_date=False, log=workspace.log)


def _supplies(job: Job) -> SpackFiles | None:
    if job.offline:
        with job.reporter.step("Check sources"):
            find_supplies(job)
        return None
    with job.reporter.step("Fetch sources"):
        return fetch_supplies(job)


def _publish(manifest: Path, directory: Path) -> Path:
    try:
        return publish(manifest, directory)
    except OutputError as error:
        if not manifest.exists():  # The next command that looks publishes it.
            raise
        raise OutputError(
            error.brief,
            details=error.details,
            resolution=f"{error.resolution} The finished files are in {manifest.parent}; move them"
            f" to {directory}, the manifest last.",
        ) from error
