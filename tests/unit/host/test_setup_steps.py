from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest
from host_samples import EMPTY_LXD, FRESH, READY, READY_LXD, ROOT, UBUNTU

from slurm_factory.exceptions import LXDError
from slurm_factory.host.facts import Daemon, Firewall, Flavor, HostFacts
from slurm_factory.host.setup_steps import SetupStep, plan_setup


def step(facts: HostFacts, name: str) -> SetupStep:
    return next(step for step in plan_setup(facts) if step.name == name)


def shell(facts: HostFacts, name: str) -> str:
    return "\n".join(" ".join(command) for command in step(facts, name).commands)


def needed(facts: HostFacts) -> list[str]:
    return [step.name for step in plan_setup(facts) if step.needed]


def test_nothing_is_done_twice() -> None:
    assert needed(READY) == []
    assert all(not step.commands for step in plan_setup(READY))


def test_fresh_debian_is_set_up_in_an_order_that_can_work() -> None:
    assert needed(FRESH) == [
        *("packages", "id-map", "inotify", "daemon", "group", "storage", "network"),
    ]


def test_fresh_ubuntu_gets_the_snap_and_never_the_deb() -> None:
    facts = replace(FRESH, os=UBUNTU, missing_packages=("mmdebstrap", "lxd"))
    assert "snap install lxd" in shell(facts, "lxd")
    assert "lxd" not in shell(facts, "packages").split()
    assert "snap start --enable lxd.daemon" in shell(facts, "daemon")


def test_group_exists_before_the_snap_first_looks_for_it() -> None:
    commands = step(replace(FRESH, os=UBUNTU), "lxd").commands
    assert commands[0][0] == "groupadd"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"systemd": True}, "systemctl enable --now lxd.socket"),
        ({"systemd": False}, "host-start-lxd.sh"),
        ({"flavor": Flavor.SNAP}, "snap start"),
        ({"daemon": Daemon.SILENT}, "lxd waitready"),
    ],
)
def test_daemon_is_started_in_the_way_of_this_machine(
    changes: dict[str, Any], expected: str
) -> None:
    facts = replace(READY, **{"daemon": Daemon.STOPPED, "lxd": None, **changes})
    assert shell(facts, "daemon").startswith(expected) or f"/{expected}" in shell(facts, "daemon")


def test_daemon_that_only_starts_slowly_is_not_restarted() -> None:
    assert "restart" not in shell(replace(READY, daemon=Daemon.SILENT, lxd=None), "daemon")


@pytest.mark.parametrize(
    ("changes", "drivers"),
    [
        ({"lxd": EMPTY_LXD}, ["btrfs", "dir"]),
        ({"lxd": replace(EMPTY_LXD, drivers=("dir", "zfs"))}, ["zfs", "dir"]),
        ({"lxd": replace(EMPTY_LXD, drivers=("dir",))}, ["dir"]),
        ({"lxd": EMPTY_LXD, "loop_devices": False}, ["dir"]),
    ],
)
def test_copy_on_write_pool_is_tried_first_and_a_directory_last(
    changes: dict[str, Any], drivers: list[str]
) -> None:
    (command,) = step(replace(READY, **changes), "storage").commands
    assert list(command[3:]) == drivers


@pytest.mark.parametrize(("free_gib", "size"), [(300, "100GiB"), (80, "40GiB"), (3, "5GiB")])
def test_pool_takes_half_of_what_is_free_within_limits(free_gib: int, size: str) -> None:
    facts = replace(READY, lxd=EMPTY_LXD, free_bytes=free_gib * 2**30)
    assert step(facts, "storage").commands[0][2] == size


def test_existing_pool_is_used_and_the_best_of_several() -> None:
    lxd = replace(READY_LXD, root_pool=None, pools={"slow": "dir", "fast": "zfs"})
    assert shell(replace(READY, lxd=lxd), "storage").endswith("root disk path=/ pool=fast")


def test_existing_bridge_is_used() -> None:
    lxd = replace(READY_LXD, nic=False, bridge=None, networks=("mybr",))
    commands = step(replace(READY, lxd=lxd), "network").commands
    assert len(commands) == 1
    assert commands[0][-1] == "network=mybr"


def test_new_bridge_translates_addresses_and_avoids_what_is_taken() -> None:
    facts = replace(READY, lxd=EMPTY_LXD, uplink_mtu=1400, taken=(IPv4Network("10.201.7.0/24"),))
    create = " ".join(step(facts, "network").commands[0])
    assert "local:lxdbr1 ipv4.address=10.201.77.1/24 ipv4.nat=true ipv6.address=none" in create
    assert create.endswith("bridge.mtu=1400")


