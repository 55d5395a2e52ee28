"""A free IPv4 subnet for a bridge on this machine, pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any

CANDIDATES = (
    *(IPv4Network(f"10.{second}.{third}.0/24") for second in range(201, 251) for third in (7, 77)),
    *(IPv4Network(f"172.{second}.77.0/24") for second in range(28, 32)),
    *(IPv4Network(f"192.168.{third}.0/24") for third in range(201, 251)),
)
"""Private subnets (RFC 1918), rarely used ones first."""

NARROWEST_DEFAULT = 8
"""Wider routes are a default route, or its halves as VPN programs install them."""


def taken_subnets(
    routes: Iterable[Mapping[str, Any]],
    addresses: Iterable[Mapping[str, Any]],
    resolv_conf: str,
) -> tuple[IPv4Network, ...]:
    """Subnets that a new bridge must not hide.

    Args:
        routes: What `ip -json -4 route show table all` prints (ip-route(8)).
        addresses: What `ip -json -4 address` prints (ip-address(8)).
        resolv_conf: Text of resolv.conf(5); name servers may lie behind the default route only.
    """
    found = {
        ip_network(str(route["dst"]), strict=False)
        for route in routes
        if route.get("dst", "default") != "default"
    }
    for link in addresses:
        for address in link.get("addr_info", ()):
            text = f"{address['local']}/{address['prefixlen']}"
            found.add(ip_network(text, strict=False))
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            # The resolver ignores invalid addresses too.
            with suppress(ValueError):
                found.add(ip_network(ip_address(words[1].partition("%")[0])))
    return tuple(
        sorted(
            network
            for network in found
            if isinstance(network, IPv4Network) and network.prefixlen >= NARROWEST_DEFAULT
        )
    )


def free_subnet(taken: Sequence[IPv4Network]) -> IPv4Network | None:
    """The first candidate that overlaps nothing in use, or None."""
    return next(
        (
            candidate
            for candidate in CANDIDATES
            if not any(candidate.overlaps(network) for network in taken)
        ),
        None,
    )


def bridge_address(subnet: IPv4Network) -> str:
    """The first address of a subnet in LXD's notation for `ipv4.address`."""
    return f"{subnet.network_address + 1}/{subnet.prefixlen}"


def free_bridge_name(interfaces: Iterable[str]) -> str:
    """The first unused name of lxdbr0, lxdbr1, …"""
    names = set(interfaces)
    return next(name for name in (f"lxdbr{i}" for i in range(len(names) + 1)) if name not in names)
