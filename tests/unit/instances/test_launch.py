"""Launching: faults of craft-providers, locks, records, and what is deleted when."""

import fcntl
import inspect
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest
from craft_providers import ProviderError
from craft_providers.errors import BaseCompatibilityError
from executor_samples import RecordingExecutor
from fake_lxc import FakeLxc, instance, locked_elsewhere
from launch_samples import (
    BASE_NAME,
    DEBIAN,
    DESCRIPTION,
    LAUNCH,
    NAME,
    NOW,
    OTHER_BASE,
    PATIENCE,
    SETUP,
    SILENT,
    SPACK_SETUP,
    UNFINISHED,
    image_lock,
    launch_instance,
    launcher,
)
from reporter_samples import Listener

from slurm_factory.config import Settings
from slurm_factory.exceptions import LXDError
from slurm_factory.instances import launch as project_module
from slurm_factory.instances.base import FactoryBase, base_lock
from slurm_factory.instances.build_instance import lxd_instance
from slurm_factory.instances.images import ImageName
from slurm_factory.instances.launch import Launch, ensure_project
from slurm_factory.plan import base_setup as base_record
from slurm_factory.plan.base_setup import load_record, record_path
from slurm_factory.util.process import TRANSIENT


def test_the_image_of_a_base_that_cannot_be_copied_is_not_taken_for_granted(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base is made again, from an image that may be gone."""
    made = launcher(monkeypatch)
    served = ImageName(DEBIAN.image.remote, DEBIAN.image.alias)
    fake.images([])
    fake.instances([UNFINISHED[0]])
    with launch_instance(settings):
        pass
    assert [call["image_remote"] for call in made.calls] == [served.remote]


def test_an_offline_launch_does_not_wait_for_a_network_in_the_instance(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = launcher(monkeypatch)
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock")
    for offline in (False, True):
        with lxd_instance(replace(launch, offline=offline), settings, Listener()):
            pass
    asked = []
    for call in made.calls:
        executor = RecordingExecutor()
        call["base_configuration"].setup(executor=executor)
        asked.append([command for command in executor.commands if "getent" in command])
    assert asked == [["getent ahosts deb.debian.org"], []]


def test_what_the_base_contains_is_recorded_with_every_launch(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    with launch_instance(settings):
        pass
    record = load_record(SETUP, settings.images_dir)
    assert record is not None
    assert record["packages"]["libc6:amd64"] == "2.36-9"


def test_a_record_that_every_launch_writes_again_stays_as_old_as_its_base(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = datetime.now(UTC) - timedelta(days=89)
    base = instance(BASE_NAME, made, description=DESCRIPTION)
    fake.instances([base, instance(NAME, datetime.now(UTC))])
    launcher(monkeypatch)
    with launch_instance(settings):
        pass
    assert record_path(SETUP, settings.images_dir).stat().st_mtime == pytest.approx(
        made.timestamp()
    )


def test_a_record_lives_as_long_as_craft_providers_keeps_a_base() -> None:
    assert inspect.signature(LAUNCH).parameters["expiration"].default == base_record.BASE_LIFE


def test_waiting_for_the_base_is_reported_only_while_another_build_makes_it(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock")
    launcher(monkeypatch)
    alone = Listener()
    with lxd_instance(launch, settings, alone):
        assert alone.notes == []
    with locked_elsewhere(base_lock(SETUP, settings.images_dir)) as other:
        waiting = Listener(on_note=lambda _: other.kill())
        with lxd_instance(launch, settings, waiting):
            [note] = waiting.notes
            assert "another build" in note


@pytest.mark.parametrize("made", ["another base of its distribution", "an image for that"])
def test_a_launch_from_a_base_that_is_there_does_not_wait_while_another_build_makes(
    made: str, fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock")
    other = base_lock(SPACK_SETUP, settings.images_dir)
    settings.images_dir.mkdir(parents=True)
    launcher(monkeypatch)
    with (
        locked_elsewhere(image_lock(settings) if "image" in made else other),
        lxd_instance(launch, settings, Listener(on_note=pytest.fail)) as place,
    ):
        assert place.name == NAME


def is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_while_a_base_is_made_or_copied_its_own_lock_is_held_and_no_other(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def look(_: FactoryBase) -> None:
        locks = settings.images_dir.glob("*.lock")
        seen.extend(path.name for path in locks if is_locked(path))

    launcher(monkeypatch).on_call = look
    with launch_instance(settings):
        assert seen == [base_lock(SETUP, settings.images_dir).name]
        assert not is_locked(base_lock(SETUP, settings.images_dir))


def test_nobody_uses_the_project_before_it_has_its_profile(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    there, waits = Event(), Event()

    def create(project: str, **_: object) -> None:
        fake.projects("default", project)
        there.set()
        assert waits.wait(PATIENCE)
        done.append("profile")

    def use() -> None:
        ensure_project(settings, Listener(lambda _: waits.set()))
        done.append("used")

    monkeypatch.setattr(project_module, "create_with_default_profile", create)
    fake.projects("default")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(use)
        assert there.wait(PATIENCE)
        second = pool.submit(use)
    assert (first.result(), second.result()) == (None, None)
    assert done == ["profile", "used", "used"]


def test_a_poisoned_base_is_deleted_and_made_again(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [BaseCompatibilityError("instance is marked as not setup")] * 2
    launch = launcher(monkeypatch, *errors)
    fake.instances([instance(name, datetime.now(UTC)) for name in (BASE_NAME, OTHER_BASE)])
    with launch_instance(settings):
        pass
    assert len(launch.calls) == 3
    assert fake.changes[:3] == [f"delete --force {n}" for n in (NAME, NAME, BASE_NAME)]
    assert f"delete --force {OTHER_BASE}" not in fake.changes


def test_a_copy_that_only_once_seems_incompatible_does_not_cost_the_base(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = launcher(monkeypatch, BaseCompatibilityError("instance config is empty"))
    with launch_instance(settings):
        pass
    assert len(launch.calls) == 2
    assert f"delete --force {BASE_NAME}" not in fake.changes


def test_a_base_that_stays_poisoned_is_given_up_in_the_end(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [BaseCompatibilityError("instance is marked as not setup")] * 9
    launch = launcher(monkeypatch, *errors)
    with pytest.raises(LXDError, match="marked as not setup"), launch_instance(settings):
        pass
    assert len(launch.calls) == 3


def test_lxcs_transient_failure_while_launching_is_survived_with_the_base_intact(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = launcher(monkeypatch, ProviderError("exec failed", details=f"Error: {TRANSIENT}"))
    with launch_instance(settings):
        pass
    assert len(launch.calls) == 2
    assert f"delete --force {BASE_NAME}" not in fake.calls


@pytest.mark.parametrize("error", [ProviderError("apt failed"), KeyboardInterrupt()])
def test_a_base_that_was_only_begun_is_deleted(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def begin(_: FactoryBase) -> None:
        fake.instances([instance(BASE_NAME, NOW), instance(OTHER_BASE, NOW)])

    fake.instances([])
    launcher(monkeypatch, error).on_call = begin
    with pytest.raises((LXDError, KeyboardInterrupt)), launch_instance(settings):
        pass
    assert fake.changes == [f"delete --force {BASE_NAME}", f"delete --force {NAME}"]


@pytest.mark.parametrize("error", [ProviderError("copy failed"), KeyboardInterrupt()])
def test_a_finished_base_survives_a_launch_that_fails(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    launcher(monkeypatch, error)
    with pytest.raises((LXDError, KeyboardInterrupt)), launch_instance(settings):
        pass
    assert fake.changes == [f"delete --force {NAME}"]


@pytest.mark.parametrize("error", SILENT, ids=lambda error: type(error).__name__)
def test_lxd_that_stops_answering_during_a_launch_is_not_reported_as_a_full_cache(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    launcher(monkeypatch, error)
    with pytest.raises(LXDError) as caught, launch_instance(settings):
        pass
    assert caught.value.details == str(error)
    assert "slurm-factory doctor" in caught.value.resolution
    assert fake.changes[-1] == f"delete --force {NAME}"


def test_a_project_whose_making_was_broken_off_gets_its_profile_after_all(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(
        project_module, "create_with_default_profile", lambda project, **_: made.append(project)
    )
    ensure_project(settings, Listener())
    assert made == []
    fake.profile({})
    ensure_project(settings, Listener())
    assert made == [settings.project_name]


def test_lxd_that_hangs_while_the_project_is_made_causes_no_traceback(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(**_: object) -> None:
        raise subprocess.TimeoutExpired("lxc", 60)

    fake.projects("default")
    fake.instances([])
    launcher(monkeypatch)
    monkeypatch.setattr(project_module, "create_with_default_profile", create)
    with pytest.raises(LXDError, match="Cannot launch an instance"), launch_instance(settings):
        pass


def test_cleaning_up_that_fails_does_not_hide_the_reason(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.fail("delete --force", "Error: Get http://unix.socket: connection refused")
    fake.instances([instance(BASE_NAME, NOW), instance(NAME, NOW)])
    launcher(monkeypatch, ProviderError("no space"))
    with pytest.raises(LXDError, match="no space"), launch_instance(settings):
        pass
