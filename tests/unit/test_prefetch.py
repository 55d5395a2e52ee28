"""Filling the caches: everything that plans need, each file once, despite failures."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from plan_samples import make_request, sample_plan, sample_settings, spack_plan

from slurm_factory import prefetch as module
from slurm_factory import supplies as preparation
from slurm_factory.config import Settings
from slurm_factory.constants import BuildType, Deps
from slurm_factory.exceptions import DownloadError, LXDError, OutputError, SpackError
from slurm_factory.fetch.sources import Source
from slurm_factory.instances.base import SpackFiles
from slurm_factory.job import Job
from slurm_factory.output.reporter import Reporter, make_reporter
from slurm_factory.plan.plan import BuildPlan
from slurm_factory.plan.releases import find_release, series
from slurm_factory.prefetch import all_requests, prefetch
from slurm_factory.recipes.spack import build as spack

PLANS = (spack_plan(minimal=True), spack_plan("25.05"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return sample_settings(tmp_path / "cache")


@pytest.fixture
def reporter() -> Iterator[Reporter]:
    with make_reporter(quiet=True) as reporter:
        yield reporter


class World:
    """What lies outside: sources upstream, git, LXD and Spack, each of which may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, upstream: Path) -> None:
        self.upstream = upstream
        self.failing: dict[str, Exception] = {}
        self.done: list[str] = []
        self.has_base = False
        self.spack_files: SpackFiles | None = None
        monkeypatch.setattr(module, "sources_for", self._sources_for)
        monkeypatch.setattr(module, "base_sources", self._base_sources)
        monkeypatch.setattr(preparation, "fetch_checkouts", self._checkouts)
        monkeypatch.setattr(module, "needs_base", lambda *_: not self.has_base)
        monkeypatch.setattr(module, "launch_instance", self._launch_instance)
        monkeypatch.setattr(spack, "prefetch", self._package_sources)

    def _sources_for(self, plan: BuildPlan, _: Settings) -> dict[str, Source]:
        return {"slurm": self._source(f"slurm {plan.version}")}

    def _base_sources(self, plan: BuildPlan) -> dict[str, Source]:
        return {"clingo": self._source("clingo")} if plan.spack else {}

    def _source(self, name: str) -> Source:
        path = self.upstream / name
        self.upstream.mkdir(exist_ok=True)
        if name not in self.failing and name not in self.done:
            path.write_text(name)
            self.done.append(name)
        digest = hashlib.sha256(name.encode()).hexdigest()
        return Source(name, digest, len(name), (f"file://{path}",), "")

    def _do(self, name: str) -> None:
        self.done.append(name)
        if name in self.failing:
            raise self.failing[name]

    def _checkouts(self, _: object, directory: Path, **__: Any) -> tuple[Path, Path]:
        self._do("checkouts")
        directory.mkdir(exist_ok=True)
        paths = directory / "spack.tar.gz", directory / "spack-packages.tar.gz"
        for path in paths:
            path.write_text("tar")
        return paths

    @contextmanager
    def _launch_instance(
        self, _: Job, spack_files: SpackFiles | None = None, __: Sequence[Job] = ()
    ) -> Iterator[str]:
        self.spack_files = spack_files
        self._do("launch")
        yield "the instance"
        self.done.append("end")

    def _package_sources(self, job: Job, _: object) -> tuple[Path, ...]:
        assert job.workspace.work.is_dir()
        self._do(job.plan.stem)
        path = job.settings.source_cache_dir / "lz4"
        path.write_text("lz4")
        return (path,)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return World(monkeypatch, tmp_path / "upstream")


def test_each_file_counts_once_and_one_instance_serves_all_plans(
    world: World, settings: Settings, reporter: Reporter
) -> None:
    prefetched = prefetch(PLANS, settings, reporter)
    names = ("slurm 24.11", "clingo", "slurm 25.05")
    assert world.done == [*names, "checkouts", "launch", *(p.stem for p in PLANS), "end"]
    assert len(prefetched.files) == 6
    assert prefetched.size == sum(map(len, (*names, "tar", "tar", "lz4")))
    assert prefetched.failures == ()
    assert prefetched.directory == settings.cache_dir
    assert all(path.is_relative_to(settings.cache_dir) for path in prefetched.files)
    assert world.spack_files is not None
    assert list(settings.work_dir.iterdir()) == []


def test_the_second_time_no_source_is_downloaded(
    world: World, settings: Settings, reporter: Reporter
) -> None:
    first = prefetch(PLANS, settings, reporter)
    for path in world.upstream.iterdir():
        path.unlink()
    assert prefetch(PLANS, settings, reporter) == first


