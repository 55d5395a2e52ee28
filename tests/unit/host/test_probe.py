import json
from pathlib import Path

import pytest
from host_samples import DEBIAN, NETWORKS, POOLS, PROFILE, READY_LXD, SERVER, UBUNTU

from slurm_factory.host import probe as probing
from slurm_factory.host.facts import Daemon, Firewall, Flavor, OsRelease
from slurm_factory.host.probe import (
    CAP_SYS_ADMIN,
    SUDO,
    classify_answer,
    has_capability,
    parse_id_map,
    parse_iptables,
    parse_lxd,
    parse_os_release,
    parse_ufw_status,
    probe_flavor,
    probe_lxd,
    uplink_mtu,
    wanted_packages,
)
from slurm_factory.util.process import NOT_FOUND, TIMED_OUT, Outcome, run

DOCKER_RULES = """-P INPUT ACCEPT
-P FORWARD DROP
-P OUTPUT ACCEPT
-N DOCKER
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -i lxdbr0 -j ACCEPT
-A DOCKER-USER -j RETURN
"""
UFW_STATUS = """Status: active

To                         Action      From
--                         ------      ----
22/tcp                     ALLOW       Anywhere
Anywhere on lxdbr0         ALLOW       Anywhere

Anywhere                   ALLOW FWD   Anywhere on lxdbr0
Anywhere on lxdbr0         ALLOW FWD   Anywhere
"""


def test_quoted_and_bare_values_of_os_release_are_understood() -> None:
    text = 'PRETTY_NAME="Ubuntu 24.04.2 LTS"\nVERSION_ID="24.04"\n# no = comment\nID=ubuntu\n'
    assert parse_os_release(text) == UBUNTU


def test_os_release_without_version_is_not_an_error() -> None:
    assert parse_os_release("ID=debian\n") == OsRelease("debian", "", "this system")


def test_state_of_a_ready_lxd_is_read_from_its_own_answers() -> None:
    assert parse_lxd(SERVER, POOLS, NETWORKS, PROFILE) == READY_LXD


def test_network_that_lxd_does_not_manage_is_not_taken_for_its_bridge() -> None:
    profile = {"devices": {"eth0": {"type": "nic", "nictype": "bridged", "parent": "br0"}}}
    lxd = parse_lxd(SERVER, POOLS, NETWORKS, profile)
    assert (lxd.nic, lxd.bridge) == (True, None)


def test_uninitialized_lxd_has_neither_pool_nor_network() -> None:
    lxd = parse_lxd(SERVER, [], [], {"devices": {}})
    assert (lxd.pools, lxd.networks, lxd.root_pool, lxd.nic) == ({}, (), None, False)


NOT_STARTED = Outcome(1, "", "Error: The LXD daemon doesn't appear to be started")
"""Message of lxc on Debian 13 for every cause."""


@pytest.mark.parametrize(
    ("outcome", "socket", "expected"),
    [
        (Outcome(0, json.dumps({"auth": "trusted"}), ""), Daemon.ANSWERING, Daemon.ANSWERING),
        (Outcome(0, json.dumps({"auth": "trusted"}), ""), Daemon.DENIED, Daemon.ANSWERING),
        (Outcome(0, json.dumps({"auth": "untrusted"}), ""), Daemon.ANSWERING, Daemon.DENIED),
        (Outcome(TIMED_OUT, "", ""), Daemon.ANSWERING, Daemon.SILENT),
        (Outcome(TIMED_OUT, "", ""), Daemon.DENIED, Daemon.SILENT),
        (NOT_STARTED, Daemon.ANSWERING, Daemon.SILENT),
        (NOT_STARTED, Daemon.DENIED, Daemon.STOPPED),
    ],
)
def test_daemon_that_hangs_refuses_or_denies_is_distinguished(
    outcome: Outcome, socket: Daemon, expected: Daemon
) -> None:
    assert classify_answer(outcome, socket) is expected


