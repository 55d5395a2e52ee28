"""One build: what was decided, and what every step of it works with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.plan.plan import BuildPlan
    from slurm_factory.workspace import Workspace


@dataclass(frozen=True)
class Job:
    """With the instance and what a recipe has built, all that a step of a build gets.

    It stands below instances, recipes and packaging, since each of them takes one.

    Attributes:
        plan: What to build.
        settings: Of this site.
        reporter: Takes steps and lines.
        workspace: Directories of this build (host), below the cache directory.
        jobs: How many compilers may run at once.
        offline: Nothing may be downloaded.
        keep: Keep the instance whatever happens.
    """

    plan: BuildPlan
    settings: Settings
    reporter: Reporter
    workspace: Workspace
    jobs: int
    offline: bool = False
    keep: bool = False
