"""From a plan to a published artifact: the steps of a build, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory.assembly import assemble
from slurm_factory.constants import BUILD_PREFIX
from slurm_factory.exceptions import OutputError
from slurm_factory.freshness import Outcome
from slurm_factory.instances.launch import Launch, lxd_instance, this_machine
from slurm_factory.instances.lxc import project_exists
from slurm_factory.machine import choose_jobs, require_build_packages
from slurm_factory.package.manifest import load_manifest
from slurm_factory.package.publish import publish
from slurm_factory.recipes import Workshop, system
from slurm_factory.sources import fetch
from slurm_factory.upstream import sources_for
from slurm_factory.workspace import Workspace, new_build_id, open_workspace, prepare_cache

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.instances import Instance
    from slurm_factory.output import Reporter
    from slurm_factory.plan import BuildPlan


def build(
    plan: BuildPlan, settings: Settings, reporter: Reporter, *, keep_instance: bool
) -> Outcome:
    """Build a package.

    Args:
        plan: What to build.
        settings: Of this site.
        reporter: Shows and logs what happens.
        keep_instance: Keep the build instance whatever happens.

    Raises:
        SlurmFactoryError: The subclass tells what failed.
    """
    jobs = choose_jobs(plan.jobs, settings)
    prepare_cache(settings)
    build_id = new_build_id(plan.version)
    with _disk_errors(settings), open_workspace(build_id, settings) as workspace:
        reporter.log_to(workspace.log.parent)
        # Before anything is downloaded for nothing.
        if plan.destructive:
            require_build_packages(plan.base)
        else:
            project_exists(settings.project_name)
        sources = _prepare(plan, settings, reporter)
        with _instance(plan, settings, reporter, workspace, keep=keep_instance) as instance:
            workshop = Workshop(
                plan=plan,
                settings=settings,
                instance=instance,
                reporter=reporter,
                work=workspace.work,
                sources=sources,
                jobs=jobs,
            )
            tree = system.build(workshop)
            manifest = assemble(workshop, tree, instance.record)
            # Before the instance is deleted, which may hang: a package is done when it is here.
            with reporter.step("Publish"):
                published = _publish(manifest, settings.builds_dir / plan.version)
            if keep_instance and instance.enter_command:
                reporter.note(f"The instance is kept: {instance.enter_command}")
    return Outcome(published, load_manifest(published), up_to_date=False, log=workspace.log)


def _prepare(plan: BuildPlan, settings: Settings, reporter: Reporter) -> dict[str, Path]:
    """Fetch every source into the cache."""
    with reporter.step("Fetch sources"):
        return {
            name: fetch(
                source,
                settings.source_cache_dir,
                mirrors=settings.source_mirrors,
                timeout=settings.download_timeout,
                report=reporter.progress,
                warn=reporter.warning,
            )
            for name, source in sources_for(plan, settings).items()
        }


def _publish(manifest: Path, directory: Path) -> Path:
    try:
        return publish(manifest, directory)
    except OutputError as error:
        raise OutputError(
            error.brief,
            details=error.details,
            resolution=f"{error.resolution} The finished files are in {manifest.parent}; they can"
            f" be moved to {directory}, the manifest last.",
        ) from error


@contextmanager
def _instance(
    plan: BuildPlan, settings: Settings, reporter: Reporter, workspace: Workspace, *, keep: bool
) -> Iterator[Instance]:
    with ExitStack() as stack:
        with reporter.step("Launch"):
            if plan.destructive:
                place = this_machine(plan.base, settings, workspace.work)
            else:
                name = f"{BUILD_PREFIX}{workspace.build_id}"
                launch = Launch(plan.base, plan.architecture, name, workspace.lock, keep=keep)
                place = lxd_instance(launch, settings, reporter.line, reporter.warning)
            instance = stack.enter_context(place)
        yield instance


@contextmanager
def _disk_errors(settings: Settings) -> Iterator[None]:
    """What the operating system says about files is about the cache directory here."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{error.filename or settings.cache_dir} could not be written.",
            details=f"{error.strerror or error}.",
            resolution="Free space or correct the permissions, then run the command again.",
        ) from error
