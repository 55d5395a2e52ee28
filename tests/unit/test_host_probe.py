import json
from pathlib import Path

import pytest
from host_samples import DEBIAN, NETWORKS, POOLS, PROFILE, READY_LXD, SERVER, UBUNTU

from slurm_factory.host import probe as probing
from slurm_factory.host.commands import NOT_FOUND, TIMED_OUT, Outcome, run
from slurm_factory.host.facts import Daemon, Firewall, Flavour, OsRelease
from slurm_factory.host.probe import (
    classify_answer,
    parse_iptables,
    parse_lxd,
    parse_os_release,
    parse_ufw_status,
    probe_flavour,
    uplink_mtu,
    wanted_packages,
)

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


def test_os_release_without_version_is_no_error() -> None:
    assert parse_os_release("ID=debian\n") == OsRelease("debian", "", "this system")


def test_state_of_a_ready_lxd_is_read_from_its_own_answers() -> None:
    assert parse_lxd(SERVER, POOLS, NETWORKS, PROFILE) == READY_LXD


def test_network_that_lxd_does_not_manage_is_not_taken_for_its_bridge() -> None:
    profile = {"devices": {"eth0": {"type": "nic", "nictype": "bridged", "parent": "br0"}}}
    lxd = parse_lxd(SERVER, POOLS, NETWORKS, profile)
    assert (lxd.nic, lxd.bridge) == (True, None)


def test_uninitialised_lxd_has_neither_pool_nor_network() -> None:
    lxd = parse_lxd(SERVER, [], [], {"devices": {}})
    assert (lxd.pools, lxd.networks, lxd.root_pool, lxd.nic) == ({}, (), None, False)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome(0, json.dumps({"auth": "trusted"}), ""), Daemon.ANSWERING),
        (Outcome(0, json.dumps({"auth": "untrusted"}), ""), Daemon.DENIED),
        (Outcome(TIMED_OUT, "", ""), Daemon.SILENT),
        (
            Outcome(
                1,
                "",
                'Error: Get "http://unix.socket/1.0": dial unix /var/lib/lxd/unix.socket'
                ": connect: connection refused",
            ),
            Daemon.STOPPED,
        ),
        (
            Outcome(1, "", "Error: dial unix /var/lib/lxd/unix.socket: connect: permission denied"),
            Daemon.DENIED,
        ),
        (Outcome(1, "", "sudo: a password is required"), Daemon.DENIED),
    ],
)
def test_daemon_that_hangs_refuses_or_denies_is_told_apart(
    outcome: Outcome, expected: Daemon
) -> None:
    assert classify_answer(outcome) is expected


def test_docker_policy_is_seen_and_the_bridge_it_lets_through() -> None:
    assert parse_iptables(DOCKER_RULES) == (Firewall.DOCKER, ("lxdbr0",))


def test_drop_policy_without_docker_is_somebody_elses() -> None:
    assert parse_iptables("-P FORWARD DROP\n") == (Firewall.OTHER, ())


def test_rules_that_only_root_may_list_count_as_open() -> None:
    assert parse_iptables("") == (Firewall.OPEN, ())


def test_ufw_route_rules_are_recognised_and_input_rules_are_not_enough() -> None:
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
    assert probe_flavour() is None
    program.write_bytes(b"\x7fELF\x02")
    assert probe_flavour() is Flavour.DEB
    (tmp_path / "lxc").touch()
    assert probe_flavour() is Flavour.SNAP


def test_program_that_hangs_is_killed_and_one_that_is_missing_is_no_traceback() -> None:
    assert run(["sleep", "60"], seconds=0.05).status == TIMED_OUT
    assert run(["no-such-program-here"]).status == NOT_FOUND
