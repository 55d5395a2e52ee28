"""What a recipe is, and which one a plan is for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from slurm_factory.constants import Deps
from slurm_factory.recipes import system
from slurm_factory.recipes.spack import build as spack

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_factory.fetch.sources import Source
    from slurm_factory.instances.instance import Instance
    from slurm_factory.job import Job
    from slurm_factory.package.built import Built


class Recipe(Protocol):
    """A module with these functions; each takes jobs whose plan is for this recipe."""

    def check(self, job: Job, /) -> None:
        """Fail where this machine or the site's settings leave no way to build the plan.

        Asks neither LXD nor a network.

        Raises:
            ConfigurationError: Says what has to be changed.
        """
        ...

    def sources(self, job: Job, /) -> dict[str, Source]:
        """What the source cache must have before there is an instance, by name."""
        ...

    def prefetch(self, job: Job, instance: Instance, /) -> tuple[Path, ...]:
        """Fetch what is needed beyond `sources` into the source cache; returns its paths (host).

        Raises:
            SlurmFactoryError: The subclass tells what failed.
        """
        ...

    def build(self, job: Job, instance: Instance, /) -> Built:
        """Build Slurm, and what the recipe builds with it, in the instance.

        Raises:
            SlurmFactoryError: The subclass tells what failed.
        """
        ...


RECIPES: Mapping[Deps, Recipe] = {Deps.SPACK: spack, Deps.SYSTEM: system}
