"""Instances whose builds were killed."""

from datetime import UTC, datetime, timedelta

import pytest
from fake_lxc import DEAD, FakeLxc, instance, locked_elsewhere
from launch_samples import BASE_NAME, NAME, SETUP, launcher
from reporter_samples import Listener

from slurm_factory.config import Settings
from slurm_factory.instances.build_instance import lxd_instance
from slurm_factory.instances.launch import Launch


def test_the_instance_of_a_killed_build_is_stopped_by_the_next_one_which_says_so(
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
        instance("build-stopped", now, left) | {"status": "Stopped"},
        instance("farm", now, left),
    ]
    fake.instances([base, *others, instance("build-orphan", now, left)])
    launcher(monkeypatch)
    reporter = Listener()
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock")
    with locked_elsewhere(held), lxd_instance(launch, settings, reporter):
        assert fake.changes[0] == "stop --force build-orphan"
    assert [call for call in fake.changes if call.startswith("stop")] == fake.changes[:1]
    [note] = reporter.notes
    assert note.startswith("Stopped build-orphan, whose build was killed.")


def test_an_instance_whose_build_was_killed_before_it_named_its_lock_is_stopped_too(
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
    stopped = [call for call in fake.changes if call.startswith("stop")]
    assert stopped == [f"stop --force {left}", f"stop --force {free}"]


def test_an_orphan_that_cannot_be_stopped_does_not_stop_the_build(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.work_dir.mkdir(parents=True)
    lock = settings.work_dir / "left.lock"
    lock.touch()
    now = datetime.now(UTC)
    fake.instances([instance(BASE_NAME, now), instance("build-orphan", now, lock)])
    fake.fail("stop --force", "Error: The instance is busy")
    launcher(monkeypatch)
    reporter = Listener()
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock")
    with lxd_instance(launch, settings, reporter):
        pass
    [warning] = reporter.warnings
    assert warning.startswith("build-orphan still runs")
