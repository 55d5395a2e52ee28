from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from host_samples import ALICE, EMPTY_LXD, FRESH, READY, READY_LXD
from plan_samples import sample_settings

from slurm_factory.config import Settings
from slurm_factory.host import doctor as run_doctor
from slurm_factory.host.checks import (
    ABOUT,
    GIB,
    HOST_CHECKS,
    Check,
    Space,
    Status,
    cache_space_check,
    cache_writable_check,
    host_checks,
    instance_checks,
    memory_check,
    pool_space_check,
)
from slurm_factory.host.doctor import cache_check, instance_start_check, nearest_existing, pool_free
from slurm_factory.host.doctor_instance import parse_report
from slurm_factory.host.facts import Daemon, Firewall, Flavor, Privilege
from slurm_factory.util.machine import available_memory
from slurm_factory.util.process import Outcome

SEEN = """address=10.201.7.98/24
mirror=http://deb.debian.org/debian
host=deb.debian.org
dns=ok
archive=ok
tls=ok
"""


def named(checks: tuple[Check, ...], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_every_check_says_what_it_shows_in_the_order_of_doctor() -> None:
    space = Space("default", 80 * GIB)
    made = (
        *host_checks(replace(READY, obstacle="no rights")),
        cache_writable_check(Path("/cache"), problem=""),
        cache_space_check(space),
        pool_space_check(space),
        memory_check(80 * GIB),
        instance_start_check(Outcome(0, "", "")),
        *instance_checks(READY, parse_report(SEEN)),
    )
    assert [check.name for check in made] == list(ABOUT)


def test_machine_that_is_set_up_passes_every_check() -> None:
    assert {check.status for check in host_checks(READY)} == {Status.OK}


@pytest.mark.parametrize(
    ("changes", "name", "status", "fix"),
    [
        ({"flavor": None}, "lxd-installed", Status.FAILED, "slurm-factory setup"),
        (
            {"daemon": Daemon.STOPPED, "lxd": None},
            "lxd-running",
            Status.FAILED,
            "slurm-factory setup",
        ),
        (
            {"daemon": Daemon.SILENT, "lxd": None},
            "lxd-running",
            Status.FAILED,
            "sudo systemctl restart lxd.service",
        ),
        (
            {"daemon": Daemon.SILENT, "lxd": None, "flavor": Flavor.SNAP},
            "lxd-running",
            Status.FAILED,
            "sudo snap restart lxd.daemon",
        ),
        (
            {"daemon": Daemon.SILENT, "lxd": None, "systemd": False},
            "lxd-running",
            Status.FAILED,
            "host-start-lxd.sh 120 replace",
        ),
        (
            {"permitted": False, "account": replace(ALICE, in_group=False)},
            "lxd-permission",
            Status.FAILED,
            "sudo usermod --append --groups lxd alice",
        ),
        (
            {"permitted": False},
            "lxd-permission",
            Status.FAILED,
            "sg lxd -c 'slurm-factory doctor'",
        ),
        ({"lxd": EMPTY_LXD}, "storage", Status.FAILED, "slurm-factory setup"),
        (
            {"lxd": replace(READY_LXD, pools={"default": "dir"})},
            "storage",
            Status.WARNING,
            "lxc storage create fast btrfs",
        ),
        ({"lxd": EMPTY_LXD}, "network", Status.FAILED, "slurm-factory setup"),
        (
            {"lxd": replace(READY_LXD, nat=False)},
            "network",
            Status.FAILED,
            "lxc network set lxdbr0 ipv4.nat=true",
        ),
        (
            {"ip_forward": False, "privilege": Privilege.ROOT},
            "network",
            Status.FAILED,
            "sysctl -w net.ipv4.ip_forward=1",
        ),
        (
            {"firewall": Firewall.DOCKER},
            "firewall",
            Status.FAILED,
            "sudo iptables -I DOCKER-USER -i lxdbr0 -j ACCEPT && sudo iptables",
        ),
        (
            {"firewall": Firewall.UFW},
            "firewall",
            Status.FAILED,
            "sudo ufw route allow out on lxdbr0",
        ),
        ({"subuid": ()}, "id-map", Status.FAILED, "slurm-factory setup"),
        ({"inotify_instances": 128}, "inotify", Status.WARNING, "slurm-factory setup"),
    ],
)
def test_each_fault_is_found_alone_and_has_a_command_that_fixes_it(
    changes: dict[str, Any], name: str, status: Status, fix: str
) -> None:
    checks = host_checks(replace(READY, **changes))
    assert named(checks, name).status is status
    assert fix in (named(checks, name).fix_command or "")


def test_machine_on_which_lxd_cannot_run_gives_that_cause_alone_and_the_way_without() -> None:
    first, *rest = host_checks(replace(FRESH, obstacle="the kernel has no control groups"))
    assert first.status is Status.FAILED
    assert "no control groups" in first.message
    assert (first.fix_command or "").startswith("slurm-factory setup --destructive-mode")
    assert {check.status for check in rest} == {Status.SKIPPED}
    assert {check.name for check in rest} == {check.name for check in host_checks(READY)}


def test_id_range_that_does_not_exist_in_a_container_is_found_without_an_instance() -> None:
    ids = (range(10_000_001),)
    check = named(host_checks(replace(READY, uids=ids, gids=ids)), "id-map")
    assert (check.status, check.fix_command) == (Status.FAILED, "slurm-factory setup")
    assert "root:165536:10000001" in check.message


def test_daemon_that_this_user_may_not_ask_is_not_called_running() -> None:
    facts = replace(READY, daemon=Daemon.DENIED, permitted=False, lxd=None)
    for name in ("lxd-running", "storage", "network"):
        check = named(host_checks(facts), name)
        assert (check.status, check.message) == (Status.SKIPPED, "this user may not use the daemon")


def test_cause_of_an_instance_that_does_not_start_is_reported() -> None:
    assert instance_start_check(Outcome(0, "", "")).status is Status.OK
    check = instance_start_check(Outcome(1, "Error: no cgroup\n", ""))
    assert (check.status, check.message) == (Status.FAILED, "no instance starts: no cgroup")
    assert check.fix_command


def test_without_an_image_an_instance_starts_all_the_same_and_the_rest_is_not_checked_yet(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run_doctor, "probe", lambda: READY)
    monkeypatch.setattr(run_doctor, "find_image", lambda _: None)
    monkeypatch.setattr(run_doctor, "run", lambda *_, **__: Outcome(1, "", ""))
    monkeypatch.setattr(run_doctor, "try_instance", lambda _: Outcome(1, "Error: no cgroup", ""))
    checks = run_doctor.doctor(Settings(cache_dir=tmp_path))
    assert named(checks, "instance-start").status is Status.FAILED
    archive = named(checks, "instance-archive")
    assert archive.status is Status.SKIPPED
    assert archive.message.startswith("not checked yet")


def test_bare_machine_gives_causes_and_no_consequences() -> None:
    failed = {check.name for check in host_checks(FRESH) if check.status is Status.FAILED}
    assert failed == {"lxd-installed", "lxd-running", "id-map"}


def test_nothing_failed_stands_without_a_command() -> None:
    for facts in (FRESH, replace(FRESH, daemon=Daemon.DENIED), replace(READY, lxd=EMPTY_LXD)):
        for check in host_checks(facts):
            assert check.status is not Status.FAILED or check.fix_command, check


def test_names_of_checks_are_unique_in_the_json_document() -> None:
    assert len({check.name for check in host_checks(READY)}) == len(HOST_CHECKS)


def test_directory_pool_is_not_a_fault_where_nothing_better_is_available() -> None:
    lxd = replace(READY_LXD, pools={"default": "dir"})
    check = named(host_checks(replace(READY, lxd=lxd, loop_devices=False)), "storage")
    assert (check.status, check.fix_command) == (Status.WARNING, None)


def test_instance_that_sees_everything_passes() -> None:
    checks = instance_checks(READY, parse_report(SEEN))
    assert [check.status for check in checks] == [Status.OK] * 4


@pytest.mark.parametrize(
    ("line", "name", "status", "fix"),
    [
        ("address=", "instance-address", Status.FAILED, "lxc network show lxdbr0"),
        ("dns=failed", "instance-dns", Status.FAILED, "lxc network set lxdbr0 raw.dnsmasq="),
        (
            "archive=E: Failed to fetch http://deb.debian.org/ Could not connect",
            "instance-archive",
            Status.FAILED,
            "lxc network",
        ),
        ("tls=untrusted", "instance-tls", Status.WARNING, "update-ca-certificates"),
    ],
)
def test_what_an_instance_misses_is_named(line: str, name: str, status: Status, fix: str) -> None:
    check = named(instance_checks(READY, parse_report(f"{SEEN}{line}\n")), name)
    assert check.status is status
    assert fix in (check.fix_command or "")


@pytest.mark.parametrize("line", ["address=", "dns=failed", "archive=E: Connection timed out"])
def test_firewall_is_blamed_first_for_a_silent_network(line: str) -> None:
    facts = replace(READY, firewall=Firewall.UFW)
    checks = instance_checks(facts, parse_report(f"{SEEN}{line}\n"))
    failed = next(check for check in checks if check.status is Status.FAILED)
    assert "ufw allow in on lxdbr0" in (failed.fix_command or "")


def test_untrusted_https_mirror_is_distinguished_from_an_unreachable_one() -> None:
    seen = "mirror=https://m/debian\narchive=E: The certificate is NOT trusted.\n"
    checks = instance_checks(READY, parse_report(SEEN + seen))
    assert "update-ca-certificates" in (named(checks, "instance-archive").fix_command or "")


def test_instance_behind_a_proxy_need_not_resolve_names_itself() -> None:
    facts = replace(READY, proxies={"http_proxy": "http://p:3128"})
    checks = instance_checks(facts, parse_report(f"{SEEN}dns=failed\n"))
    assert named(checks, "instance-dns").status is Status.SKIPPED
    assert named(checks, "instance-archive").status is Status.OK


@pytest.mark.parametrize(
    ("free", "status"),
    [
        (50 * GIB, Status.OK),
        (5 * GIB, Status.WARNING),
        (GIB, Status.FAILED),
        (0, Status.FAILED),
        (None, Status.SKIPPED),
    ],
)
def test_full_disks_are_seen_before_a_build_fills_them(free: int | None, status: Status) -> None:
    assert pool_space_check(Space("default", free)).status is status
    assert cache_space_check(Space("/home/alice/.slurm-factory", free)).status is status


def test_cache_directory_that_cannot_be_written_is_a_fault() -> None:
    assert cache_writable_check(Path("/cache"), problem="Denied.").status is Status.FAILED
    assert cache_writable_check(Path("/cache"), problem="").status is Status.OK


def test_directory_that_a_build_refuses_as_its_cache_is_a_fault(tmp_path: Path) -> None:
    settings = sample_settings(tmp_path / "cache")
    assert cache_check(settings).status is Status.OK
    (settings.cache_dir / "work/thesis").mkdir(parents=True)
    check = cache_check(settings)
    assert check.status is Status.FAILED
    assert "It is not empty" in check.message


def test_little_memory_is_a_warning() -> None:
    meminfo = "MemTotal:       24000000 kB\nMemAvailable:    1000000 kB\n"
    assert memory_check(available_memory(meminfo)).status is Status.WARNING
    assert available_memory(meminfo) == 1000000 * 1024


def test_cache_directory_that_is_not_made_yet_is_judged_by_its_parent(tmp_path: Path) -> None:
    assert nearest_existing(tmp_path / "a" / "b") == tmp_path


def test_cache_directory_below_a_closed_one_is_judged_by_what_can_be_seen(
    tmp_path: Path, close_to_us: Callable[[Path], None]
) -> None:
    (tmp_path / "closed").mkdir()
    close_to_us(tmp_path / "closed" / "cache")
    assert nearest_existing(tmp_path / "closed" / "cache" / "x") == tmp_path / "closed"


def test_pool_that_does_not_tell_its_space_is_not_taken_for_full() -> None:
    told = '{"space": {"total": 41875931136, "used": 1255292928}}'
    assert pool_free("default", told).free == 41875931136 - 1255292928
    assert pool_free("default", '{"inodes": {}, "space": {"total": 0, "used": 0}}').free is None
    assert pool_free("default", "").free is None
