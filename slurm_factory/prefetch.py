"""Fill the caches for plans, to build them without a network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_factory.constants import BuildType
from slurm_factory.exceptions import InterruptedBuildError, LXDError, OutputError, SlurmFactoryError
from slurm_factory.fetch.upstream import CLINGO, base_sources, sources_for
from slurm_factory.instances.base import SpackFiles, needs_base
from slurm_factory.job import Job
from slurm_factory.plan import releases
from slurm_factory.plan.glibc import ZIG
from slurm_factory.recipes.recipe import RECIPES
from slurm_factory.supplies import (
    fetch_source_archives,
    fetch_spack,
    launch_instance,
    system_errors,
)
from slurm_factory.workspace import new_build_id, open_workspace

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.fetch.sources import Source
    from slurm_factory.output.reporter import Reporter
    from slurm_factory.plan.plan import BuildPlan, BuildRequest
    from slurm_factory.plan.releases import Release

NAME = "prefetch"


@dataclass(frozen=True)
class Failure:
    """A failure to fetch: its plan or its name, and the reason."""

    what: str
    error: SlurmFactoryError


@dataclass(frozen=True)
class Prefetched:
    """The content of the caches.

    Attributes:
        directory: Directory to copy to another machine (host).
        files: Files fetched now or before, below that directory (host).
        failures: Missing files; empty if everything is there.
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
            slurm_version=_newest(series, request.catalog),
            gpu=build_type is BuildType.GPU,
            minimal=build_type is BuildType.MINIMAL,
        )
        for series in releases.series(request.catalog)
        for build_type in BuildType
    )


def _newest(series: str, catalog: Sequence[Release]) -> str:
    """A series, or its newest release with a checksum if the newest has none."""
    if releases.find_release(series, catalog).sha256:
        return series
    members = [each for each in catalog or releases.catalog() if each.series == series]
    return next((each.release for each in reversed(members) if each.sha256), series)


def prefetch(plans: Sequence[BuildPlan], settings: Settings, reporter: Reporter) -> Prefetched:
    """Fetch everything that the plans need into the caches, and make their base instance.

    A failure for one plan does not stop the others.

    Args:
        plans: At least one plan; all for the same recipe and base.
        settings: Settings of this site.
        reporter: Shows and logs what happens.

    Raises:
        OutputError: The cache directory cannot be written, or is full.
    """
    with (
        system_errors(settings),
        open_workspace(new_build_id(NAME), settings, reporter) as workspace,
    ):
        reporter.log_to(workspace.log.parent)
        work = _Work([Job(plan, settings, reporter, workspace, jobs=1) for plan in plans])
        spack_files = work.bring()
        if plans[0].spack:
            work.fetch_package_sources(spack_files)
        else:
            work.make_base()
        return Prefetched(settings.cache_dir, tuple(work.files), tuple(work.failures))


class _Work:
    """One run: fetched files and failures."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.files: dict[Path, None] = {}
        self.failures: list[Failure] = []
        self._jobs = jobs
        self._first = jobs[0]
        self._reporter = self._first.reporter

    def bring(self) -> SpackFiles | None:
        """Fetch the sources that are known before there is an instance.

        Returns:
            The files for a base with Spack, if the plans need one and all files are there.
        """
        wheels: dict[str, Path] = {}
        checkouts: tuple[Path, Path] | None = None
        settings, refs = self._first.settings, self._first.plan.setup.spack
        wanted: dict[Source, str] = {}
        for job in self._jobs:
            with self._part(job.plan.stem):
                named = sources_for(job.plan, settings) | base_sources(job.plan)
                wanted |= {source: name for name, source in named.items()}
        with self._reporter.step("Fetch sources"):
            for source, name in wanted.items():
                with self._part(source.name):
                    fetched = fetch_source_archives({name: source}, settings, self._reporter)
                    wheels |= {key: fetched[key] for key in (CLINGO, ZIG) if key in fetched}
                    self._add(fetched.values())
            if refs:
                with self._part("Spack"):
                    checkouts = fetch_spack(refs, settings, self._reporter)
                    self._add(checkouts)
        if not checkouts or not base_sources(self._first.plan).keys() <= wheels.keys():
            return None
        return SpackFiles(*checkouts, wheels[CLINGO], wheels.get(ZIG))

    def fetch_package_sources(self, spack_files: SpackFiles | None) -> None:
        """Concretize each plan, and fetch the sources of all its packages."""
        with self._part(f"packages of {self._first.plan.base.name}"):
            if not spack_files and self._needs_base():
                return
            with launch_instance(self._first, spack_files, self._jobs[1:]) as instance:
                for job in self._jobs:
                    stem = job.plan.stem
                    with self._part(stem), self._reporter.step(stem):
                        self._add(RECIPES[job.plan.deps].prefetch(job, instance))

    def make_base(self) -> None:
        """Make the base instance, which is not part of the caches."""
        try:
            if self._needs_base():
                with launch_instance(self._first):
                    pass
        except LXDError as error:
            self._reporter.warning(
                f"A build on this machine needs a base instance, but there is none: {error.brief}"
            )

    def _needs_base(self) -> bool:
        plan = self._first.plan
        return needs_base(plan.setup, plan.machine, self._first.settings)

    def _add(self, paths: Iterable[Path]) -> None:
        self.files |= dict.fromkeys(paths)

    @contextmanager
    def _part(self, what: str) -> Iterator[None]:
        """A part of the work whose failure does not stop the others, except for a full disk."""
        try:
            yield
        except (OutputError, InterruptedBuildError):
            raise
        except SlurmFactoryError as error:
            self.failures.append(Failure(what, error))
