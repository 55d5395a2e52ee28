"""Which member of a cluster a build runs on, and what happens when that one goes away."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_lxd import FakeLxd, about_server, configure_lxc, make_certificate
from fake_lxd import make_cluster as make

from slurm_factory.exceptions import ConfigurationError, LXDError, SlurmFactoryError
from slurm_factory.instances import members
from slurm_factory.instances.lxc import lxc
from slurm_factory.instances.members import (
    Placement,
    architecture_there,
    placed,
    targeted,
    watched,
)
from slurm_factory.instances.remote import MemberLostError, Remote, Target, open_now, open_remote
from slurm_factory.job import Place
from slurm_factory.output.stdout import describe

PLACE = Place("m1", "x86_64", 2, 1 << 32, clustered=True)
STUBBORN = """#!/bin/sh
trap '' TERM
echo
read -r line
"""
PATIENCE = 30


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    make_certificate(directory, "server")
    make_certificate(directory, "client")
    return directory


@pytest.fixture
def servers(certificates: Path) -> Iterator[dict[str, FakeLxd]]:
    with FakeLxd(certificates) as first, FakeLxd(certificates) as second:
        yield {"m1": first, "m2": second}


@pytest.fixture
def remote(
    servers: dict[str, FakeLxd],
    certificates: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Remote]:
    """A cluster: m1 is fast, and m2 of another architecture."""
    make(servers, m1={"groups": ["default", "fast"]}, m2={"architecture": "aarch64"})
    monkeypatch.setenv("LXD_CONF", str(tmp_path / "lxc"))
    monkeypatch.setattr(members, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(members, "KILL_SECONDS", 0.02)
    configure_lxc(tmp_path / "lxc", certificates, farm=servers["m2"].url)
    with open_remote("farm", tmp_path / "cache" / "remotes") as remote:
        yield remote


def set_status(servers: dict[str, FakeLxd], name: str, status: str) -> None:
    """What every member says about one."""
    for server in servers.values():
        about: Any = server.answers[f"/1.0/cluster/members/{name}"]
        about["status"] = status


@contextmanager
def client(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """An lxc of this process that hangs, and does not end when it is asked to."""
    program = tmp_path / "lxc-program" / "lxc"
    program.parent.mkdir()
    program.write_text(STUBBORN)
    program.chmod(0o755)
    with subprocess.Popen(
        [program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("target", "found"),
    [("", ["m1", "m2"]), ("m2", ["m2"]), ("@fast", ["m1"]), ("@default", ["m1", "m2"])],
)
def test_a_target_is_a_member_a_group_or_nothing(
    remote: Remote, target: str, found: list[str]
) -> None:
    assert [member.name for member in targeted(remote, target)] == found


@pytest.mark.parametrize(("target", "near"), [("m3", "m1"), ("@fats", "@fast"), ("fast", "m1")])
def test_an_unknown_target_is_an_error_that_names_those_there_are(
    remote: Remote, target: str, near: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        targeted(remote, target)
    assert near in caught.value.details
    assert "lxc cluster list farm:" in caught.value.resolution


def test_a_target_that_is_offline_is_said_to_be(
    remote: Remote, servers: dict[str, FakeLxd]
) -> None:
    set_status(servers, "m1", "Evacuated")
    assert [member.name for member in targeted(remote, "")] == ["m2"]
    with pytest.raises(LXDError, match="m1 is evacuated"):
        targeted(remote, "m1")


def test_a_server_that_is_no_cluster_has_no_targets(
    remote: Remote, servers: dict[str, FakeLxd]
) -> None:
    for server in servers.values():
        server.answers["/1.0"] = about_server()
    assert [member.name for member in targeted(remote, "")] == ["one"]
    with pytest.raises(ConfigurationError, match="is no cluster"):
        targeted(remote, "m1")


@pytest.mark.parametrize(
    ("target", "asked", "there"),
    [
        ("", "aarch64", "aarch64"),
        ("m2", "", "aarch64"),
        ("m1", "aarch64", "x86_64"),
        ("", "riscv64", "x86_64"),
    ],
)
def test_the_architecture_is_that_of_a_member(
    remote: Remote, target: str, asked: str, there: str
) -> None:
    assert architecture_there(remote, target, asked) == there


def until_lost(remote: Remote) -> None:
    deadline = time.monotonic() + PATIENCE
    while not remote.lost:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def failure(during: Callable[[], object]) -> MemberLostError:
    """The error of a build on m1 that does this."""
    with pytest.raises(MemberLostError) as caught, watched(PLACE):
        during()
    return caught.value


def test_a_member_that_goes_offline_ends_the_clients_and_the_build(
    remote: Remote, servers: dict[str, FakeLxd], tmp_path: Path
) -> None:
    def build() -> None:
        set_status(servers, "m1", "Offline")
        assert hanging.wait(PATIENCE) == -signal.SIGKILL
        raise SlurmFactoryError("What the client was needed for has failed.")

    with client(tmp_path) as hanging:
        error = failure(build)
    assert "m1 of farm is gone" in error.brief
    assert "clean --remote farm" in error.resolution
    assert (describe(error)["exit_code"], describe(error)["elsewhere"]) == (3, True)
    assert remote.lost == "m1"


def test_nothing_is_asked_of_lxd_for_a_build_whose_member_is_gone(
    remote: Remote, servers: dict[str, FakeLxd]
) -> None:
    def build() -> None:
        set_status(servers, "m1", "Offline")
        until_lost(remote)
        lxc("list", project="default")

    assert failure(build).__cause__


def test_an_error_that_comes_before_the_cluster_has_noticed_is_explained_by_looking(
    remote: Remote, servers: dict[str, FakeLxd], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build() -> None:
        set_status(servers, "m1", "Offline")
        raise LXDError("The connection to LXD was lost.")

    monkeypatch.setattr(members, "POLL_SECONDS", PATIENCE)
    assert str(failure(build).__cause__) == "The connection to LXD was lost."


def test_a_member_that_goes_away_while_it_is_chosen_is_lost(
    remote: Remote, servers: dict[str, FakeLxd]
) -> None:
    [member] = targeted(remote, "m1")
    for server in servers.values():
        server.answers.pop("/1.0/resources?target=m1", None)
    set_status(servers, "m1", "Offline")
    with pytest.raises(MemberLostError, match="m1 of farm is gone"):
        members._place(remote, member)


def test_a_socket_that_is_gone_does_not_end_the_watchdog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Remote(Target("near", path=tmp_path / "none.socket"))
    watchdog = members._Watchdog(gone, Place("near", "x86_64", 2, 1 << 32))
    assert not watchdog.look()
    monkeypatch.setattr(members, "SILENT_SECONDS", -1.0)
    assert watchdog.look()


def test_an_error_on_a_member_that_is_there_stays_as_it_is(remote: Remote) -> None:
    error = LXDError("No space.")
    with pytest.raises(LXDError) as caught, watched(PLACE):
        raise error
    assert caught.value is error


def test_a_member_that_the_cluster_no_longer_answers_about_is_lost_after_a_while(
    remote: Remote, servers: dict[str, FakeLxd], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build() -> None:
        for server in servers.values():
            del server.answers["/1.0/cluster/members/m1"]
        until_lost(remote)
        raise LXDError("It hung.")

    monkeypatch.setattr(members, "SILENT_SECONDS", 0.1)
    assert failure(build).exit_code == LXDError.exit_code


@pytest.mark.parametrize("slow", [False, True])
def test_a_build_that_was_placed_on_a_member_that_is_gone_waits_for_lxd_to_notice(
    remote: Remote, servers: dict[str, FakeLxd], monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    placements: list[str] = []

    def placement(*_: object) -> Placement:
        if slow:
            # LXD answers when it has noticed.
            set_status(servers, "m2", "Offline")
        placements.append(", ".join(each.name for each in targeted(remote, "")))
        if len(placements) == 1:
            raise LXDError("The database does not answer.")
        return Placement(PLACE)

    monkeypatch.setattr(members, "_placement", placement)
    for server in servers.values():
        about: Any = server.answers["/1.0/cluster/members/m2"]
        about["architecture"] = "x86_64"
    gone = servers["m2"]
    gone.__exit__()
    later = threading.Timer(0.3, set_status, (servers, "m2", "Offline"))
    later.start()
    with placed("", "x86_64", Path(), "build-x") as found:  # type: ignore[arg-type]  # unused
        assert found
        assert found.place is PLACE
    assert placements == (["m1, m2", "m1"] if slow is False else ["m1", "m1"])
    later.join()
    gone.__enter__()


@pytest.mark.parametrize("silent", [0, 1, 2])
def test_an_error_stays_where_no_member_or_every_one_is_silent_or_lxd_does_not_notice(
    remote: Remote, monkeypatch: pytest.MonkeyPatch, silent: int
) -> None:
    there = [remote.members[name] for name in ("m1", "m2")[silent:]]
    monkeypatch.setattr(Remote, "answers", lambda _, address: address in there)
    monkeypatch.setattr(members, "VERDICT_SECONDS", 0.1)
    error = LXDError("No space.")

    def placement(*_: object) -> Placement:
        raise error

    monkeypatch.setattr(members, "_placement", placement)
    with pytest.raises(LXDError) as caught, placed("", "x86_64", Path(), "x"):  # type: ignore[arg-type]
        pass
    assert caught.value is error


def test_builds_on_this_machine_are_not_watched() -> None:
    assert open_now() is None
    error = LXDError("No space.")
    with pytest.raises(LXDError) as caught, watched(None):
        raise error
    assert caught.value is error
