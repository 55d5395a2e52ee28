"""What a build needs: fetched, or with --offline looked for and, where missing, named."""

import hashlib
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from archspec.cpu import TARGETS
from fake_lxc import FakeLxc, install_fake_lxc, instance
from job_samples import sample_job
from plan_samples import SPACK, sample_plan, sample_settings, spack_plan
from typer.testing import CliRunner

from slurm_factory import supplies as preparation
from slurm_factory.config import Settings
from slurm_factory.exceptions import ConfigurationError, DownloadError
from slurm_factory.fetch.checkouts import checkouts_of
from slurm_factory.fetch.sources import Source
from slurm_factory.fetch.upstream import prefetch_command
from slurm_factory.instances.base import base_instance_name, compatibility_tag
from slurm_factory.instances.images import candidates
from slurm_factory.job import Job
from slurm_factory.main import app
from slurm_factory.output.reporter import Reporter, make_reporter
from slurm_factory.plan import spack as targets
from slurm_factory.plan.plan import BuildPlan
from slurm_factory.recipes import system
from slurm_factory.supplies import fetch_supplies, find_supplies, require_machine

PLANS = (sample_plan(gpu=True), spack_plan())


class Machine:
    """This machine: LXD on it, its caches, and what a plan's sources are."""

    def __init__(
        self,
        settings: Settings,
        fake: FakeLxc,
        reporter: Reporter,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.settings, self.fake, self.reporter = settings, fake, reporter
        self.upstream = settings.cache_dir.with_name("upstream")
        self.upstream.mkdir()
        monkeypatch.setattr(preparation, "base_sources", self._base_sources)
        monkeypatch.setattr(system, "sources", self._sources)

    def _sources(self, _: Job) -> dict[str, Source]:
        return {name: self.source(name) for name in ("slurm", "nvml")}

    def _base_sources(self, plan: BuildPlan) -> dict[str, Source]:
        return {"clingo": self.source("clingo")} if plan.spack else {}

    def job(self, plan: BuildPlan, *, offline: bool = False) -> Job:
        return sample_job(plan, self.settings, self.reporter, offline=offline)

    def source(self, name: str) -> Source:
        digest = hashlib.sha256(name.encode()).hexdigest()
        return Source(f"source of {name}", digest, None, (f"file://{self.upstream / name}",), "")

    def has(self, *names: str) -> None:
        """Put sources into the cache."""
        for name in names:
            path = self.settings.source_cache_dir / self.source(name).stored_as
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)

    def has_checkouts(self, plan: BuildPlan) -> None:
        assert plan.spack
        self.settings.spack_checkouts_dir.mkdir(parents=True)
        for checkout in checkouts_of(plan.spack.refs):
            (self.settings.spack_checkouts_dir / checkout.archive_name).write_text("tar")

    def has_base(self, plan: BuildPlan) -> None:
        image = candidates(plan.base, plan.architecture)[1]
        project = self.settings.project_name
        name = base_instance_name(plan.setup, image, project)
        tag = compatibility_tag(plan.setup, project)
        full = f"base-instance-{tag}-{image.remote}-{image.alias}"
        self.fake.instances([instance(name, datetime.now(UTC), description=full)])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    fake = install_fake_lxc(tmp_path / "bin", monkeypatch)
    settings = sample_settings(tmp_path / "cache")
    with make_reporter(quiet=True) as reporter:
        yield Machine(settings, fake, reporter, monkeypatch)


def missing(plan: BuildPlan, machine: Machine) -> tuple[list[str], str]:
    """What an offline build of a plan finds missing, and what it advises."""
    with pytest.raises(DownloadError, match="--offline") as caught:
        find_supplies(machine.job(plan))
    listed = caught.value.details.removeprefix("Missing: ").removesuffix(".")
    return listed.split(", "), caught.value.resolution


def test_an_older_machine_ends_a_build_with_spack_at_its_start_and_no_other(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "host", lambda: TARGETS["core2"])
    with pytest.raises(ConfigurationError, match="x86_64_v2"):
        require_machine(machine.job(PLANS[1]))
    require_machine(machine.job(PLANS[0]))


@pytest.mark.parametrize("plan", PLANS)
def test_offline_everything_that_is_missing_is_named_at_once(
    machine: Machine, plan: BuildPlan
) -> None:
    named, advice = missing(plan, machine)
    archives = checkouts_of(plan.spack.refs) if plan.spack else ()
    directory = machine.settings.spack_checkouts_dir
    assert named == [
        *(["source of clingo"] if plan.spack else ["source of slurm", "source of nvml"]),
        *(str(directory / archive.archive_name) for archive in archives),
        "a base instance of debian@12",
    ]
    assert f"`{prefetch_command(plan)}`" in advice
    assert f"copy {machine.settings.cache_dir} from there" in advice


