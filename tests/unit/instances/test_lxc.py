"""The one door to lxc: what it says, what is waited for, and what is deleted."""

import grp
import os
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_lxc import FakeLxc, instance
from launch_samples import (
    NAME,
    NOW,
    copying,
)

from slurm_factory.config import Settings
from slurm_factory.exceptions import LXDError
from slurm_factory.host.facts import Daemon
from slurm_factory.instances import lxc as lxc_module
from slurm_factory.instances.lxc import (
    delete_instance,
    delete_unfinished,
    explain,
    instance_names,
    lxc,
    wait_for_operations,
)
from slurm_factory.util import search_path


def test_a_copy_that_lxd_finishes_after_all_is_deleted_too(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lxc_module, "QUIET_LOOKS", 1)
    fake.operations([copying(200)])
    fake.finish_late([instance(NAME, NOW)])
    assert delete_unfinished(NAME, settings.project_name)
    assert fake.changes == [f"delete --force {NAME}"] * 2
    assert instance_names(settings.project_name) == ()


def test_lxd_has_to_be_quiet_about_a_copy_for_several_looks_however_slow_they_are(
    fake: FakeLxc, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 4
    monkeypatch.setattr(lxc_module, "QUIET_LOOKS", looks)
    fake.instances([])
    assert delete_unfinished(NAME, settings.project_name)
    asked = [call for call in fake.calls if call.startswith("operation list")]
    assert len(asked) == 1 + looks
    assert fake.changes == [f"delete --force {NAME}"]


def test_what_lxd_is_making_is_waited_for_and_what_it_has_made_is_not(
    fake: FakeLxc, settings: Settings
) -> None:
    fake.operations([copying(103)], then=[copying(200)])
    wait_for_operations(NAME, settings.project_name)
    assert len(fake.calls) == 2
    wait_for_operations(NAME, settings.project_name)
    assert len(fake.calls) == 3


@pytest.mark.parametrize(
    ("said", "attempts"),
    [
        ("Error: Stopping the instance failed: chown /var/x: disk quota exceeded", 2),
        ("Error: The instance is busy", 1),
    ],
)
def test_an_instance_whose_disk_is_full_is_deleted_by_a_second_attempt(
    fake: FakeLxc, settings: Settings, said: str, attempts: int
) -> None:
    fake.instances([instance(NAME, NOW)])
    fake.fail("delete --force", said)
    with pytest.raises(LXDError):
        delete_instance(NAME, settings.project_name)
    assert fake.changes == [f"delete --force {NAME}"] * attempts


SAYS_NOT_STARTED = (
    "Error: The LXD daemon doesn't appear to be started (socket path: /var/lib/lxd/unix.socket)"
)
"""Message of lxc on Debian 13 for every cause."""


@pytest.mark.parametrize(
    ("said", "brief", "command"),
    [
        ("Error: write: No space left on device", "storage pool is full", "clean"),
        ("newuidmap: uid range not allowed", "not allowed to map", "setup"),
        ("Error: Project not found", "lxc image list failed", "doctor"),
        ("", "lxc image list failed", "doctor"),
    ],
)
def test_what_lxc_says_becomes_a_reason_and_a_command(
    fake: FakeLxc, said: str, brief: str, command: str
) -> None:
    error = explain(said, ["image", "list"])
    assert brief in error.brief
    assert f"slurm-factory {command}" in error.resolution
    assert error.details


def test_advice_of_lxc_does_not_hide_the_error(fake: FakeLxc) -> None:
    said = (
        'Error: Failed start validation: Instance DNS name "a" already used on network\n'
        "Try `lxc info --show-log local:a` for more info\n"
    )
    assert explain(said, ["launch"]).details.startswith("Failed start validation")


@pytest.mark.parametrize(
    ("state", "brief", "command"),
    [
        (Daemon.DENIED, "You do not have access to LXD", "setup"),
        (Daemon.STOPPED, "daemon does not run", "setup"),
        (Daemon.SILENT, "does not answer", "doctor"),
    ],
)
@pytest.mark.parametrize("said", [SAYS_NOT_STARTED, "Error: no such file or directory", ""])
def test_the_daemons_socket_counts_and_not_what_lxc_says(
    monkeypatch: pytest.MonkeyPatch, state: Daemon, brief: str, command: str, said: str
) -> None:
    monkeypatch.setattr(lxc_module, "socket_state", lambda: state)
    error = explain(said, ["image", "list"])
    assert brief in error.brief
    assert "socket" in error.details
    assert "started" not in error.details
    assert f"slurm-factory {command}" in error.resolution


def test_new_member_of_lxds_group_gets_the_line_that_works_in_the_same_shell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = SAYS_NOT_STARTED
    monkeypatch.setattr(lxc_module, "socket_state", lambda: Daemon.DENIED)
    monkeypatch.setattr(sys, "argv", ["/x/slurm-factory", "build", "--additional-variants", "+a b"])
    monkeypatch.setattr(grp, "getgrnam", lambda _: SimpleNamespace(gr_gid=4711))
    groups = [4711]
    monkeypatch.setattr(os, "getgrouplist", lambda *_: groups)
    words = shlex.split(explain(said, ["list"]).resolution.partition("run: ")[2])
    assert words[:3] == ["sg", "lxd", "-c"]
    assert shlex.split(words[3]) == ["slurm-factory", "build", "--additional-variants", "+a b"]
    groups.clear()
    assert explain(said, ["list"]).resolution == "Run `slurm-factory setup`."


def test_a_machine_without_lxc_is_shown_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LXDError, match="LXD is not installed") as caught:
        lxc("list", project="p")
    assert "slurm-factory setup" in caught.value.resolution


def test_an_lxc_of_snap_is_found_where_cron_starts_builds(
    fake: FakeLxc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_path, "FURTHER_DIRECTORIES", (str(fake.directory),))
    monkeypatch.setenv("PATH", "/nonexistent")
    lxc("list", "local:", project="p")
    assert fake.calls == ["list"]


def test_lxc_speaks_english_in_any_locale(fake: FakeLxc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    (fake.directory / "lxc").write_text("#!/bin/sh\necho $LC_ALL\n")
    assert lxc("list", project="p") == "C.UTF-8\n"


def test_an_lxc_that_hangs_is_given_up(fake: FakeLxc) -> None:
    (fake.directory / "lxc").write_text("#!/bin/sh\nexec sleep 100\n")
    with pytest.raises(LXDError, match="did not answer"):
        lxc("list", project="p", timeout=0.1)


def test_an_answer_of_lxc_that_is_not_utf_8_causes_no_traceback(fake: FakeLxc) -> None:
    (fake.directory / "lxc").write_text("#!/bin/sh\nprintf 'caf\\351'\n")
    assert lxc("list", project="p") == "caf�"
