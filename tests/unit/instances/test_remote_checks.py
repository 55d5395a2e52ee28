"""What `doctor --remote` says about another LXD."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_lxd import FakeLxd, configure_lxc, make_certificate, make_cluster
from plan_samples import sample_settings

from slurm_factory.config import Settings
from slurm_factory.host.checks import REMOTE_CHECKS, Check, Status
from slurm_factory.instances.members import Member
from slurm_factory.instances.remote_checks import (
    CLUSTER_EXTENSIONS,
    EXTENSIONS,
    GIB,
    examine,
    members_check,
    profile_check,
    space_check,
    versions_check,
)

POOL = {"space": {"total": 80 * GIB, "used": 4 * GIB}}
FULL = {"space": {"total": 1, "used": 1}}
DEVICES = {
    "root": {"type": "disk", "path": "/", "pool": "default"},
    "eth0": {"type": "nic", "network": "lxdbr0"},
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return sample_settings(tmp_path / "cache").model_copy(update={"remote": "farm"})


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLxd]:
    """A cluster of one that is as it should be."""
    make_certificate(tmp_path / "certificates", "server")
    make_certificate(tmp_path / "certificates", "client")
    monkeypatch.setenv("LXD_CONF", str(tmp_path / "lxc"))
    with FakeLxd(tmp_path / "certificates") as server:
        make_cluster({"m1": server})
        about = server.answers["/1.0"]
        about["environment"]["server_version"] = "5.0.2"
        about["api_extensions"] = [*EXTENSIONS, *CLUSTER_EXTENSIONS]
        server.answers |= {
            "/1.0/projects": [{"name": "default"}],
            "/1.0/profiles/default": {"devices": DEVICES},
            "/1.0/storage-pools/default": {"status": "Created", "locations": ["m1"]},
            "/1.0/storage-pools/default/resources": POOL,
            "/1.0/networks/lxdbr0": {"managed": True, "status": "Created", "locations": ["m1"]},
        }
        configure_lxc(tmp_path / "lxc", tmp_path / "certificates", farm=server.url)
        yield server


def examined(settings: Settings) -> dict[str, Check]:
    return {check.name: check for check in examine(settings)}


def test_a_cluster_that_is_as_it_should_be_passes_every_check(
    server: FakeLxd, settings: Settings
) -> None:
    found = examined(settings)
    assert [*found][: len(REMOTE_CHECKS)] == [*REMOTE_CHECKS]
    assert {found[name].status for name in REMOTE_CHECKS} == {Status.OK}


def test_a_remote_that_does_not_answer_is_the_only_failure(
    server: FakeLxd, settings: Settings
) -> None:
    found = examined(settings.model_copy(update={"remote": "barn"}))
    assert found["remote"].status is Status.FAILED
    assert found["remote"].fix_command
    assert {found[name].status for name in REMOTE_CHECKS[1:]} == {Status.SKIPPED}
    assert "cache-space" in found


@pytest.mark.parametrize(
    ("path", "changes", "name"),
    [
        ("/1.0", {"api_extensions": []}, "remote-api"),
        ("/1.0/profiles/default", {"devices": {}}, "remote-profile"),
        ("/1.0/storage-pools/default", {"locations": []}, "remote-storage"),
        ("/1.0/storage-pools/default", {"status": "Errored"}, "remote-storage"),
        ("/1.0/networks/lxdbr0", {"status": "Pending"}, "remote-network"),
        (
            "/1.0/storage-pools/default/resources",
            FULL,
            "remote-space",
        ),
    ],
)
def test_what_is_missing_on_a_member_fails_the_check_of_that_name(
    server: FakeLxd, settings: Settings, path: str, changes: dict[str, object], name: str
) -> None:
    server.answers[path] = server.answers[path] | changes
    failed = [n for n, check in examined(settings).items() if check.status is Status.FAILED]
    assert failed == [name]


def test_members_that_are_away_are_named_and_fail_it_only_if_none_is_left() -> None:
    up = Member("m1", "x86_64", "Online")
    down = Member("m2", "x86_64", "Offline", "No heartbeat for 30s")
    empty = Member("m3", "x86_64", "Evacuated", "Unavailable")
    check = members_check("farm", [up, down, empty])
    assert check.status is Status.WARNING
    assert "m2 is offline (No heartbeat for 30s)" in check.message
    assert check.fix_command == "lxc cluster restore farm:m3"
    assert members_check("farm", [down]).status is Status.FAILED


def test_different_versions_are_named_by_member() -> None:
    check = versions_check({"m1": "5.0.2", "m2": "5.0.3"})
    assert (check.status, check.message) == (
        Status.WARNING,
        "members run different versions: m1: 5.0.2, m2: 5.0.3",
    )


def test_the_profile_is_named_with_what_it_lacks() -> None:
    check = profile_check({"root": DEVICES["root"]}, "farm")
    assert check.message == "the default profile gives instances no network"
    assert check.fix_command == "lxc profile edit farm:default"


def test_room_is_that_of_the_fullest_member() -> None:
    assert "m2" in space_check("farm", {"m1": 80 * GIB, "m2": 20 * GIB}).message
    assert space_check("farm", {"m1": 5 * GIB}).status is Status.WARNING
    assert space_check("farm", {"m1": None}).status is Status.SKIPPED
