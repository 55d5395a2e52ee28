"""Filling the caches for plans, so that they can be built where there is no network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory import releases
from slurm_factory.constants import BuildType
from slurm_factory.exceptions import InterruptedBuildError, LXDError, OutputError, SlurmFactoryError
from slurm_factory.instances.base import SpackFiles
from slurm_factory.instances.base_instances import needs_base
from slurm_factory.preparation import (
    Place,
    bring_checkouts,
    bring_sources,
    disk_errors,
    launched,
)
from slurm_factory.recipes import Workshop, spack
from slurm_factory.upstream import CLINGO, sources_for
from slurm_factory.workspace import new_build_id, open_workspace, prepare_cache

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.output import Reporter
    from slurm_factory.plan import BuildPlan, BuildRequest
    from slurm_factory.workspace import Workspace

NAME = "prefetch"


@dataclass(frozen=True)
class Failure:
    """Something that could not be fetched: for which plan, or what it was, and why not."""

    what: str
    error: SlurmFactoryError


@dataclass(frozen=True)
class Prefetched:
    """What is in the caches now.

    Attributes:
        directory: To be carried to another machine (host).
        files: What was fetched now or before, below that directory (host).
        failures: What is missing; without any, everything is there.
    """

    directory: Path
    files: tuple[Path, ...]
    failures: tuple[Failure, ...] = ()

    @property
    def size(self) -> int:
        """Of all files, in bytes."""
        return sum(path.stat().st_size for path in self.files)


def all_requests(request: BuildRequest) -> tuple[BuildRequest, ...]:
    """`request` for every series' newest release and every build type."""
    return tuple(
        replace(
            request,
            slurm_version=series,
            gpu=build_type is BuildType.GPU,
            minimal=build_type is BuildType.MINIMAL,
        )
        for series in releases.series()
        for build_type in BuildType
    )


def prefetch(plans: Sequence[BuildPlan], settings: Settings, reporter: Reporter) -> Prefetched:
    """Fetch all that the plans need into the caches, and make their base instance.

    What fails for one plan does not stop the others.

    Args:
        plans: At least one, all for one recipe on one base.
        settings: Of this site.
        reporter: Shows and logs what happens.

    Raises:
        OutputError: The cache directory cannot be written, or is full.
    """
    prepare_cache(settings)
    with disk_errors(settings), open_workspace(new_build_id(NAME), settings) as workspace:
        reporter.log_to(workspace.log.parent)
        work = _Work(settings, reporter, workspace)
        spack_files = work.bring(plans)
        if plans[0].spack:
            work.bring_package_sources(plans, spack_files)
        else:
            work.make_base(plans[0])
        return Prefetched(settings.cache_dir, tuple(work.files), tuple(work.failures))


class _Work:
    """One run: what it has brought, and what failed."""

    def __init__(self, settings: Settings, reporter: Reporter, workspace: Workspace) -> None:
        self.files: dict[Path, None] = {}
        self.failures: list[Failure] = []
        self._settings = settings
        self._reporter = reporter
        self._workspace = workspace

    def bring(self, plans: Sequence[BuildPlan]) -> SpackFiles | None:
        """Fetch what is known before there is an instance.

        Returns:
            What a base for Spack is made of, if the plans need one and all of it is there.
        """
        clingo: Path | None = None
        checkouts: tuple[Path, Path] | None = None
        refs = plans[0].setup.spack
        wanted = {
            source: name
            for plan in plans
            for name, source in sources_for(plan, self._settings).items()
        }
        with self._reporter.step("Fetch sources"):
            for source, name in wanted.items():
                with self._part(source.name):
                    brought = bring_sources({name: source}, self._settings, self._reporter)
                    clingo = brought.get(CLINGO, clingo)
                    self._add(brought.values())
            if refs:
                with self._part("Spack"):
                    checkouts = bring_checkouts(refs, self._settings, self._reporter)
                    self._add(checkouts)
        return SpackFiles(*checkouts, clingo) if checkouts and clingo else None

    def bring_package_sources(
        self, plans: Sequence[BuildPlan], spack_files: SpackFiles | None
    ) -> None:
        """Let Spack decide about each plan, and fetch the sources of all its packages."""
        first = plans[0]
        place = Place(self._workspace, spack_files=spack_files)
        with self._part(f"packages of {first.base.name}"):
            if not spack_files and self._needs_base(first):
                return
            with launched(first, self._settings, self._reporter, place) as instance:
                for plan in plans:
                    workshop = Workshop(
                        plan=plan,
                        settings=self._settings,
                        instance=instance,
                        reporter=self._reporter,
                        work=self._workspace.work,
                        sources={},
                        jobs=1,
                    )
                    with self._part(plan.stem), self._reporter.step(plan.stem):
                        self._add(spack.prefetch(workshop))

    def make_base(self, plan: BuildPlan) -> None:
        """Make the base instance, which is no part of the caches and which other machines have."""
        place = Place(self._workspace)
        try:
            if self._needs_base(plan):
                with launched(plan, self._settings, self._reporter, place):
                    pass
        except LXDError as error:
            self._reporter.warning(
                f"A build on this machine needs a base instance, and there is none: {error.brief}"
            )

    def _needs_base(self, plan: BuildPlan) -> bool:
        return needs_base(plan.setup, plan.architecture, self._settings)

    def _add(self, paths: Iterable[Path]) -> None:
        self.files |= dict.fromkeys(paths)

    @contextmanager
    def _part(self, what: str) -> Iterator[None]:
        """A part of the work whose failure leaves the others be; a full disk does not."""
        try:
            yield
        except (OutputError, InterruptedBuildError):
            raise
        except SlurmFactoryError as error:
            self.failures.append(Failure(what, error))
