"""What `clean` removes, in which order, and what it never touches."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import filelock
import pytest
from fake_lxc import DEAD, FakeLxc, image, install_fake_lxc, instance, locked_elsewhere
from package_samples import publish_package
from plan_samples import sample_settings

from slurm_factory.cache_dir import MARK
from slurm_factory.clean import (
    CleanPlan,
    CleanRequest,
    Removal,
    parse_age,
    plan_clean,
    remove,
    remove_all,
)
from slurm_factory.config import Settings
from slurm_factory.exceptions import ConfigurationError, LXDError, OutputError
from slurm_factory.host.facts import Daemon
from slurm_factory.instances import lxc as lxc_module
from slurm_factory.util.locks import share, take_if_free
from slurm_factory.workspace import new_build_id, prepare_cache

NOW = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=40)
ENDED = DEAD.removeprefix("build-")
LIVE, OTHER = ENDED.replace("0a1b2c", "00000a"), ENDED.replace("0a1b2c", "00000b")
OLD, YOUNG = DEAD.replace("0a1b2c", "000001"), DEAD.replace("0a1b2c", "000002")
BASE = "base-instance-slurm-factory-slurm-factor-d9cf6e4006b2561ff1d6"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = sample_settings(tmp_path / "cache")
    prepare_cache(settings)
    return settings


@pytest.fixture
def lxc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeLxc:
    return install_fake_lxc(tmp_path / "bin", monkeypatch)


@pytest.fixture
def running(settings: Settings, lxc: FakeLxc) -> Iterator[str]:
    """A build that runs in another process, its instance, and the base beside it."""
    lock = settings.work_dir / f"{LIVE}.lock"
    make_old(settings.work_dir / f"{LIVE}/stage/file")
    lxc.instances([instance(f"build-{LIVE}", LONG_AGO, lock), instance(BASE, LONG_AGO)])
    with locked_elsewhere(lock):
        yield f"build-{LIVE}"


def make_old(file: Path, when: datetime = LONG_AGO, content: str = "x") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    for path in (file, file.parent):
        os.utime(path, (when.timestamp(), when.timestamp()))


def planned(settings: Settings, **request: object) -> CleanPlan:
    return plan_clean(CleanRequest(**request), settings, NOW)  # type: ignore[arg-type]


def names(plan: CleanPlan, kind: str) -> list[str]:
    return [Path(removal.name).name for removal in plan.removals if removal.kind == kind]


@pytest.mark.parametrize(
    ("text", "age"),
    [("12h", timedelta(hours=12)), ("30d", timedelta(days=30)), (" 4w ", timedelta(weeks=4))],
)
def test_ages_are_read_in_hours_days_and_weeks(text: str, age: timedelta) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5d", "1y", "30d30d", "999999d", "٣d"])
def test_what_is_not_an_age_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_age(text)
    assert repr(text) in caught.value.brief


def test_the_greatest_age_can_be_subtracted_from_now() -> None:
    assert NOW - parse_age("99999w")


def test_a_machine_on_which_nothing_was_built_has_nothing_to_remove(
    tmp_path: Path, lxc: FakeLxc
) -> None:
    lxc.projects("default")
    fresh = sample_settings(tmp_path / "none")
    plan = planned(fresh, full=True, builds=True, caches=True)
    assert plan == CleanPlan((), ())
    assert not fresh.cache_dir.exists()


def test_a_machine_without_lxd_can_still_clean_its_directories(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    make_old(settings.ccache_dir / "a")
    plan = planned(settings, full=True, caches=True)
    assert names(plan, "cache") == ["ccache", "spack-sourcecache"]


def test_lxd_that_does_not_answer_is_an_error_and_nothing_is_removed_blindly(
    settings: Settings, lxc: FakeLxc, monkeypatch: pytest.MonkeyPatch
) -> None:
    lxc.fail("project list", "Error: The LXD daemon doesn't appear to be started")
    monkeypatch.setattr(lxc_module, "socket_state", lambda: Daemon.DENIED)
    with pytest.raises(LXDError, match="do not have access to LXD"):
        planned(settings)


def test_instances_of_ended_builds_go_and_bases_stay(settings: Settings, lxc: FakeLxc) -> None:
    lxc.instances([instance(DEAD, LONG_AGO), instance(BASE, LONG_AGO)])
    plan = planned(settings)
    assert plan == CleanPlan((Removal("instance", DEAD),), ())


def test_instances_of_strangers_in_the_project_stay(settings: Settings, lxc: FakeLxc) -> None:
    lxc.instances([instance("somebody-elses", LONG_AGO)])
    lxc.images([image("somebodys-image")])
    assert planned(settings).removals == ()
    assert planned(settings, full=True).removals == ()


def test_instances_of_strangers_that_are_called_like_ours_stay(
    settings: Settings, lxc: FakeLxc
) -> None:
    names_of_others = ("build-farm-db", "build-2026", "build-new", "doctor-who", "doctor-1-ab")
    lxc.instances([instance(name, LONG_AGO) for name in names_of_others])
    plan = planned(settings, full=True)
    assert plan == CleanPlan((), ())
    lxc.instances([instance(name, NOW) for name in names_of_others])
    assert planned(settings) == CleanPlan((), ())


@pytest.mark.parametrize("release", ["23.02.0", "25.05.8", "26.05.3"])
def test_an_instance_that_was_killed_before_it_got_its_mark_is_known_by_its_name(
    settings: Settings, lxc: FakeLxc, release: str
) -> None:
    lxc.instances([instance(f"build-{new_build_id(release)}", LONG_AGO)])
    assert len(planned(settings).removals) == 1


@pytest.mark.parametrize("name", ["build-benchmark-4711", "doctor-4711-0a1b2c"])
def test_instances_of_benchmarks_and_of_doctor_are_known_by_their_names(
    settings: Settings, lxc: FakeLxc, name: str
) -> None:
    lxc.instances([instance(name, LONG_AGO)])
    assert planned(settings).removals == (Removal("instance", name),)


def test_an_instance_with_our_mark_is_ours(settings: Settings, lxc: FakeLxc) -> None:
    lxc.instances([instance("build-x", LONG_AGO, settings.work_dir / "x.lock")])
    assert planned(settings).removals == (Removal("instance", "build-x"),)


def test_locks_of_bases_go_with_their_records_and_those_of_failed_ones_too(
    settings: Settings, lxc: FakeLxc
) -> None:
    """Else every change of what a base is made of would leave one for ever."""
    record = settings.images_dir / "debian-12-2e4ef10cc2b0.json"
    failed = settings.images_dir / "debian-12-000000000000.json.lock"
    for path in (record, Path(f"{record}.lock"), failed, settings.images_dir / "debian-12.lock"):
        make_old(path)
    assert planned(settings).removals == ()
    plan = planned(settings, full=True)
    assert names(plan, "record") == [record.name]
    assert names(plan, "lock") == [failed.name]
    remove_all(plan.removals, settings, pytest.fail)
    assert [path.name for path in settings.images_dir.iterdir()] == ["debian-12.lock"]


def test_records_of_members_go_with_the_bases_of_the_remote_and_others_with_those_here(
    settings: Settings, lxc: FakeLxc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slurm_factory.instances.delivery.ccache_volumes", lambda _: ())
    here = settings.images_dir / "debian-12-2e4ef10cc2b0.json"
    there = settings.images_dir / f"{here.name}.m1"
    for path in (here, there, Path(f"{there}.lock")):
        make_old(path)
    assert names(planned(settings, full=True), "record") == [here.name]
    assert names(planned(settings, full=True), "lock") == []
    away = settings.model_copy(update={"remote": "farm"})
    assert names(planned(away, full=True), "record") == [there.name]


def test_the_lock_of_a_base_that_is_being_made_stays(settings: Settings, lxc: FakeLxc) -> None:
    first, second = (settings.images_dir / f"debian-12-{n * 12}.json.lock" for n in "01")
    for path in (first, second, first.with_suffix("")):
        make_old(path)
    with filelock.FileLock(first), filelock.FileLock(second):
        kinds = {removal.kind for removal in planned(settings, full=True).removals}
    assert kinds == {"project"}


def test_the_default_project_is_never_removed(settings: Settings, lxc: FakeLxc) -> None:
    lxc.projects("default")
    default = settings.model_copy(update={"project_name": "default"})
    lxc.instances([instance(BASE, LONG_AGO)])
    assert planned(default, full=True).removals == (Removal("base", BASE),)


def test_an_image_that_a_killed_build_was_making_goes(settings: Settings, lxc: FakeLxc) -> None:
    make_old(settings.images_dir / "image-abcdefgh" / "rootfs.tar")
    assert [r.name for r in planned(settings).removals] == [
        str(settings.images_dir / "image-abcdefgh")
    ]


def test_an_instance_whose_build_runs_is_never_removed(
    settings: Settings, lxc: FakeLxc, running: str
) -> None:
    everything = {"full": True, "builds": True, "caches": True}
    for request in ({}, everything, {"older_than": timedelta(hours=1)}):
        plan = planned(settings, **request)
        assert plan.running == (running,)
        assert not names(plan, "instance")
        assert not names(plan, "stage")
    assert lxc.changes == []


def test_an_instance_is_removed_once_its_build_has_died(
    settings: Settings, lxc: FakeLxc, running: str
) -> None:
    (settings.work_dir / f"{ENDED}.lock").touch()
    dead = instance(DEAD, LONG_AGO, settings.work_dir / f"{ENDED}.lock")
    live = instance(running, LONG_AGO, settings.work_dir / f"{LIVE}.lock")
    lxc.instances([dead, live])
    plan = planned(settings)
    assert names(plan, "instance") == [DEAD]
    assert plan.running == (running,)


def test_full_and_caches_wait_for_a_running_build(settings: Settings, running: str) -> None:
    plan = planned(settings, full=True, caches=True)
    assert plan.running == (running,)
    kinds = {removal.kind for removal in plan.removals}
    assert not kinds & {"base", "image", "project", "record", "cache"}


def test_an_option_that_does_nothing_shows_what_it_waits_for(
    settings: Settings, running: str
) -> None:
    plan = planned(settings, full=True, caches=True)
    assert plan.notes == (
        f"{running} is kept: its build runs.",
        f"--full waits for {running}.",
        f"--caches waits for {running}.",
    )


@pytest.mark.parametrize(
    ("state", "noted"),
    [
        ("Running", {"status": "PREPARING", "timer": (NOW - timedelta(seconds=3)).isoformat()}),
        ("Running", {"status": "FINISHED", "timer": "DONE"}),
        ("Stopped", {"status": "STARTING", "timer": (NOW - timedelta(seconds=9)).isoformat()}),
    ],
)
def test_a_base_that_somebody_is_making_is_not_removed_under_his_launch(
    settings: Settings, lxc: FakeLxc, state: str, noted: dict[str, Any]
) -> None:
    made = instance(BASE, NOW - timedelta(minutes=5), **noted) | {"status": state}
    lxc.instances([made])
    plan = planned(settings, full=True)
    assert plan.removals == ()
    assert plan.notes == (f"{BASE} is kept: it is being made.", f"--full waits for {BASE}.")


def test_a_base_whose_maker_was_killed_can_be_removed(settings: Settings, lxc: FakeLxc) -> None:
    timer = (NOW - timedelta(minutes=30)).isoformat()
    lxc.instances([instance(BASE, NOW - timedelta(hours=1), status="PREPARING", timer=timer)])
    assert names(planned(settings, full=True), "base") == [BASE]


def test_caches_do_not_wait_for_builds_with_another_cache_directory(
    settings: Settings, lxc: FakeLxc, tmp_path: Path
) -> None:
    lock = tmp_path / "theirs.lock"
    lxc.instances([instance(DEAD, LONG_AGO, lock)])
    with locked_elsewhere(lock):
        plan = planned(settings, full=True, caches=True)
    assert names(plan, "cache") == ["ccache", "spack-sourcecache"]
    assert plan.waiting == {"--full": (DEAD,)}


def test_an_instance_whose_lock_is_out_of_sight_is_not_reported_as_a_build_that_runs(
    settings: Settings, lxc: FakeLxc, tmp_path: Path, close_to_us: Callable[[Path], None]
) -> None:
    lxc.instances([instance(DEAD, LONG_AGO, tmp_path / "theirs/x.lock")])
    close_to_us(tmp_path / "theirs")
    plan = planned(settings, full=True)
    assert plan.removals == ()
    assert "another user" in plan.notes[0]
    assert plan.notes[1] == f"--full waits for {DEAD}."


def test_what_a_build_has_begun_to_use_since_it_was_planned_stays(
    settings: Settings, lxc: FakeLxc
) -> None:
    make_old(settings.work_dir / f"{LIVE}/file")
    make_old(settings.logs_dir / f"{LIVE}/build.log")
    make_old(settings.ccache_dir / "a")
    lock = settings.work_dir / f"{LIVE}.lock"
    lxc.instances([instance(f"build-{LIVE}", LONG_AGO, lock), instance(BASE, LONG_AGO)])
    make_old(settings.images_dir / "debian-12-2e4ef10cc2b0.json")
    plan = planned(settings, full=True, builds=True, caches=True)
    assert {removal.kind for removal in plan.removals} == {
        *("instance", "stage", "base", "project", "record", "log", "cache")
    }
    warnings: list[str] = []
    with locked_elsewhere(lock), share(settings.cache_dir / MARK):
        assert remove_all(plan.removals, settings, warnings.append) == ()
    assert lxc.changes == []
    assert len(warnings) == len(plan.removals)
    assert (settings.ccache_dir / "a").exists()


def test_one_removal_that_fails_does_not_keep_the_rest(settings: Settings, lxc: FakeLxc) -> None:
    lxc.instances([instance(OLD, LONG_AGO), instance(YOUNG, LONG_AGO)])
    make_old(settings.work_dir / f"{ENDED}/file")
    lxc.fail(f"delete --force local:{OLD}", "Error: The instance is busy")
    warnings: list[str] = []
    with pytest.raises(LXDError) as caught:
        remove_all(planned(settings).removals, settings, warnings.append)
    assert caught.value.details == "The instance is busy"
    assert [warning for warning in warnings if OLD in warning] == warnings
    assert planned(settings).removals == (Removal("instance", OLD),)


def test_caches_and_logs_of_a_build_on_this_very_machine_stay_while_it_runs(
    settings: Settings, lxc: FakeLxc
) -> None:
    make_old(settings.work_dir / f"{LIVE}/file")
    make_old(settings.logs_dir / f"{LIVE}/build.log")
    make_old(settings.logs_dir / f"{OTHER}/build.log")
    with locked_elsewhere(settings.work_dir / f"{LIVE}.lock"):
        plan = planned(settings, caches=True, builds=True)
        assert plan.running == (f"build-{LIVE}",)
        assert not names(plan, "cache")
        assert not names(plan, "stage")
        assert names(plan, "log") == [OTHER]
    assert names(planned(settings, builds=True), "log") == [LIVE, OTHER]


def test_an_instance_that_is_being_launched_has_no_lock_yet_and_stays(
    settings: Settings, lxc: FakeLxc
) -> None:
    lxc.instances([instance(YOUNG, NOW - timedelta(minutes=1))])
    assert planned(settings) == CleanPlan((), (YOUNG,))


def test_a_launch_that_never_got_its_lock_is_removed_in_the_end(
    settings: Settings, lxc: FakeLxc
) -> None:
    lxc.instances([instance(YOUNG, NOW - timedelta(minutes=11))])
    assert names(planned(settings), "instance") == [YOUNG]


def test_what_a_failed_build_staged_goes_with_its_size(settings: Settings, lxc: FakeLxc) -> None:
    make_old(settings.work_dir / f"{ENDED}/stage/file", content="12345")
    plan = planned(settings)
    assert plan.removals == (Removal("stage", str(settings.work_dir / ENDED), 5),)


def test_older_than_keeps_what_is_younger(settings: Settings, lxc: FakeLxc) -> None:
    yesterday = NOW - timedelta(days=1)
    lxc.instances([instance(OLD, LONG_AGO), instance(YOUNG, yesterday)])
    for name, when in ((LIVE, LONG_AGO), (OTHER, yesterday)):
        make_old(settings.work_dir / name / "file", when)
        make_old(settings.logs_dir / f"{name}/build.log", when)
        make_old(settings.builds_dir / f"25.05/slurm-25.05-{name}.sha256", when)
        make_old(settings.ccache_dir / name / "object", when)
    plan = planned(settings, builds=True, caches=True, older_than=timedelta(days=30))
    assert names(plan, "instance") == [OLD]
    assert names(plan, "stage") == [LIVE]
    assert names(plan, "log") == [LIVE]
    assert names(plan, "build") == [f"slurm-25.05-{LIVE}.sha256"]
    assert [r.name for r in plan.removals if r.kind == "cache"] == [
        str(settings.ccache_dir / f"{LIVE}/object")
    ]


@pytest.mark.parametrize(
    ("manifest", "others", "goes"),
    [
        (timedelta(days=31), timedelta(days=29), True),
        (timedelta(days=29), timedelta(days=31), False),
        (None, timedelta(days=31), True),
    ],
)
def test_a_package_goes_as_a_whole_or_stays_as_a_whole(
    settings: Settings,
    lxc: FakeLxc,
    manifest: timedelta | None,
    others: timedelta,
    goes: bool,
) -> None:
    stem = str(settings.builds_dir / "25.05/slurm-25.05")
    ages = dict.fromkeys(("-software.tar.gz", "-module.tar.gz", ".sha256"), others)
    ages |= {"-manifest.json": manifest} if manifest else {}
    for end, age in ages.items():
        make_old(Path(f"{stem}{end}"), NOW - age)
    make_old(Path(f"{stem}-gpu-manifest.json"), NOW)
    plan = planned(settings, builds=True, older_than=timedelta(days=30))
    assert [removal.name for removal in plan.removals] == [
        f"{stem}{end}" for end in sorted(ages) if goes
    ]


def test_a_lock_that_lies_alone_goes_unless_its_build_runs(
    settings: Settings, lxc: FakeLxc
) -> None:
    left, held = (settings.work_dir / f"{build}.lock" for build in (ENDED, LIVE))
    left.touch()
    with locked_elsewhere(held):
        plan = planned(settings)
        assert remove_all(plan.removals, settings, pytest.fail) == plan.removals
    assert [*settings.work_dir.iterdir()] == [held]


def test_finished_builds_and_logs_go_only_when_asked_for(settings: Settings, lxc: FakeLxc) -> None:
    make_old(settings.builds_dir / "25.05/slurm-25.05-software.tar.gz")
    make_old(settings.logs_dir / f"{LIVE}/build.log")
    assert planned(settings, full=True, caches=True).removals[-1].kind == "cache"
    plan = planned(settings, builds=True)
    assert [removal.kind for removal in plan.removals] == ["build", "log"]


def test_all_caches_go_only_when_asked_for(settings: Settings, lxc: FakeLxc) -> None:
    spack = ("spack-buildcache", "spack-checkouts", "spack-misc", "spack-locks")
    for name in spack:
        (settings.cache_dir / name).mkdir(exist_ok=True)
    assert names(planned(settings, full=True, builds=True), "cache") == []
    assert names(planned(settings, caches=True), "cache") == [
        *("ccache", "spack-sourcecache", *spack)
    ]


def test_the_project_goes_after_everything_that_lies_in_it(
    settings: Settings, lxc: FakeLxc
) -> None:
    lxc.instances([instance(BASE, LONG_AGO), instance(DEAD, LONG_AGO)])
    lxc.images([image("slurm-factory-debian-12-x86_64")])
    make_old(settings.images_dir / "debian-12-2e4ef10cc2b0.json")
    plan = planned(settings, full=True)
    assert [removal.kind for removal in plan.removals] == [
        *("instance", "base", "image", "project", "record")
    ]
    for removal in plan.removals:
        remove(removal, settings)
    assert lxc.changes == [
        f"delete --force {DEAD}",
        f"delete --force {BASE}",
        "image delete 1eaa7465f6b1",
        "project delete slurm-factory",
    ]
    assert list(settings.images_dir.iterdir()) == []


def test_full_with_an_age_keeps_the_project(settings: Settings, lxc: FakeLxc) -> None:
    lxc.instances([instance(BASE, LONG_AGO)])
    lxc.images([image("x")])
    plan = planned(settings, full=True, older_than=timedelta(days=30))
    assert plan.removals == (Removal("base", BASE),)


def test_the_record_of_a_base_goes_with_it(settings: Settings, lxc: FakeLxc) -> None:
    yesterday = NOW - timedelta(days=1)
    younger = BASE.replace("d9cf", "0000")
    lxc.instances([instance(BASE, LONG_AGO), instance(younger, yesterday)])
    for name, made in (("debian-12-2e4ef10cc2b0", LONG_AGO), ("debian-13-0123456789ab", yesterday)):
        make_old(settings.images_dir / f"{name}.json", made)
    plan = planned(settings, full=True, older_than=timedelta(days=30))
    assert names(plan, "base") == [BASE]
    assert names(plan, "record") == ["debian-12-2e4ef10cc2b0.json"]


def test_an_instance_that_is_gone_already_is_not_an_error(settings: Settings, lxc: FakeLxc) -> None:
    lxc.fail("delete --force", "Error: Instance not found")
    remove(Removal("instance", DEAD), settings)
    lxc.instances([instance(DEAD, LONG_AGO)])
    with pytest.raises(LXDError, match="delete --force"):
        remove(Removal("instance", DEAD), settings)


def test_a_path_that_is_gone_already_is_not_an_error(settings: Settings) -> None:
    (settings.work_dir / "gone.lock").touch()
    make_old(settings.work_dir / "other/file")
    remove(Removal("stage", str(settings.work_dir / "gone")), settings)
    assert [path.name for path in settings.work_dir.iterdir()] == ["other"]


def test_only_what_is_called_like_ours_is_removed(settings: Settings, lxc: FakeLxc) -> None:
    """Whatever somebody has put into the cache directory since it was made."""
    strangers = [
        settings.work_dir / "thesis/chapter-1",
        settings.work_dir / "2026-11-22/notes",
        settings.logs_dir / "my-notes/notes",
        settings.logs_dir / "setup.log",
        settings.images_dir / "image-of-my-cat/cat.png",
        settings.images_dir / "photo.json",
        settings.images_dir / "image-list.json.lock",
        settings.builds_dir / "notes/slurm-25.05.sha256",
        settings.builds_dir / "25.05/slurm-notes.txt",
        settings.builds_dir / "25.05/thesis.tar.gz",
        settings.cache_dir / "thesis/work",
    ]
    for path in strangers:
        make_old(path)
    (settings.work_dir / "thesis.lock").touch()
    plan = planned(settings, full=True, builds=True, caches=True)
    assert {r.kind for r in plan.removals} == {"project", "cache"}
    remove_all(plan.removals, settings, pytest.fail)
    assert all(path.exists() for path in strangers)


@pytest.mark.parametrize("part", ["work", "logs", "builds", "images", "ccache", "builds/25.05"])
def test_what_is_reached_through_a_link_is_not_removed(
    settings: Settings, lxc: FakeLxc, tmp_path: Path, part: str
) -> None:
    """A program in an instance may put the link there after all has been looked at."""
    files = {
        "work": f"{ENDED}/file",
        "logs": f"{ENDED}/build.log",
        "builds": "25.05/slurm-25.05.sha256",
        "images": "debian-12-2e4ef10cc2b0.json",
        "ccache": "a/object",
        "builds/25.05": "slurm-25.05.sha256",
    }
    place, elsewhere = settings.cache_dir / part, tmp_path / "elsewhere"
    make_old(place / files[part])
    plan = planned(settings, full=True, builds=True, caches=True)
    place.rename(elsewhere)
    place.symlink_to(elsewhere)
    warnings: list[str] = []
    with suppress(OutputError):
        remove_all(plan.removals, settings, warnings.append)
    assert (elsewhere / files[part]).exists()


def test_a_version_that_is_a_link_has_no_builds(
    settings: Settings, lxc: FakeLxc, tmp_path: Path
) -> None:
    make_old(tmp_path / "elsewhere/slurm-25.05.sha256")
    (settings.builds_dir / "25.05").symlink_to(tmp_path / "elsewhere")
    assert planned(settings, builds=True).removals == ()


@pytest.mark.parametrize("kind", ["directory", "link"])
def test_a_lock_that_is_not_a_file_is_removed_with_what_it_is_beside(
    settings: Settings, lxc: FakeLxc, tmp_path: Path, kind: str
) -> None:
    make_old(settings.work_dir / f"{ENDED}/file")
    lock, file = settings.work_dir / f"{ENDED}.lock", tmp_path / "thesis"
    file.write_text("years of work")
    if kind == "directory":
        (lock / "in it").mkdir(parents=True)
    else:
        lock.symlink_to(file)
    lxc.instances([instance(f"build-{ENDED}", LONG_AGO, lock)])
    plan = planned(settings, full=True, builds=True, caches=True)
    remove_all(plan.removals, settings, pytest.fail)
    assert [*settings.work_dir.iterdir()] == []
    assert file.read_text() == "years of work"


def test_a_package_that_was_published_after_the_look_stays(
    settings: Settings, lxc: FakeLxc
) -> None:
    """While `clean` waits for an answer, a build may put a new package in the old one's place."""
    package = settings.builds_dir / "25.05/slurm-25.05.sha256"
    make_old(package)
    plan = planned(settings, builds=True)
    warnings: list[str] = []
    assert remove_all(plan.removals, settings, warnings.append, LONG_AGO) == ()
    assert warnings == [f"{package} is kept: a build has begun to use it."]
    later = datetime.now(UTC) + timedelta(seconds=1)
    assert remove_all(plan.removals, settings, pytest.fail, later) == plan.removals


