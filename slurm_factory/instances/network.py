"""Network settings of this machine for instances: proxies, certificates, sources."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.instances.images import (
    ImageName,
    mirror_of,
    set_mirror,
    sources_list,
    uses_ports,
)
from slurm_factory.plan.architectures import debian_name
from slurm_factory.util.machine import certificates_in, is_loopback, proxies, proxy_host

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.plan.base_setup import BaseSetup


@dataclass(frozen=True)
class Network:
    """Settings of the host that an instance needs to reach the network."""

    proxies: dict[str, str] = field(default_factory=dict)
    """http_proxy, https_proxy, no_proxy and similar variables, as on the host."""
    certificates: tuple[Path, ...] = ()
    """Additional CA certificates (host)."""
    sources_list: str = ""
    """Lines for apt, if they replace the image's own."""
    cross_sources: str = ""
    """Lines for apt with the packages of the architecture to compile for, if the archive of the
    base has none of them."""
    reach: str = "deb.debian.org"
    """Host name that must resolve in the instance: the archive's, or the proxy's; empty: it
    needs no network."""


def both_spellings(environ: Mapping[str, str]) -> dict[str, str]:
    """Proxy variables of `environ` in both spellings, because programs read different ones."""
    given = proxies(environ)
    return given | {name.upper(): value for name, value in given.items()}


def find_network(setup: BaseSetup, machine: str, image: ImageName, settings: Settings) -> Network:
    """The network settings for an instance.

    Args:
        setup: The definition of its base.
        machine: Architecture of this machine, as uname(1) names it.
        image: Its image; one made here has no list of sources of its own.
        settings: Settings of this site.

    Raises:
        ConfigurationError: Instances cannot reach a proxy.
    """
    given = both_spellings(os.environ)
    for name, value in proxies(os.environ).items():
        if name != "no_proxy":
            _require_reachable(name, value)
    proxy = given.get("http_proxy") or given.get("https_proxy")
    base, wanted = setup.base, setup.architecture
    own_sources = image.remote == "local" or set_mirror(base, settings, machine)
    apart = uses_ports(base, wanted) != uses_ports(base, machine)
    options = f"arch={debian_name(wanted)}"
    return Network(
        proxies=given,
        certificates=certificates_in(settings.ca_certificates),
        sources_list=sources_list(base, settings, machine) if own_sources else "",
        cross_sources=sources_list(base, settings, wanted, options) if apart else "",
        reach=(proxy and proxy_host(proxy))
        or urlsplit(mirror_of(base, settings, machine)).hostname
        or "deb.debian.org",
    )


def _require_reachable(name: str, proxy: str) -> None:
    """Refuse a proxy that an instance cannot reach; `name` is that of its variable."""
    host = proxy_host(proxy)
    if host is None:
        raise ConfigurationError(
            f"{name} is not the address of a proxy.",
            details="It is set in the environment, but contains no host.",
            resolution=f"Set {name} to http://HOST:PORT, or unset it.",
        )
    if is_loopback(host):
        raise ConfigurationError(
            f"Instances cannot reach the proxy {host}.",
            details=f"{name} contains this machine's loopback address.",
            resolution="Set it to an address of this machine that instances can reach.",
        )