def test_machine_without_a_free_subnet_is_shown_what_to_do() -> None:
    private = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
    facts = replace(READY, lxd=EMPTY_LXD, taken=tuple(IPv4Network(text) for text in private))
    with pytest.raises(LXDError) as error:
        plan_setup(facts)
    assert "lxc network create lxdbr1" in error.value.resolution


@pytest.mark.parametrize(
    ("firewall", "command"),
    [
        (Firewall.DOCKER, "iptables -I DOCKER-USER -i lxdbr0 -j ACCEPT"),
        (Firewall.OTHER, "iptables -I FORWARD -o lxdbr0 -j ACCEPT"),
        (Firewall.UFW, "ufw route allow in on lxdbr0"),
        (Firewall.FIREWALLD, "firewall-cmd --zone=trusted --change-interface=lxdbr0 --permanent"),
    ],
)
def test_each_firewall_is_opened_for_the_bridge_once(firewall: Firewall, command: str) -> None:
    assert command in shell(replace(READY, firewall=firewall), "firewall")
    assert needed(replace(READY, firewall=firewall, forwarded=("lxdbr0",))) == []


def test_firewall_is_left_alone_for_a_network_that_is_not_lxds() -> None:
    facts = replace(READY, lxd=replace(READY_LXD, bridge=None), firewall=Firewall.DOCKER)
    assert needed(facts) == []


def test_proxy_of_the_environment_reaches_lxd_and_a_set_one_stays() -> None:
    facts = replace(READY, proxies={"https_proxy": "http://p:3128", "no_proxy": "localhost"})
    assert '"$https_proxy" | lxc --project default config set local: core.proxy_https -' in shell(
        facts, "proxy"
    )
    kept = replace(READY_LXD, proxies={"proxy_https": "http://other:1"})
    assert needed(replace(facts, lxd=kept)) == []


def test_root_needs_neither_group_nor_a_line_of_its_own() -> None:
    facts = replace(READY, account=ROOT, subuid=("root:100000:65536",), subgid=("root:1:65536",))
    assert needed(facts) == []


def test_machine_on_which_lxd_cannot_run_is_not_changed_and_the_way_without_is_reported() -> None:
    with pytest.raises(LXDError, match="cannot run") as caught:
        plan_setup(replace(FRESH, obstacle="the kernel has no control groups"))
    assert caught.value.details == "The cause: the kernel has no control groups."
    assert "slurm-factory setup --destructive-mode" in caught.value.resolution


def test_range_that_a_container_does_not_have_is_cut_before_lxd_takes_it() -> None:
    ids = (range(10_000_001),)
    facts = replace(READY, uids=ids, gids=ids)
    step_of_ids = step(facts, "id-map")
    assert step_of_ids.needed
    assert "ids that do not exist here: root:165536:10000001" in step_of_ids.why
    new = "root:165536:9834465"
    assert ("sed", "--in-place", f"s/^root:165536:10000001$/{new}/", "/etc/subuid") in (
        step_of_ids.commands
    )
    assert "systemctl restart lxd.service" in shell(facts, "id-map")
    cut = ("alice:100000:65536", new, "root:1000:1")
    assert not step(replace(facts, subuid=cut, subgid=cut), "id-map").needed


def test_lxd_is_restarted_only_when_its_own_range_is_new() -> None:
    only_range = replace(READY, subuid=("root:1000:1",))
    assert "systemctl restart lxd.service" in shell(only_range, "id-map")
    only_user = replace(READY, subuid=("root:165536:10000001",))
    assert "restart" not in shell(only_user, "id-map")


def test_container_that_cannot_change_the_kernels_limit_can_still_be_set_up() -> None:
    inotify = step(replace(READY, inotify_instances=128), "inotify")
    assert inotify.needed
    assert not inotify.required


def test_limit_that_is_higher_already_is_never_lowered() -> None:
    command = step(replace(READY, inotify_instances=8192, inotify_kept=False), "inotify").commands
    assert "8192" in command[0]


@pytest.mark.parametrize(
    ("changes", "brief"),
    [
        ({"flavor": None, "incus": True}, "Incus"),
        ({"flavor": None, "os": replace(UBUNTU, id="fedora", pretty_name="Fedora 42")}, "Fedora"),
    ],
)
def test_machine_that_setup_does_not_know_is_refused_with_one_message(
    changes: dict[str, Any], brief: str
) -> None:
    with pytest.raises(LXDError, match=brief) as error:
        plan_setup(replace(FRESH, **changes))
    assert error.value.resolution


def test_lxd_beside_incus_and_on_an_unknown_distribution_is_used() -> None:
    fedora = replace(UBUNTU, id="fedora")
    assert needed(replace(READY, os=fedora, incus=True, flavor=Flavor.SNAP)) == []
