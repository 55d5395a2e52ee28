from ipaddress import IPv4Network
from typing import Any

import pytest

from slurm_factory.host.networks import (
    CANDIDATES,
    bridge_address,
    free_bridge_name,
    free_subnet,
    taken_subnets,
)

ROUTES: list[dict[str, Any]] = [
    {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0", "flags": []},
    {"dst": "0.0.0.0/1", "gateway": "10.8.0.1", "dev": "tun0", "flags": []},
    {"dst": "10.201.7.0/24", "dev": "docker1", "protocol": "kernel", "scope": "link"},
    {"type": "local", "dst": "192.0.2.2", "dev": "eth0", "table": "local"},
]
ADDRESSES: list[dict[str, Any]] = [
    {"ifname": "eth0", "addr_info": [{"local": "10.201.77.9", "prefixlen": 25}]},
    {"ifname": "ifb0", "addr_info": []},
]


def test_bridge_never_hides_a_route_an_address_or_a_name_server() -> None:
    taken = taken_subnets(ROUTES, ADDRESSES, "nameserver 10.202.7.53\nnameserver fe80::1%eth0\n")
    subnet = free_subnet(taken)
    assert subnet == IPv4Network("10.202.77.0/24")


def test_name_server_that_is_not_an_address_is_passed_over() -> None:
    text = "nameserver dns1\nnameserver\nnameserver 10.202.7.53\n"
    assert taken_subnets([], [], text) == (IPv4Network("10.202.7.53/32"),)


def test_default_route_in_halves_as_vpns_install_it_does_not_take_every_subnet() -> None:
    assert IPv4Network("0.0.0.0/1") not in taken_subnets(ROUTES, ADDRESSES, "")


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ("10.0.0.0/8", "172.28.77.0/24"),
        ("10.201.7.128/32", "10.201.77.0/24"),
        ("192.168.0.0/16", "10.201.7.0/24"),
    ],
)
def test_routes_wider_and_narrower_than_a_subnet_count(taken: str, expected: str) -> None:
    assert free_subnet((IPv4Network(taken),)) == IPv4Network(expected)


def test_no_subnet_is_invented_where_all_private_space_is_routed() -> None:
    private = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
    assert free_subnet(tuple(IPv4Network(text) for text in private)) is None


def test_candidates_are_private_and_differ() -> None:
    assert all(candidate.is_private for candidate in CANDIDATES)
    assert len(set(CANDIDATES)) == len(CANDIDATES)


def test_bridge_of_an_earlier_lxd_is_left_alone() -> None:
    assert free_bridge_name(["lo", "eth0", "lxdbr0"]) == "lxdbr1"
    assert free_bridge_name(["lo"]) == "lxdbr0"


def test_bridge_gets_the_first_address() -> None:
    assert bridge_address(IPv4Network("10.201.7.0/24")) == "10.201.7.1/24"
