"""Instances whose builds were killed."""

from datetime import UTC, datetime, timedelta

import pytest
from fake_lxc import DEAD, FakeLxc, instance, locked_elsewhere
from launch_samples import BASE_NAME, NAME, SETUP, launcher
from reporter_samples import Listener

from slurm_factory.config import Settings
from slurm_factory.instances import orphans
from slurm_factory.instances.build_instance import lxd_instance
from slurm_factory.instances.launch import Launch
from slurm_factory.instances.orphans import end_killed_builds
from slurm_factory.workspace import Workspace, prepare_cache


def test_the_instance_of_a_killed_build_is_deleted_by_the_next_one_which_says_so(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.work_dir.mkdir(parents=True)
    left, held = settings.work_dir / "left.lock", settings.work_dir / "held.lock"
    left.touch()
    base, now = instance(BASE_NAME, datetime.now(UTC)), datetime.now(UTC)
    kept = instance("build-kept", now, left)
    kept["config"]["user.slurm_factory.kept"] = "yes"
    others = [
        kept,
        instance("build-running", now, held),
        instance("build-of-gone-cache", now, settings.work_dir / "gone.lock"),
        instance("build-being-launched", now),
        instance("farm", now, left),
    ]
    stopped = instance("build-stopped", now, left) | {"status": "Stopped"}
    fake.instances([base, *others, instance("build-orphan", now, left), stopped])
    launcher(monkeypatch)
    reporter = Listener()
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock")
    with locked_elsewhere(held), lxd_instance(launch, settings, reporter):
        deleted = [f"delete --force {name}" for name in ("build-orphan", "build-stopped")]
        assert fake.changes[:2] == deleted
    assert [call for call in fake.changes if "build-" in call and NAME not in call] == deleted
    assert reporter.notes == [
        "Deleted build-orphan, which a killed build has left.",
        "Deleted build-stopped, which a killed build has left.",
    ]


def test_instance_that_was_kept_since_is_not_deleted_and_what_its_build_staged_is(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_cache(settings)
    workspace = Workspace("20251122-171530-25-05-a1b2c3", settings)
    workspace.lock.write_text(settings.project_name)
    workspace.artifacts.mkdir(parents=True)
    name = f"build-{workspace.build_id}"
    listed = [instance(name, datetime.now(UTC), workspace.lock)]
    fake.instances(listed)
    monkeypatch.setattr(orphans, "_is_kept", lambda *_: True)
    orphans.remove_orphans(listed, settings, Listener())
    assert fake.changes == []
    assert not workspace.work.exists()
    assert not workspace.lock.exists()


def test_an_instance_whose_build_was_killed_before_it_named_its_lock_is_deleted_too(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.work_dir.mkdir(parents=True)
    now, before = datetime.now(UTC), datetime.now(UTC) - timedelta(hours=1)
    left, free, young, held = (DEAD.replace("0a1b2c", f"00000{n}") for n in range(4))
    (settings.work_dir / f"{free.removeprefix('build-')}.lock").touch()
    entries = [instance(name, before) for name in (left, free, held, "build-farm")]
    fake.instances([instance(BASE_NAME, now), *entries, instance(young, now)])
    launcher(monkeypatch)
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock")
    with (
        locked_elsewhere(settings.work_dir / f"{held.removeprefix('build-')}.lock"),
        lxd_instance(launch, settings, Listener()),
    ):
        pass
    deleted = [call for call in fake.changes if call.startswith("delete") and NAME not in call]
    assert deleted == [f"delete --force {left}", f"delete --force {free}"]


def test_an_orphan_that_cannot_be_deleted_does_not_stop_the_build(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.work_dir.mkdir(parents=True)
    lock = settings.work_dir / "left.lock"
    lock.touch()
    now = datetime.now(UTC)
    fake.instances([instance(BASE_NAME, now), instance("build-orphan", now, lock)])
    fake.fail("delete --force local:build-orphan", "Error: The instance is busy")
    launcher(monkeypatch)
    reporter = Listener()
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock")
    with lxd_instance(launch, settings, reporter):
        pass
    [warning] = reporter.warnings
    assert warning.startswith("build-orphan still exists")


def test_what_a_killed_build_has_staged_goes_with_an_instance_that_lxd_still_makes(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = Workspace(DEAD.removeprefix("build-"), settings)
    failed = Workspace(killed.build_id.replace("0a1b2c", "000000"), settings)
    elsewhere = Workspace(killed.build_id.replace("0a1b2c", "000001"), settings)
    for workspace in (killed, failed, elsewhere):
        (workspace.work / "tree").mkdir(parents=True)
    killed.lock.write_text(settings.project_name)
    elsewhere.lock.write_text("another-project")
    fake.instances([instance(BASE_NAME, datetime.now(UTC))])
    launcher(monkeypatch)
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock")
    with lxd_instance(launch, settings, Listener()):
        pass
    assert f"delete --force {DEAD}" in fake.changes
    assert not killed.lock.exists()
    assert {path.name for path in settings.work_dir.iterdir()} == {
        failed.build_id,
        elsewhere.build_id,
        elsewhere.lock.name,
    }


def test_a_command_that_launches_nothing_ends_killed_builds_too(
    fake: FakeLxc, settings: Settings
) -> None:
    killed = Workspace(DEAD.removeprefix("build-"), settings)
    killed.work.mkdir(parents=True)
    reporter = Listener()
    fake.instances([instance(DEAD, datetime.now(UTC), killed.lock)])
    end_killed_builds(settings, reporter)
    assert fake.calls == [], "without a killed build, LXD is not asked"
    killed.lock.write_text(settings.project_name)
    end_killed_builds(settings, reporter)
    assert reporter.notes == [f"Deleted {DEAD}, which a killed build has left."]
    assert list(settings.work_dir.iterdir()) == []


def test_killed_builds_without_lxd_do_not_matter_to_a_command_that_needs_none(
    fake: FakeLxc, settings: Settings
) -> None:
    killed = Workspace(DEAD.removeprefix("build-"), settings)
    killed.work.mkdir(parents=True)
    killed.lock.touch()
    fake.fail("local:", "Error: dial unix /var/lib/lxd/unix.socket: connect: connection refused")
    end_killed_builds(settings, Listener())
    assert killed.lock.exists()
