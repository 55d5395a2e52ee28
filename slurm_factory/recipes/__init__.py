"""Recipes: how Slurm and the libraries it needs get built in an instance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.instances import Instance
    from slurm_factory.output import Reporter
    from slurm_factory.plan import BuildPlan


@dataclass(frozen=True)
class Workshop:
    """Everything a recipe works with.

    Attributes:
        plan: What to build.
        settings: Of this site.
        instance: Where commands run.
        reporter: Takes steps and lines.
        work: Directory (host) of this build, below the cache directory and so visible inside.
        sources: Paths (host) of the source archives by name; `slurm` is Slurm's own.
        jobs: How many compilers may run at once.
        offline: Nothing may be downloaded.
    """

    plan: BuildPlan
    settings: Settings
    instance: Instance
    reporter: Reporter
    work: Path
    sources: dict[str, Path]
    jobs: int
    offline: bool = False
