"""The instance of one build: what it gets, when it is kept, and how it goes."""

import json
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fake_lxc import FakeLxc, instance
from launch_samples import BASE_NAME, MADE_HERE, NAME, NOW, SETUP, launch_instance, launcher
from plan_samples import sample_plan, sample_settings
from reporter_samples import Listener

from slurm_factory import supplies as preparation
from slurm_factory.config import Settings
from slurm_factory.exceptions import (
    BuildError,
    ConfigurationError,
    DownloadError,
    InterruptedBuildError,
    LXDError,
    OutputError,
    SlurmFactoryError,
    VerificationError,
)
from slurm_factory.instances import build_instance
from slurm_factory.instances.build_instance import lxd_instance
from slurm_factory.instances.instance import Mount
from slurm_factory.instances.launch import Launch
from slurm_factory.instances.network import both_spellings
from slurm_factory.job import Job
from slurm_factory.supplies import require_machine
from slurm_factory.util.tar_stream import refused
from slurm_factory.workspace import open_workspace


def test_the_commands_of_a_build_get_the_proxies_and_no_command_line_does(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://u:geheim@p:1")
    launch = launcher(monkeypatch)
    with launch_instance(settings) as place:
        assert place.secrets == both_spellings(os.environ)
    assert "geheim" not in f"{fake.calls} {launch.instance.default_command_environment}"


def test_an_instance_gets_its_mounts_the_limits_the_lock_and_goes_after_success(
    fake: FakeLxc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = launcher(monkeypatch)
    settings = sample_settings(tmp_path / "cache", cpu_limit=2, memory_limit="4GiB")
    mounts = (
        Mount(settings.source_cache_dir),
        Mount(settings.ccache_dir / "24.11.5", writable=True),
    )
    with launch_instance(settings, mounts=mounts) as place:
        assert place.project == "slurm-factory"
        assert place.mounts == mounts
        assert all(mount.source.is_dir() for mount in mounts)
        assert fake.changes == [f"patch {NAME}"]
    [patch] = fake.patches
    assert patch == {
        "project": "slurm-factory",
        "config": {
            "limits.cpu": "2",
            "limits.memory": "4GiB",
            "limits.processes": "10000",
            "user.slurm_factory.lock": str(settings.work_dir / "x.lock"),
        },
        "devices": {
            "mount-0": {
                "type": "disk",
                "source": str(settings.source_cache_dir),
                "path": "/opt/slurm-factory-cache/spack-sourcecache",
                "readonly": "true",
                "raw.mount.options": "nosuid,nodev",
                "required": "false",
            },
            "mount-1": {
                "type": "disk",
                "source": str(settings.ccache_dir / "24.11.5"),
                "path": "/opt/slurm-factory-cache/ccache/24.11.5",
                "readonly": "false",
                "raw.mount.options": "nosuid,nodev",
                "required": "false",
            },
        },
    }
    assert launch.instance.default_command_environment["LC_ALL"] == "C.UTF-8"
    assert fake.changes[1:] == [f"delete --force {NAME}"]
    [call] = launch.calls
    assert call["use_base_instance"]
    assert (call["image_remote"], call["image_name"]) == ("local", MADE_HERE.alias)


def test_memory_of_an_instance_is_limited_without_a_setting_too(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    with launch_instance(settings):
        [patch] = fake.patches
    assert patch["config"]["limits.memory"] == "90%"
    assert patch["config"]["limits.processes"] == "10000"


def test_instance_that_is_deleted_before_it_is_set_up_is_an_lxd_error(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_instance, "list_instances", lambda _: ())
    launcher(monkeypatch)
    with pytest.raises(LXDError, match="was deleted in the meantime"), launch_instance(settings):
        pass


@pytest.mark.parametrize(("uid", "mapped"), [(0, False), (1000, True)])
def test_root_of_an_instance_is_never_root_of_this_machine(
    fake: FakeLxc,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    uid: int,
    mapped: bool,
) -> None:
    launch = launcher(monkeypatch)
    monkeypatch.setattr(os, "getuid", lambda: uid)
    with launch_instance(settings):
        pass
    [call] = launch.calls
    assert (call["map_user_uid"], call["uid"]) == (mapped, uid)


def idmap(owner: int, group: int) -> list[dict[str, object]]:
    """LXD's map of the root of an instance."""
    return [
        {"Isuid": True, "Isgid": False, "Hostid": owner, "Nsid": 0},
        {"Isuid": False, "Isgid": True, "Hostid": group, "Nsid": 0},
    ]


def listed(**changes: object) -> list[dict[str, object]]:
    return [instance(BASE_NAME, NOW), instance(NAME, NOW) | changes]


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_directory_to_write_to_belongs_to_the_instances_root_with_all_in_it(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    config = {"volatile.last_state.idmap": json.dumps(idmap(100_000, 200_000))}
    fake.instances(listed(config=config))
    cache = settings.ccache_dir / "24.11.5"
    cache.mkdir(parents=True)
    (cache / "a").mkdir()
    (cache / "a/object").touch()
    outside = settings.cache_dir / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (cache / "a/link").symlink_to(outside / "file")
    (cache / "directory").symlink_to(outside)
    with launch_instance(settings, mounts=(Mount(cache, writable=True),)):
        pass
    inside = [cache, *cache.iterdir(), *(cache / "a").iterdir()]
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in inside} == {(100_000, 200_000)}
    assert {path.stat().st_uid for path in (outside, outside / "file")} == {0}


@pytest.mark.skipif(os.getuid() != 0, reason="only instances of root are somebody else")
def test_instances_of_root_may_read_what_a_strict_umask_has_closed(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    source = settings.source_cache_dir / "archive/ab"
    source.mkdir(parents=True)
    (source / "file").touch(mode=0o600)
    (source / "link").symlink_to("/etc/shadow")
    for directory in (settings.source_cache_dir, source.parent, source):
        directory.chmod(0o700)
    shadow = Path("/etc/shadow").stat().st_mode
    with launch_instance(settings, mounts=(Mount(settings.source_cache_dir),)):
        pass
    assert stat.S_IMODE(source.stat().st_mode) == 0o755
    assert stat.S_IMODE((source / "file").stat().st_mode) == 0o644
    assert Path("/etc/shadow").stat().st_mode == shadow


def test_instance_that_delivers_what_no_honest_build_makes_is_stopped(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    with pytest.raises(VerificationError) as caught, launch_instance(settings):
        raise refused("sbin/slurmd is setuid.")
    assert f"stop --force {NAME}" in fake.changes
    assert "The instance is kept" in caught.value.resolution


OTHER = {"Isuid": True, "Isgid": False, "Hostid": 0, "Nsid": 1000}


@pytest.mark.parametrize(
    "rows", [lambda: idmap(0, 0), lambda: idmap(1000, 0), lambda: [*idmap(1, 1), OTHER], list]
)
def test_instance_whose_user_would_be_root_of_this_machine_is_refused(
    fake: FakeLxc,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    rows: Callable[[], list[dict[str, object]]],
) -> None:
    launcher(monkeypatch)
    fake.instances(listed(config={"volatile.last_state.idmap": json.dumps(rows())}))
    with pytest.raises(LXDError, match="would be root of this machine"), launch_instance(settings):
        pass
    assert fake.changes == [f"delete --force {NAME}"]


@pytest.mark.parametrize("key", ["security.privileged", "security.nesting"])
@pytest.mark.parametrize("value", ["true", "True", "1", "yes", "on"])
def test_instance_that_its_profile_makes_privileged_is_refused(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    launcher(monkeypatch)
    fake.instances(listed(expanded_config={key: value}))
    with pytest.raises(LXDError, match=key) as caught, launch_instance(settings):
        pass
    assert f"lxc profile unset --project slurm-factory local:default {key}" in str(caught.value)
    assert fake.changes == [f"delete --force {NAME}"]


@pytest.mark.parametrize("offline", [False, True])
def test_devices_that_a_build_does_not_need_are_taken_away(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    launcher(monkeypatch)
    devices = {
        "root": {"path": "/", "pool": "default", "type": "disk"},
        "home": {"path": "/home", "source": "/home", "type": "disk"},
        "card": {"type": "gpu"},
        "eth0": {"type": "nic", "network": "lxdbr0"},
    }
    fake.instances(listed(expanded_devices=devices))
    with launch_instance(settings, offline=offline):
        [patch] = fake.patches
    gone = {"home", "card"} | ({"eth0"} if offline else set())
    assert patch["devices"] == {name: {"type": "none"} for name in gone}


def test_a_build_from_a_base_that_is_there_asks_lxd_what_it_needs_once(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    with open_workspace("20261127-100000-25-05-a1b2c3", settings) as workspace:
        job = Job(sample_plan(), settings, Listener(), workspace, jobs=1)
        require_machine(job)
        with preparation.launch_instance(job):
            assert [" ".join(call.split()[:2]) for call in fake.calls] == [
                "project list",
                "list --format",
                "list --format",
                f"patch build-{workspace.build_id}",
            ]
    assert [call.split()[0] for call in fake.calls[4:]] == ["delete"]


@pytest.mark.parametrize("fails", [False, True])
def test_an_instance_that_a_build_leaves_on_purpose_is_marked_as_that(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    fake.instances([instance(BASE_NAME, datetime.now(UTC)), instance(NAME, NOW)])
    launcher(monkeypatch)
    with suppress(BuildError), launch_instance(settings, keep=not fails):
        if fails:
            raise BuildError("make failed.")
    assert fake.changes[-1] == f"config set {NAME} user.slurm_factory.kept=yes"


def test_after_a_failed_build_the_instance_is_kept_and_the_error_shows_how_to_enter_it(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    fake.instances([instance(BASE_NAME, NOW), instance(NAME, NOW)])
    with pytest.raises(BuildError) as caught, launch_instance(settings):
        raise BuildError("make failed.", resolution="Read the log.")
    assert caught.value.resolution == (
        "Read the log. The instance is kept:"
        f" lxc --project slurm-factory exec local:{NAME} -- bash -l"
    )
    assert not [call for call in fake.changes if call.startswith("delete")]


@pytest.mark.parametrize("keep", [False, True])
def test_there_is_no_way_into_an_instance_that_somebody_has_deleted(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    launcher(monkeypatch)

    def end(error: SlurmFactoryError) -> None:
        fake.instances([instance(BASE_NAME, NOW)])
        raise error

    for error in (BuildError("make failed."), LXDError("The instance was deleted.")):
        with pytest.raises(type(error)) as caught, launch_instance(settings, keep=keep):
            end(error)
        assert caught.value.resolution == ""


def test_a_kept_instance_that_somebody_has_stopped_is_reported_with_the_command_that_starts_it(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    fake.instances([instance(BASE_NAME, NOW), instance(NAME, NOW) | {"status": "Stopped"}])
    with pytest.raises(LXDError) as caught, launch_instance(settings, keep=True):
        raise LXDError("The instance was stopped.")
    assert caught.value.resolution == (
        f"The instance is kept: lxc --project slurm-factory start local:{NAME}"
    )


def test_an_instance_whose_full_disk_takes_no_mark_is_kept_all_the_same(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    fake.instances([instance(BASE_NAME, NOW), instance(NAME, NOW)])
    fake.fail("config set", "Error: write /var/lib/lxd/backup.yaml: disk quota exceeded")
    with pytest.raises(BuildError) as caught, launch_instance(settings):
        raise BuildError("make failed.")
    assert "The instance is kept: lxc" in caught.value.resolution


def test_lxd_that_does_not_answer_is_not_said_to_keep_an_instance(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_lxd() -> None:
        fake.fail("local:", "Error: connect: connection refused")
        raise BuildError("make failed.")

    launcher(monkeypatch)
    with pytest.raises(BuildError) as caught, launch_instance(settings):
        end_lxd()
    assert "may still exist" in caught.value.resolution
    assert "exec" not in caught.value.resolution


@pytest.mark.parametrize("kind", [ConfigurationError, DownloadError, LXDError, OutputError])
@pytest.mark.parametrize("keep", [False, True])
def test_a_mistake_a_failed_download_or_a_full_disk_leaves_no_instance_with_nothing_to_see(
    fake: FakeLxc,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[SlurmFactoryError],
    keep: bool,
) -> None:
    launcher(monkeypatch)
    fake.instances([instance(BASE_NAME, NOW), instance(NAME, NOW)])
    with pytest.raises(kind) as caught, launch_instance(settings, keep=keep):
        raise kind("No.", resolution="Correct it.")
    assert ("The instance is kept" in caught.value.resolution) == keep
    assert (f"delete --force {NAME}" in fake.changes) != keep


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_an_interrupted_build_leaves_no_instance(
    fake: FakeLxc,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    stop: type[BaseException],
) -> None:
    launcher(monkeypatch)
    with pytest.raises(stop), launch_instance(settings):
        raise stop
    assert fake.changes[-1] == f"delete --force {NAME}"


def test_an_instance_that_cannot_be_deleted_after_success_is_a_warning_that_names_it(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.instances([instance(BASE_NAME, NOW), instance(NAME, NOW)])
    fake.fail("delete --force", "Error: The instance is busy")
    launcher(monkeypatch)
    launch = Launch(SETUP, "x86_64", NAME, settings.work_dir / "x.lock")
    reporter = Listener()
    with lxd_instance(launch, settings, reporter):
        pass
    [warning] = reporter.warnings
    assert f"{NAME} could not be deleted; run `slurm-factory clean`" in warning


def test_keep_instance_keeps_it_after_success(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    with launch_instance(settings, keep=True):
        pass
    assert not [call for call in fake.changes if call.startswith("delete")]


def test_keep_instance_keeps_it_after_ctrl_c_with_nothing_running_in_it(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    fake.instances([instance(BASE_NAME, NOW), instance(NAME, NOW)])
    with pytest.raises(InterruptedBuildError) as caught, launch_instance(settings, keep=True):
        raise KeyboardInterrupt
    assert f"exec local:{NAME}" in caught.value.resolution
    assert fake.changes[-2:] == [
        f"restart --force {NAME}",
        f"config set {NAME} user.slurm_factory.kept=yes",
    ]


def test_a_cache_that_cannot_be_mounted_is_explained_and_leaves_no_instance(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(monkeypatch)
    fake.fail("-X PATCH", "Error: newuidmap: uid range not allowed")
    with pytest.raises(LXDError) as caught, launch_instance(settings):
        pass
    assert caught.value.details == "newuidmap: uid range not allowed"
    assert "slurm-factory setup" in caught.value.resolution
    assert fake.changes[-1] == f"delete --force {NAME}"