def test_daemon_is_not_asked_where_its_socket_says_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "which", lambda _: Path("/usr/bin/lxc"))
    monkeypatch.setattr(probing, "run", lambda *_, **__: pytest.fail("lxc was run"))
    for state in (Daemon.STOPPED, Daemon.DENIED, Daemon.SILENT):
        assert probe_lxd(state) == (state, None)


def test_sudo_that_wants_a_password_leaves_open_whether_the_daemon_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probing, "which", lambda _: Path("/usr/bin/lxc"))
    refused = Outcome(1, "", "sudo: a password is required")
    monkeypatch.setattr(probing, "run", lambda *_, **__: refused)
    assert probe_lxd(Daemon.DENIED, SUDO) == (Daemon.DENIED, None)


def test_docker_policy_is_seen_and_the_bridge_it_lets_through() -> None:
    assert parse_iptables(DOCKER_RULES) == (Firewall.DOCKER, ("lxdbr0",))


def test_drop_policy_without_docker_is_somebody_elses() -> None:
    assert parse_iptables("-P FORWARD DROP\n") == (Firewall.OTHER, ())


def test_rules_that_only_root_may_list_count_as_open() -> None:
    assert parse_iptables("") == (Firewall.OPEN, ())


def test_ufw_route_rules_are_recognized_and_input_rules_are_not_enough() -> None:
    assert parse_ufw_status(UFW_STATUS) == ("lxdbr0",)
    assert parse_ufw_status("Status: active\nAnywhere on lxdbr0   ALLOW   Anywhere\n") == ()


def test_mtu_is_that_of_the_default_route_not_of_the_first_interface() -> None:
    links = [{"ifname": "lo", "mtu": 65536}, {"ifname": "eth0", "mtu": 1400}]
    assert uplink_mtu([{"dst": "default", "dev": "eth0"}], links) == 1400
    assert uplink_mtu([], links) is None


def test_keyring_that_debian_12_lacks_is_not_asked_of_it() -> None:
    assert "ubuntu-keyring" not in wanted_packages(DEBIAN)
    assert "ubuntu-keyring" in wanted_packages(OsRelease("debian", "13", "Debian 13"))
    assert "lxd" not in wanted_packages(UBUNTU)
    assert wanted_packages(OsRelease("fedora", "42", "Fedora")) == ()


def test_ubuntus_installer_script_is_not_taken_for_lxd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "SNAP_PROGRAMS", (tmp_path / "lxc",))
    program = tmp_path / "lxd"
    monkeypatch.setattr(probing, "which", lambda name: program)
    program.write_text("#!/bin/sh\nsnap install lxd\n")
    assert probe_flavor() is None
    program.write_bytes(b"\x7fELF\x02")
    assert probe_flavor() is Flavor.DEB
    (tmp_path / "lxc").touch()
    assert probe_flavor() is Flavor.SNAP


def test_program_that_hangs_is_killed_and_one_that_is_missing_causes_no_traceback() -> None:
    assert run(["sleep", "60"], seconds=0.05).status == TIMED_OUT
    assert run(["no-such-program-here"]).status == NOT_FOUND


def test_capability_is_read_from_the_right_set() -> None:
    status = "CapEff:\t0000000000000000\nCapBnd:\t000001fffeffffff\n"
    assert not has_capability(status, CAP_SYS_ADMIN, effective=True)
    assert has_capability(status, CAP_SYS_ADMIN, effective=False)
    docker = "CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\n"
    assert not has_capability(docker, CAP_SYS_ADMIN, effective=False)


def test_ids_of_a_container_are_read_from_the_kernel() -> None:
    assert parse_id_map("         0     100000   10000001\n") == (range(10_000_001),)
    assert parse_id_map("0 0 4294967295\n") == (range(2**32 - 1),)
    assert parse_id_map("0 1000 1\n1 100000 65536\n") == (range(1), range(1, 65_537))
