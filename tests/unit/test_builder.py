"""A build as a whole: what is published, what is left, and when nothing has to be done."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from craft_providers import lxd
from fake_lxc import install_fake_lxc
from package_samples import stage
from plan_samples import sample_plan, sample_settings

from slurm_factory import builder
from slurm_factory import supplies as preparation
from slurm_factory.builder import build
from slurm_factory.config import Settings
from slurm_factory.exceptions import (
    BuildError,
    DownloadError,
    LXDError,
    OutputError,
    SlurmFactoryError,
)
from slurm_factory.host.facts import Daemon
from slurm_factory.instances import lxc
from slurm_factory.instances.instance import Instance
from slurm_factory.instances.this_machine import this_machine
from slurm_factory.job import Job
from slurm_factory.output.reporter import Reporter, make_reporter
from slurm_factory.package.built import Built
from slurm_factory.package.manifest import load_manifest, write_manifest
from slurm_factory.package.publish import publish
from slurm_factory.plan.base_setup import BASE_LIFE, record_path, write_record
from slurm_factory.plan.plan import BuildPlan
from slurm_factory.recipes import system
from slurm_factory.relocate.closure import Closure
from slurm_factory.up_to_date import Outcome, find_up_to_date
from slurm_factory.workspace import prepare_cache

RECORD = {"base": "debian@12", "packages": {"libmunge-dev:amd64": "0.5.15-2"}}
STEPS = ("require_build_packages", "fetch", "compile", "assemble", "publish")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = sample_settings(tmp_path / "cache")
    prepare_cache(settings)
    write_record(RECORD, sample_plan().setup, settings.images_dir)
    return settings


@pytest.fixture
def reporter() -> Iterator[Reporter]:
    with make_reporter(quiet=True) as reporter:
        yield reporter


def finish(settings: Settings, scratch: Path, key: str) -> Path:
    """A finished artifact with a build key."""
    staged = stage(scratch)
    manifest = load_manifest(staged)
    write_manifest(manifest.model_copy(update={"build_key": key}), scratch)
    return publish(staged, settings.builds_dir / "24.11")


class Steps:
    """Steps of a destructive build, each of which may be made to fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failing: dict[str, BaseException] = {}
        self.done: list[str] = []
        monkeypatch.setattr(preparation, "fetch", self._step("fetch", lambda *_, **__: Path("/s")))
        look = self._step("require_build_packages", lambda *_: {})
        monkeypatch.setattr(preparation, "require_build_packages", look)
        monkeypatch.setattr(system, "build", self._step("compile", self._compile))
        monkeypatch.setattr(builder, "assemble", self._step("assemble", self._assemble))
        monkeypatch.setattr(builder, "publish", self._step("publish", publish))

    def _step(self, name: str, really: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            self.done.append(name)
            if name in self.failing:
                raise self.failing[name]
            return really(*arguments, **named)

        return step

    @staticmethod
    def _compile(job: Job, instance: Instance) -> Built:
        tree = job.workspace.work / "software"
        tree.mkdir()
        return Built(tree, Closure((), (), {}), {}, tree, {}, build_paths=(), configure=())

    @staticmethod
    def _assemble(job: Job, built: Built, _: object) -> Path:
        assert built.tree.is_dir()
        return stage(job.workspace.work / "artifacts")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def run(settings: Settings, reporter: Reporter, plan: BuildPlan | None = None) -> Outcome:
    plan = plan or sample_plan(destructive_mode=True)
    return build(plan, settings, reporter, keep_instance=False)


def tree_of(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


# --- up to date ---------------------------------------------------------------------------------


def test_a_finished_build_with_the_same_key_is_found(settings: Settings, tmp_path: Path) -> None:
    plan = sample_plan()
    path = finish(settings, tmp_path / "staged", plan.build_key(RECORD))
    found = find_up_to_date(plan, settings)
    assert found is not None
    assert (found.manifest_path, found.up_to_date) == (path, True)


def test_a_finished_build_that_was_killed_while_it_was_published_is_found(
    settings: Settings, tmp_path: Path
) -> None:
    plan = sample_plan()
    path = finish(settings, tmp_path / "staged", plan.build_key(RECORD))
    complete = path.parent / f".{load_manifest(path).identity.stem}.complete"
    complete.mkdir()
    path.rename(complete / path.name)
    found = find_up_to_date(plan, settings)
    assert found is not None
    assert found.manifest_path == path


def test_a_machine_without_a_cache_has_nothing_up_to_date(tmp_path: Path) -> None:
    assert find_up_to_date(sample_plan(), sample_settings(tmp_path / "none")) is None
    assert not (tmp_path / "none").exists()


def test_another_plan_is_not_up_to_date(settings: Settings, tmp_path: Path) -> None:
    finish(settings, tmp_path / "staged", sample_plan().build_key(RECORD))
    assert find_up_to_date(sample_plan(additional_variants="+hdf5"), settings) is None
    assert find_up_to_date(sample_plan(base="debian@13"), settings) is None


def test_an_upgraded_base_is_not_up_to_date(settings: Settings, tmp_path: Path) -> None:
    plan = sample_plan()
    finish(settings, tmp_path / "staged", plan.build_key(RECORD))
    write_record({**RECORD, "packages": {}}, plan.setup, settings.images_dir)
    assert find_up_to_date(plan, settings) is None


def test_a_package_of_one_member_is_up_to_date_whatever_the_bases_of_others_are(
    settings: Settings, tmp_path: Path
) -> None:
    plan = sample_plan()
    finish(settings, tmp_path / "staged", plan.build_key(RECORD))
    for path in settings.images_dir.iterdir():
        path.unlink()
    write_record({**RECORD, "packages": {}}, plan.setup, settings.images_dir, member="m1")
    assert find_up_to_date(plan, settings) is None
    write_record(RECORD, plan.setup, settings.images_dir, member="m2")
    record_path(plan.setup, settings.images_dir, "m2").with_suffix(".m2.lock").touch()
    assert find_up_to_date(plan, settings) is not None


def test_what_was_built_on_a_base_that_has_outlived_itself_is_not_up_to_date(
    settings: Settings, tmp_path: Path
) -> None:
    plan = sample_plan()
    finish(settings, tmp_path / "staged", plan.build_key(RECORD))
    day = timedelta(days=1)
    write_record(RECORD, plan.setup, settings.images_dir, datetime.now(UTC) - BASE_LIFE + day)
    assert find_up_to_date(plan, settings) is not None
    write_record(RECORD, plan.setup, settings.images_dir, datetime.now(UTC) - BASE_LIFE - day)
    assert find_up_to_date(plan, settings) is None


def test_a_cache_that_cannot_be_entered_has_nothing_up_to_date(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, close_to_us: Callable[[Path], None]
) -> None:
    monkeypatch.setattr("slurm_factory.instances.this_machine.machine_record", lambda _: RECORD)
    close_to_us(settings.cache_dir)
    assert find_up_to_date(sample_plan(destructive_mode=True), settings) is None


def test_without_a_record_of_the_base_nothing_is_up_to_date(
    settings: Settings, tmp_path: Path
) -> None:
    plan = sample_plan()
    finish(settings, tmp_path / "staged", plan.build_key(RECORD))
    shutil.rmtree(settings.images_dir)
    assert find_up_to_date(plan, settings) is None


@pytest.mark.parametrize("ending", ["software.tar.gz", "module.tar.gz"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_tarball_is_not_up_to_date(
    settings: Settings, tmp_path: Path, ending: str, damage: str
) -> None:
    plan = sample_plan()
    path = finish(settings, tmp_path / "staged", plan.build_key(RECORD))
    tarball = path.with_name(f"{plan.stem}-{ending}")
    content = tarball.read_bytes()
    if damage == "gone":
        tarball.unlink()
    else:
        tarball.write_bytes(content[:-1] if damage == "cut" else content[::-1])
    assert find_up_to_date(plan, settings) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"manifest_version": 2}', "\x00"])
def test_a_damaged_manifest_is_not_up_to_date(
    settings: Settings, tmp_path: Path, text: str
) -> None:
    plan = sample_plan()
    finish(settings, tmp_path / "staged", plan.build_key(RECORD)).write_text(text)
    assert find_up_to_date(plan, settings) is None


# --- building -----------------------------------------------------------------------------------


def test_a_build_publishes_its_artifact_and_leaves_nothing_but_its_log(
    settings: Settings, reporter: Reporter, steps: Steps
) -> None:
    outcome = run(settings, reporter)
    published = settings.builds_dir / "24.11"
    assert outcome.manifest_path == published / outcome.manifest.identity.manifest
    assert {file.name for file in outcome.manifest.files} <= {*tree_of(published)}
    assert list(settings.work_dir.iterdir()) == []
    assert outcome.log is not None
    assert outcome.log.is_file()
    assert outcome.log.parent.parent == settings.logs_dir
    assert [step.name for step in reporter.steps] == ["Fetch sources", "Launch", "Publish"]


@pytest.mark.parametrize("step", STEPS)
def test_ctrl_c_in_any_step_leaves_no_partial_artifact_and_no_work(
    settings: Settings, reporter: Reporter, steps: Steps, step: str
) -> None:
    steps.failing[step] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        run(settings, reporter)
    assert steps.done[-1] == step
    assert tree_of(settings.builds_dir) == []
    assert tree_of(settings.work_dir) == []


@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk_in_any_step_is_an_output_error_and_loses_no_older_artifact(
    settings: Settings, reporter: Reporter, steps: Steps, step: str, tmp_path: Path
) -> None:
    finish(settings, tmp_path / "staged", "a" * 64)
    before = tree_of(settings.builds_dir)
    steps.failing[step] = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/c/file")
    with pytest.raises(OutputError) as caught:
        run(settings, reporter)
    assert caught.value.exit_code == 7
    assert caught.value.brief == "/c/file could not be written."
    assert caught.value.details == "No space left on device."
    assert tree_of(settings.builds_dir) == before


@pytest.mark.parametrize(
    ("number", "file", "kind", "brief"),
    [
        (errno.EACCES, "/etc/ssl/site.crt", LXDError, "/etc/ssl/site.crt could not be read."),
        (errno.ENOENT, "mmdebstrap", LXDError, "This machine refused mmdebstrap."),
        (errno.ENOMEM, None, LXDError, "This machine refused what the build asked for."),
        (errno.EACCES, "{cache}/ccache", OutputError, "{cache}/ccache could not be used."),
        (errno.EROFS, "/tmp/x", OutputError, "/tmp/x could not be written."),
        (errno.EDQUOT, None, OutputError, "{cache} could not be written."),
    ],
)
def test_what_the_system_refuses_is_reported_as_what_it_is(
    settings: Settings,
    reporter: Reporter,
    steps: Steps,
    number: int,
    file: str | None,
    kind: type[SlurmFactoryError],
    brief: str,
) -> None:
    cache = settings.cache_dir
    name = file and file.format(cache=cache)
    steps.failing["compile"] = OSError(number, os.strerror(number), name)
    with pytest.raises(kind) as caught:
        run(settings, reporter)
    assert caught.value.brief == brief.format(cache=cache)
    assert caught.value.details == f"{os.strerror(number)}."
    assert caught.value.resolution


def test_a_certificate_that_the_user_may_not_read_is_not_reported_as_a_full_disk(
    settings: Settings,
    reporter: Reporter,
    steps: Steps,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = install_fake_lxc(tmp_path / "bin", monkeypatch)
    fake.instances([])
    certificate = "/usr/local/share/ca-certificates/site.crt"

    def launch(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), certificate)

    monkeypatch.setattr(lxd, "launch", launch)
    with pytest.raises(LXDError) as caught:
        run(settings, reporter, sample_plan())
    assert caught.value.brief == f"{certificate} could not be read."
    assert "Permission denied" in caught.value.details
    assert f"ls -ld {certificate}" in caught.value.resolution


def test_a_failed_build_keeps_what_it_staged_and_publishes_nothing(
    settings: Settings, reporter: Reporter, steps: Steps
) -> None:
    steps.failing["assemble"] = BuildError("relocation failed.")
    with pytest.raises(BuildError):
        run(settings, reporter)
    assert [p for p in tree_of(settings.work_dir) if p.endswith("/software")]
    assert tree_of(settings.builds_dir) == []


def test_a_package_that_cannot_be_published_is_kept_and_the_message_says_where(
    settings: Settings, reporter: Reporter, steps: Steps
) -> None:
    (settings.builds_dir / "24.11").write_text("")
    with pytest.raises(OutputError) as caught:
        run(settings, reporter)
    assert steps.done[-1] == "publish"
    (staged,) = settings.work_dir.glob("*/artifacts")
    assert [path for path in staged.iterdir() if path.name.endswith("-manifest.json")]
    assert f"The finished files are in {staged};" in caught.value.resolution


def test_the_instance_is_gone_before_anything_is_made_of_its_tree(
    settings: Settings, reporter: Reporter, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def going(*arguments: Any) -> Iterator[Instance]:
        with this_machine(*arguments) as instance:
            yield instance
        steps.done.append("gone")

    monkeypatch.setattr(preparation, "this_machine", going)
    run(settings, reporter)
    assert steps.done[-4:] == ["compile", "gone", "assemble", "publish"]


def test_downloads_show_their_progress(
    settings: Settings, reporter: Reporter, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: object, report: Callable[[int, int], None], **_named: object) -> Path:
        report(1, 2)
        return Path("/s")

    shown: list[tuple[int, int]] = []
    monkeypatch.setattr(reporter, "progress", lambda *numbers: shown.append(numbers))
    monkeypatch.setattr(preparation, "fetch", fetch)
    run(settings, reporter)
    assert set(shown) == {(1, 2)}


def test_missing_build_packages_are_reported_before_anything_is_downloaded(
    settings: Settings, reporter: Reporter, steps: Steps
) -> None:
    steps.failing["require_build_packages"] = LXDError("This machine lacks packages.")
    with pytest.raises(LXDError, match="lacks packages"):
        run(settings, reporter)
    assert steps.done == ["require_build_packages"]


def test_an_offline_build_fetches_nothing_and_shows_the_recipe(
    settings: Settings, reporter: Reporter, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def compile_offline(job: Job, instance: Instance) -> Built:
        seen.append(job.offline)
        return Steps._compile(job, instance)

    monkeypatch.setattr(system, "build", compile_offline)
    monkeypatch.setattr(preparation, "cached", lambda source, _: Path("/s"))
    plan = sample_plan(destructive_mode=True)
    build(plan, settings, reporter, keep_instance=False, offline=True)
    assert steps.done == ["require_build_packages", "assemble", "publish"]
    assert seen == [True]


def test_an_offline_build_without_its_sources_leaves_nothing_behind(
    settings: Settings, reporter: Reporter, steps: Steps
) -> None:
    plan = sample_plan(destructive_mode=True)
    with pytest.raises(DownloadError, match="--offline") as caught:
        build(plan, settings, reporter, keep_instance=False, offline=True)
    assert f"Slurm {plan.release.release}" in caught.value.details
    assert steps.done == ["require_build_packages"]
    assert tree_of(settings.work_dir) == []


def test_a_machine_without_lxd_is_reported_before_anything_is_downloaded(
    settings: Settings,
    reporter: Reporter,
    steps: Steps,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LXDError, match="not installed"):
        run(settings, reporter, sample_plan())
    assert steps.done == []


def test_lxd_without_permission_is_reported_before_anything_is_downloaded(
    settings: Settings,
    reporter: Reporter,
    steps: Steps,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = install_fake_lxc(tmp_path / "bin", monkeypatch)
    fake.fail("project list", "Error: The LXD daemon doesn't appear to be started")
    monkeypatch.setattr(lxc, "socket_state", lambda: Daemon.DENIED)
    with pytest.raises(LXDError, match="do not have access"):
        run(settings, reporter, sample_plan())
    assert steps.done == []
