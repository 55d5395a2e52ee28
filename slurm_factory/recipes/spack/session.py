"""Spack in an instance: its paths and environment."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from slurm_factory import resources
from slurm_factory.constants import (
    INSTANCE_BUILDCACHES,
    INSTANCE_PACKAGES,
    INSTANCE_PROJECT,
    INSTANCE_SPACK,
    INSTANCE_SPACK_PYTHON,
    INSTANCE_STORE,
)
from slurm_factory.exceptions import ConfigurationError, SpackError
from slurm_factory.instances.instance import CommandError
from slurm_factory.output.text import mask_credentials
from slurm_factory.plan.base_setup import INSTANCE_INDEX
from slurm_factory.recipes.ccache import ccache_environment
from slurm_factory.recipes.spack.packages import SCRIPT, read_descriptions
from slurm_factory.spack_yaml import SITE_YAML

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_factory.instances.instance import Instance
    from slurm_factory.job import Job
    from slurm_factory.plan.plan import SpackChoice
    from slurm_factory.recipes.spack.packages import PackageDescription

EPOCH = 315532800
"""1980-01-01, the earliest date in zip archives: the date of everything but Slurm.

Packages in the build cache serve every release of Slurm; Slurm's own package recipe sets its
release date.
"""


@dataclass(frozen=True)
class InstancePaths:
    """Paths of Spack in the instance.

    Attributes:
        program: Spack itself.
        python: The interpreter that runs it.
        project: Directory of the project.
        store: Where it installs packages.
        packages: Build cache of the packages that it has built here.
        caches: Directory of what this machine shows of build caches elsewhere.
        index: Its `misc_cache`: the index of its package recipes, which came with the base.
    """

    program: PurePosixPath = INSTANCE_SPACK / "bin/spack"
    python: PurePosixPath = INSTANCE_SPACK_PYTHON
    project: PurePosixPath = INSTANCE_PROJECT
    store: PurePosixPath = INSTANCE_STORE
    packages: PurePosixPath = INSTANCE_PACKAGES
    caches: PurePosixPath = INSTANCE_BUILDCACHES
    index: PurePosixPath = INSTANCE_INDEX


def spack_choice(job: Job) -> SpackChoice:
    """The Spack settings in the plan of a job."""
    if job.plan.spack is None:
        raise ValueError("the plan is not for the Spack recipe")
    return job.plan.spack


@dataclass(frozen=True)
class Spack:
    """Runs Spack in its project, for one build."""

    job: Job
    instance: Instance
    paths: InstancePaths

    @property
    def work(self) -> Path:
        """Staging directory of this build (host)."""
        return self.job.workspace.work

    @property
    def choice(self) -> SpackChoice:
        """The Spack settings in the plan."""
        return spack_choice(self.job)

    @property
    def logs(self) -> Path:
        """Directory (host) of this build's logs; outlives the instance."""
        return self.job.workspace.log.parent

    @property
    def input(self) -> Path:
        """Files (host) for the instance, which cannot change them."""
        return self.job.workspace.input

    @property
    def buildcaches(self) -> tuple[Path, ...]:
        """Build caches of this machine (host). The first one gets the packages of this build."""
        return tuple(self.job.settings.results_dir / name for name in self.choice.local_buildcaches)

    @property
    def views(self) -> Path:
        """Directory (host) of what the instance sees of build caches elsewhere."""
        return self.input / "buildcaches"

    @property
    def stats_log(self) -> PurePosixPath:
        """File (instance) with the ccache statistics of this build."""
        return self.instance.build_dir / "ccache-stats"

    @cached_property
    def packages(self) -> dict[str, PackageDescription]:
        """Spack's facts about the packages in the instance's project, by hash; queried once.

        Externals are not among them.

        Raises:
            SpackError: Spack does not answer, or in a form that this program cannot read.
        """
        script = self.input / SCRIPT
        script.write_text(resources.script(SCRIPT), "utf-8")
        output: list[str] = []
        try:
            self.run("python", self.inside(script), on_line=output.append)
        except CommandError as error:
            raise SpackError(
                "Spack does not describe its packages.",
                details=error.details,
                resolution="Report this with the build log.",
            ) from error
        return read_descriptions(output)

    def environment(self) -> dict[str, str]:
        """Environment of every Spack command; builds inherit it."""
        instance = self.instance
        stage = instance.build_dir / "spack-stage"
        return {
            **ccache_environment(self.job, instance, stage),
            "CCACHE_STATSLOG": str(self.stats_log),
            "PYTHONUNBUFFERED": "1",
            "SOURCE_DATE_EPOCH": str(EPOCH),
            "SPACK_DISABLE_LOCAL_CONFIG": "1",
            "SPACK_PYTHON": str(self.paths.python),
            "SPACK_USER_CACHE_PATH": str(instance.build_dir / "spack-user"),
        }

    def run(self, *arguments: str, on_line: Callable[[str], None] | None = None) -> None:
        """Run a Spack command in the project.

        Args:
            arguments: Arguments of `spack -D <project>`; no line breaks.
            on_line: Called with each line it prints; by default it goes to the build log.

        Raises:
            CommandError: It failed.
            ConfigurationError: Spack rejects the user's own configuration.
            OutputError: The cache directory is full.
        """
        parameters = {
            **self.environment(),
            "SPACK": str(self.paths.program),
            "PROJECT": str(self.paths.project),
            "ARGUMENTS": "\n".join(arguments),
        }
        try:
            self.run_script("spack-run.sh", parameters, on_line)
        except CommandError as error:
            self._require_no_mistake(error)
            raise

    def run_script(
        self,
        name: str,
        parameters: dict[str, str],
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        """Run a script of resources/scripts in the instance; raises as `run` does."""
        self.instance.run_script(name, parameters, on_line or self.job.reporter.line)

    def _require_no_mistake(self, error: CommandError) -> None:
        """If Spack rejects the user's own configuration, name their file, not its copy."""
        copy = re.escape(str(self.paths.project / SITE_YAML))
        mistake = re.compile(rf"==> Error: {copy}:(?P<line>\d+): (?P<why>.+)")
        for found in filter(None, map(mistake.fullmatch, error.tail)):
            raise ConfigurationError(
                f"Spack cannot use {self.job.settings.spack_config}, line {found['line']}.",
                details=f"{mask_credentials(found['why'])}.",
                resolution="Correct it, or unset SLURM_FACTORY_SPACK_CONFIG.",
            ) from error

    def inside(self, path: Path) -> str:
        """The instance's path of a host path below the cache directory."""
        return str(self.instance.inside(path))

    def fill(self, name: str, script: str, parameters: dict[str, str]) -> Path:
        """Run a script that fills a directory OUT in the instance, and take that out.

        Args:
            name: Name of the directory.
            script: File name of the script.
            parameters: Its parameters besides OUT.

        Returns:
            The copy (host), in the work directory.
        """
        return self.instance.fill(self.work / name, script, parameters, self.job.reporter.line)