def test_a_source_that_cannot_be_fetched_stops_nothing_else(
    world: World, settings: Settings, reporter: Reporter
) -> None:
    world.failing["slurm 24.11"] = DownloadError("-")
    prefetched = prefetch(PLANS, settings, reporter)
    (failure,) = prefetched.failures
    assert failure.what == "slurm 24.11"
    assert failure.error.exit_code == 4
    assert {path.read_text() for path in prefetched.files} == {
        *("clingo", "slurm 25.05", "tar", "lz4"),
    }


def test_a_plan_that_spack_finds_no_way_for_does_not_stop_the_others(
    world: World, settings: Settings, reporter: Reporter
) -> None:
    world.failing[PLANS[0].stem] = SpackError("no way")
    prefetched = prefetch(PLANS, settings, reporter)
    assert [(failure.what, str(failure.error)) for failure in prefetched.failures] == [
        (PLANS[0].stem, "no way")
    ]
    assert world.done[-2:] == [PLANS[1].stem, "end"]


def test_without_the_checkouts_no_base_is_begun_that_could_not_be_finished(
    world: World, settings: Settings, reporter: Reporter
) -> None:
    world.failing["checkouts"] = DownloadError("no Spack")
    prefetched = prefetch(PLANS, settings, reporter)
    assert [str(failure.error) for failure in prefetched.failures] == ["no Spack"]
    assert "launch" not in world.done
    world.has_base = True
    assert len(prefetch(PLANS, settings, reporter).files) == 4
    assert world.done[-1] == "end"


def test_without_lxd_what_needs_no_instance_is_fetched_all_the_same(
    world: World, settings: Settings, reporter: Reporter
) -> None:
    world.failing["launch"] = LXDError("no LXD")
    prefetched = prefetch(PLANS, settings, reporter)
    assert len(prefetched.files) == 5
    assert [failure.error.exit_code for failure in prefetched.failures] == [3]


def test_a_full_disk_ends_all_of_it(world: World, settings: Settings, reporter: Reporter) -> None:
    world.failing[PLANS[0].stem] = OutputError("full")
    with pytest.raises(OutputError, match="full"):
        prefetch(PLANS, settings, reporter)
    assert world.done[-1] == PLANS[0].stem
    world.failing["checkouts"] = OSError(28, "No space left on device", "/c/x")
    with pytest.raises(OutputError, match="/c/x could not be written"):
        prefetch(PLANS, settings, reporter)


@pytest.mark.parametrize(
    ("has_base", "done"), [(True, ["slurm 24.11"]), (False, ["slurm 24.11", "launch", "end"])]
)
def test_the_other_recipe_gets_its_sources_and_a_base_for_builds_on_this_machine(
    world: World, settings: Settings, reporter: Reporter, has_base: bool, done: list[str]
) -> None:
    world.has_base = has_base
    prefetched = prefetch([sample_plan()], settings, reporter)
    assert world.done == done
    assert [path.read_text() for path in prefetched.files] == ["slurm 24.11"]


def test_the_sources_of_the_other_recipe_can_be_fetched_where_there_is_no_lxd(
    world: World, settings: Settings, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(reporter, "warning", warnings.append)
    world.failing["launch"] = LXDError("The command `lxc` is not installed.")
    assert prefetch([sample_plan()], settings, reporter).failures == ()
    assert ["is not installed" in warning for warning in warnings] == [True]


def test_all_is_every_series_in_every_type_and_nothing_else_of_the_request_changes() -> None:
    request = make_request(deps=Deps.SPACK, additional_variants="+hdf5")
    requests = all_requests(request)
    assert len(requests) == len(series()) * len(BuildType)
    releases = [find_release(request.slurm_version) for request in requests]
    assert all(release.sha256 for release in releases)
    assert {release.series for release in releases} == set(series())
    # A series by its name, but for one whose newest release has no checksum.
    names = {
        name if find_release(name).sha256 else r.release
        for name in series()
        for r in releases
        if r.series == name
    }
    assert {(r.slurm_version, r.gpu, r.minimal) for r in requests} == {
        (name, gpu, minimal)
        for name in names
        for gpu, minimal in ((False, False), (True, False), (False, True))
    }
    assert {(r.deps, r.base, r.additional_variants, r.spack) for r in requests} == {
        (request.deps, request.base, "+hdf5", request.spack)
    }