@pytest.mark.parametrize("absent", ["slurm", "nvml"])
def test_offline_one_missing_source_is_named_and_nothing_else(
    machine: Machine, absent: str
) -> None:
    machine.has(*({"slurm", "nvml"} - {absent}))
    machine.has_base(PLANS[0])
    assert missing(PLANS[0], machine)[0] == [f"source of {absent}"]


def test_no_source_is_asked_for_before_spack_has_reported_what_the_build_cache_lacks(
    machine: Machine,
) -> None:
    machine.has_base(PLANS[1])
    find_supplies(machine.job(PLANS[1]))
    assert fetch_supplies(machine.job(PLANS[1])) is None
    assert not machine.settings.source_cache_dir.exists()


@pytest.mark.parametrize("plan", PLANS)
def test_offline_a_missing_base_is_named_with_the_way_to_it(
    machine: Machine, plan: BuildPlan
) -> None:
    machine.has("slurm", "nvml", "clingo")
    if plan.spack:
        machine.has_checkouts(plan)
    named, advice = missing(plan, machine)
    assert named == ["a base instance of debian@12"]
    assert "The same command makes the base instance" in advice


@pytest.mark.parametrize("plan", PLANS)
def test_offline_with_all_there_the_build_goes_on_and_no_connection_is_made(
    machine: Machine, plan: BuildPlan
) -> None:
    """What makes a base is not asked for where the base is; the guard ends a connection."""
    machine.has("slurm", "nvml")
    machine.has_base(plan)
    find_supplies(machine.job(plan))
    assert machine.fake.changes == []


def test_offline_a_repository_that_spack_would_clone_ends_the_build_before_anything_is_asked(
    machine: Machine,
) -> None:
    config = "repos: {site: {git: 'https://me:secret@git.example/recipes.git'}}"
    plan = spack_plan(spack=replace(SPACK, config=config))
    with pytest.raises(ConfigurationError, match="site") as caught:
        require_machine(machine.job(plan, offline=True))
    assert "--offline" in caught.value.brief
    assert str(machine.settings.cache_dir) in caught.value.resolution
    assert "secret" not in str(caught.value)
    assert machine.fake.calls == []


def test_offline_a_damaged_source_counts_as_missing(machine: Machine) -> None:
    machine.has("slurm", "nvml")
    machine.has_base(PLANS[0])
    stored = machine.settings.source_cache_dir / machine.source("slurm").stored_as
    stored.write_text("damaged")
    assert missing(PLANS[0], machine)[0] == ["source of slurm"]


def test_offline_a_build_on_this_machine_needs_no_base(machine: Machine) -> None:
    machine.has("slurm", "nvml")
    find_supplies(machine.job(replace(PLANS[0], destructive=True)))
    assert machine.fake.calls == []


def test_what_makes_a_base_for_spack_is_fetched_only_where_there_is_none(machine: Machine) -> None:
    plan = PLANS[1]
    machine.has("clingo")
    machine.has_checkouts(plan)
    files = fetch_supplies(machine.job(plan))
    assert files is not None
    assert files.clingo.read_text() == "clingo"
    assert "packages" in files.packages.name
    machine.has_base(plan)
    assert fetch_supplies(machine.job(plan)) is None


def test_what_is_in_the_cache_is_not_fetched_again(machine: Machine) -> None:
    for name in ("slurm", "nvml"):
        (machine.upstream / name).write_text(name)
    fetch_supplies(machine.job(PLANS[0]))
    for path in machine.upstream.iterdir():
        path.unlink()
    fetch_supplies(machine.job(PLANS[0]))
    find_supplies(machine.job(replace(PLANS[0], destructive=True)))


@pytest.mark.parametrize(
    ("plan", "command"),
    [
        (lambda: spack_plan("25.05", base="ubuntu@24.04"), "--slurm-version 25.05"),
        (
            lambda: sample_plan("25.05.8", gpu=True),
            "--slurm-version 25.05.8 --gpu --base debian@12 --deps system",
        ),
        (
            lambda: spack_plan(minimal=True, base="same", additional_variants="+hdf5 +lz4"),
            "--slurm-version 24.11 --minimal --additional-variants '+hdf5 +lz4' --base debian@12",
        ),
    ],
)
def test_the_command_that_fetches_a_plan_is_one_that_the_program_takes(
    plan: Callable[[], BuildPlan], command: str
) -> None:
    told = prefetch_command(plan())
    assert told == f"slurm-factory prefetch {command}"
    _, _, *options = shlex.split(told)
    result = CliRunner().invoke(app, ["build", *options, "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    assert f'"stem": "{plan().stem}"' in result.stdout