def test_a_package_is_removed_with_every_publisher_locked_out(
    settings: Settings, lxc: FakeLxc, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = settings.builds_dir / "25.05/slurm-25.05.sha256"
    make_old(package)
    seen: list[bool] = []

    def watched(*_: object) -> None:
        descriptor = os.open(package.parent, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            seen.append(False)
        except BlockingIOError:
            seen.append(True)
        finally:
            os.close(descriptor)

    monkeypatch.setattr("slurm_factory.clean.remove", watched)
    remove_all(planned(settings, builds=True).removals, settings, pytest.fail)
    assert seen == [True]


def test_caches_are_removed_with_every_build_locked_out(
    settings: Settings, lxc: FakeLxc, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old(settings.ccache_dir / "a")
    seen: list[bool] = []

    def watched(*_: object) -> None:
        with take_if_free(settings.cache_dir / MARK) as alone:
            seen.append(alone)

    monkeypatch.setattr("slurm_factory.clean.remove", watched)
    remove_all(planned(settings, caches=True).removals, settings, pytest.fail)
    assert seen
    assert not any(seen)


def test_lxd_is_asked_as_often_for_many_removals_as_for_few(
    settings: Settings, lxc: FakeLxc
) -> None:
    lxc.instances([instance(name, LONG_AGO) for name in (OLD, YOUNG, BASE)])
    lxc.images([image("slurm-factory-debian-12-x86_64")])
    plan = planned(settings, full=True)
    assert len(plan.removals) == 5
    remove_all(plan.removals, settings, pytest.fail)
    looking = [call for call in lxc.calls if call not in lxc.changes]
    look = ["project list --format json", "list --format json"]
    assert looking == [*look, "image list --format json", *look]


def test_what_a_link_points_to_stays(settings: Settings, tmp_path: Path) -> None:
    make_old(tmp_path / "elsewhere/file")
    (settings.work_dir / "link").symlink_to(tmp_path / "elsewhere")
    remove(Removal("stage", str(settings.work_dir / "link")), settings)
    assert (tmp_path / "elsewhere/file").exists()
    assert not (settings.work_dir / "link").is_symlink()


def test_the_lock_goes_with_what_it_locked(settings: Settings) -> None:
    make_old(settings.work_dir / f"{ENDED}/file")
    (settings.work_dir / f"{ENDED}.lock").touch()
    remove(Removal("stage", str(settings.work_dir / ENDED)), settings)
    assert list(settings.work_dir.iterdir()) == []


def test_a_path_that_cannot_be_removed_is_an_output_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    make_old(settings.work_dir / f"{ENDED}/file")
    monkeypatch.setattr("shutil.rmtree", denied)
    with pytest.raises(OutputError) as caught:
        remove(Removal("stage", str(settings.work_dir / ENDED)), settings)
    assert caught.value.details == "Permission denied."


# --- named packages, and the newest of each kind --------------------------------------------------


def everything_below(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("how", ["name", "as listed", "manifest", "tarball", "relative"])
def test_a_named_package_goes_as_a_whole_and_nothing_else(
    settings: Settings, lxc: FakeLxc, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    going = publish_package(settings.builds_dir / "25.05", "25.05.8")
    (going.parent / "slurm-25.05-verification.json").touch()
    publish_package(settings.builds_dir / "25.05", "25.05.8", "-gpu")
    lxc.instances([instance(DEAD, LONG_AGO)])
    make_old(settings.work_dir / f"{ENDED}/stage/file")
    make_old(settings.logs_dir / f"{ENDED}/build.log")
    gone = {path for path in going.parent.iterdir() if "-gpu" not in path.name}
    stays = everything_below(settings.cache_dir) - gone
    listed = str(going).removesuffix("-manifest.json")
    monkeypatch.chdir(settings.builds_dir)
    word = {
        "name": "slurm-25.05",
        "as listed": listed,
        "manifest": str(going),
        "tarball": f"{listed}-software.tar.gz",
        "relative": "./25.05/../25.05/slurm-25.05",
    }[how]
    plan = planned(settings, packages=(word,))
    assert {Path(removal.name) for removal in plan.removals} == gone
    assert len(gone) == 5
    assert Path(plan.removals[0].name) == going, "without its manifest, a rest is no package"
    remove_all(plan.removals, settings, pytest.fail)
    assert everything_below(settings.cache_dir) == stays
    assert lxc.changes == []


def test_what_a_killed_build_has_published_in_part_goes_with_the_package(
    settings: Settings, lxc: FakeLxc
) -> None:
    going = publish_package(settings.builds_dir / "25.05", "25.05.8")
    half = going.with_name(".slurm-25.05.complete")
    half.mkdir()
    plan = planned(settings, packages=("slurm-25.05",))
    remove_all(plan.removals, settings, pytest.fail)
    assert [*going.parent.iterdir()] == []


def test_named_packages_need_no_lxd(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lxc: FakeLxc
) -> None:
    lxc.fail("project list", "Error: The LXD daemon doesn't appear to be started")
    publish_package(settings.builds_dir / "25.05", "25.05.8")
    assert planned(settings, packages=("slurm-25.05",)).removals
    assert planned(settings, keep=1).removals == ()


@pytest.mark.parametrize(
    "word", ["slurm-25.5", "slurm-25.05-g", "", "*", "..", "/", "/elsewhere/slurm-25.05", "thesis"]
)
def test_a_name_of_no_package_is_refused_and_nothing_is_planned(
    settings: Settings, lxc: FakeLxc, word: str
) -> None:
    publish_package(settings.builds_dir / "25.05", "25.05.8")
    make_old(settings.builds_dir / "25.05/thesis")
    with pytest.raises(ConfigurationError, match="There is no finished build"):
        planned(settings, packages=("slurm-25.05", word))


def test_a_damaged_package_can_be_named(settings: Settings, lxc: FakeLxc) -> None:
    make_old(settings.builds_dir / "25.05/slurm-25.05-manifest.json", content="{")
    assert len(planned(settings, packages=("slurm-25.05",)).removals) == 1


def test_a_named_package_may_have_to_be_old(settings: Settings, lxc: FakeLxc) -> None:
    make_old(settings.builds_dir / "25.05/slurm-25.05-manifest.json")
    age = {"packages": ("slurm-25.05",), "older_than": timedelta(days=30)}
    assert planned(settings, **age).removals
    make_old(settings.builds_dir / "25.05/slurm-25.05-manifest.json", NOW)
    assert not planned(settings, **age).removals


def kept(settings: Settings, keep: int, **request: object) -> tuple[set[str], CleanPlan]:
    """Names of the packages that `--keep` leaves."""
    plan = planned(settings, keep=keep, **request)
    going = {Path(removal.name) for removal in plan.removals}
    manifests = set(settings.builds_dir.glob("*/*-manifest.json")) - going
    return {path.name.removesuffix("-manifest.json") for path in manifests}, plan


def published(
    settings: Settings, version: str, days: int, kind: str = "", release: str = ""
) -> None:
    """A package that was built some days ago."""
    builds = settings.builds_dir / version
    created = NOW - timedelta(days=days)
    manifest = publish_package(builds, release or version, kind, created=created)
    for path in manifest.parent.glob(f"slurm-{version}{kind}[-.]*"):
        os.utime(path, (created.timestamp(), created.timestamp()))


def test_the_newest_of_each_series_and_kind_stay(settings: Settings, lxc: FakeLxc) -> None:
    for number, days in ((7, 30), (8, 20), (9, 10)):
        published(settings, f"25.05.{number}", days)
        published(settings, f"25.05.{number}", days, "-gpu")
    published(settings, "24.11.5", 900)
    published(settings, "25.05.6", 5, "-debian-12-system")
    stays, plan = kept(settings, 2)
    assert stays == {
        *("slurm-25.05.8", "slurm-25.05.9", "slurm-25.05.8-gpu", "slurm-25.05.9-gpu"),
        *("slurm-24.11.5", "slurm-25.05.6-debian-12-system"),
    }
    assert {removal.kind for removal in plan.removals} == {"build"}
    assert kept(settings, 1)[0] == stays - {"slurm-25.05.8", "slurm-25.05.8-gpu"}
    assert kept(settings, 3)[1].removals == ()


def test_a_series_an_exact_release_and_one_with_patches_are_of_one_kind(
    settings: Settings, lxc: FakeLxc
) -> None:
    """Each of them replaces an older one."""
    published(settings, "25.05", 1, release="25.05.9")
    published(settings, "25.05.8", 2)
    published(settings, "25.05.8+site1", 3)
    assert kept(settings, 1)[0] == {"slurm-25.05"}


def test_what_counts_is_when_a_package_was_built_and_not_when_its_files_changed(
    settings: Settings, lxc: FakeLxc
) -> None:
    """`verify` writes into the manifest of an old package, too."""
    published(settings, "25.05.8", 20)
    published(settings, "25.05.9", 10)
    os.utime(settings.builds_dir / "25.05.8/slurm-25.05.8-manifest.json")
    assert kept(settings, 1)[0] == {"slurm-25.05.9"}


def test_packages_that_nobody_can_use_do_not_count_and_stay(
    settings: Settings, lxc: FakeLxc
) -> None:
    published(settings, "25.05.8", 20)
    published(settings, "25.05.9", 10)
    broken = settings.builds_dir / "25.05.9/slurm-25.05.9"
    Path(f"{broken}-software.tar.gz").write_text("damaged")
    stays, plan = kept(settings, 1)
    assert stays == {"slurm-25.05.8", "slurm-25.05.9"}
    assert plan.unusable == (str(broken),)
    assert "does not count" in plan.notes[0]


def test_keep_with_an_age_removes_only_what_is_older(settings: Settings, lxc: FakeLxc) -> None:
    for number, days in ((7, 40), (8, 20), (9, 10)):
        published(settings, f"25.05.{number}", days)
    stays, _ = kept(settings, 1, older_than=timedelta(days=30))
    assert stays == {"slurm-25.05.8", "slurm-25.05.9"}


@pytest.mark.parametrize("options", [{"full": True}, {"builds": True}, {"caches": True}])
@pytest.mark.parametrize("what", [{"packages": ("slurm-25.05",)}, {"keep": 1}])
def test_options_that_remove_more_than_packages_are_refused(
    settings: Settings, lxc: FakeLxc, what: dict[str, object], options: dict[str, object]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        planned(settings, **what, **options)
    assert f"--{next(iter(options))}" in caught.value.details


def test_names_and_a_number_to_keep_are_refused_together(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="PACKAGE"):
        planned(settings, packages=("slurm-25.05",), keep=1)


def out_of_reach(name: str) -> dict[str, Any]:
    """An instance on a member that does not answer, as LXD 5.0.2 lists it."""
    nothing = {"config": None, "expanded_config": None, "devices": None, "expanded_devices": None}
    return instance(name, LONG_AGO) | nothing | {"status": "Error", "location": "m1"}


def test_what_is_on_a_member_that_does_not_answer_is_named_and_stays(
    settings: Settings, lxc: FakeLxc
) -> None:
    there = settings.model_copy(update={"remote": "farm"})
    lock = settings.work_dir / f"{ENDED}.lock"
    lock.write_text(there.lxd_place)
    make_old(settings.work_dir / f"{ENDED}/instance")
    lxc.instances([out_of_reach(DEAD), out_of_reach(BASE), instance(f"build-{OTHER}", LONG_AGO)])
    lxc.fail("query --wait", "Error: not found")
    plan = planned(there)
    assert names(plan, "instance") == [f"build-{OTHER}"]
    assert names(plan, "stage") == []
    assert plan.away == (DEAD, BASE)
    assert [note for note in plan.notes if "its member does not answer" in note] == [
        f"{name} is kept: its member does not answer. Run the command again when it does."
        for name in plan.away
    ]


def test_what_a_build_of_another_lxd_has_staged_is_not_that_ones_to_remove(
    settings: Settings, lxc: FakeLxc
) -> None:
    (settings.work_dir / f"{ENDED}.lock").write_text("farm:slurm-factory")
    make_old(settings.work_dir / f"{ENDED}/stage/file")
    assert names(planned(settings), "stage") == []


@pytest.mark.parametrize("request_", [{"builds": True}, {"packages": ("x",)}, {"keep": 1}])
def test_a_remote_has_no_finished_builds(
    settings: Settings, lxc: FakeLxc, request_: dict[str, object]
) -> None:
    with pytest.raises(ConfigurationError, match="farm"):
        planned(settings.model_copy(update={"remote": "farm"}), **request_)
