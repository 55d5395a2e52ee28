"""The interface of recipes, and the recipe of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from slurm_factory.constants import Deps
from slurm_factory.recipes import system
from slurm_factory.recipes.spack import build as spack

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_factory.fetch.sources import Source
    from slurm_factory.instances.instance import Instance, Mount
    from slurm_factory.job import Job
    from slurm_factory.package.built import Built


class Recipe(Protocol):
    """A module with these functions, for jobs whose plan uses this recipe."""

    def check(self, job: Job, /) -> None:
        """Fail if this machine or the site's settings do not allow the plan.

        Uses neither LXD nor the network.

        Raises:
            ConfigurationError: Says what to change.
        """
        ...

    def sources(self, job: Job, /) -> dict[str, Source]:
        """Sources that the cache must have before there is an instance, by name."""
        ...

    def mounts(self, job: Job, /) -> tuple[Mount, ...]:
        """The directories of this machine that the instance of a build sees."""
        ...

    def prefetch(self, job: Job, instance: Instance, /) -> tuple[Path, ...]:
        """Fetch other sources into the source cache; returns their paths (host).

        Raises:
            SlurmFactoryError: The subclass shows what failed.
        """
        ...

    def build(self, job: Job, instance: Instance, /) -> Built:
        """Build Slurm and its dependencies in the instance.

        Raises:
            SlurmFactoryError: The subclass shows what failed.
        """
        ...


RECIPES: Mapping[Deps, Recipe] = {Deps.SPACK: spack, Deps.SYSTEM: system}
