"""A build for tests, whose instance is this machine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from slurm_factory.config import Settings
from slurm_factory.instances.instance import Instance
from slurm_factory.instances.this_machine import this_machine
from slurm_factory.job import Job
from slurm_factory.output.reporter import Reporter, make_reporter
from slurm_factory.plan.plan import BuildPlan
from slurm_factory.recipes.recipe import RECIPES
from slurm_factory.workspace import Workspace


def sample_job(plan: BuildPlan, settings: Settings, reporter: Reporter, **changes: Any) -> Job:
    """A build whose directories are not made yet."""
    return Job(plan, settings, reporter, Workspace("build-1", settings), jobs=2, **changes)


@dataclass(frozen=True)
class Here:
    """What a step of a build gets."""

    job: Job
    instance: Instance

    @property
    def work(self) -> Path:
        return self.job.workspace.work

    def with_plan(self, plan: BuildPlan) -> Self:
        return replace(self, job=replace(self.job, plan=plan))


@contextmanager
def build_here(plan: BuildPlan, settings: Settings) -> Iterator[Here]:
    """A build whose work directory is there."""
    with make_reporter(quiet=True) as reporter:
        job = sample_job(plan, settings, reporter)
        mounts = RECIPES[plan.deps].mounts(job)
        with this_machine(plan.base, settings, job.workspace.work, mounts) as instance:
            yield Here(job, instance)
