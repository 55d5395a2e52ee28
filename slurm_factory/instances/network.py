"""Network settings of this machine for instances: proxies, certificates, sources."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from slurm_factory.exceptions import ConfigurationError
from slurm_factory.instances.images import ImageName, mirror_of, sources_list
from slurm_factory.util.machine import certificates_in, is_loopback, proxies, proxy_host

if TYPE_CHECKING:
    from slurm_factory.config import Settings
    from slurm_factory.plan.bases import Base


@dataclass(frozen=True)
class Network:
    """Settings of the host that an instance needs to reach the network."""

    proxies: dict[str, str] = field(default_factory=dict)
    """http_proxy, https_proxy, no_proxy and similar variables, as on the host."""
    certificates: tuple[Path, ...] = ()
    """Additional CA certificates (host)."""
    sources_list: str = ""
    """Lines for apt, if they replace the image's own."""
    reach: str = "deb.debian.org"
    """Host name that must resolve in the instance: the archive's, or the proxy's; empty: it
    needs no network."""


def both_spellings(environ: Mapping[str, str]) -> dict[str, str]:
    """Proxy variables of `environ` in both spellings, because programs read different ones."""
    given = proxies(environ)
    return given | {name.upper(): value for name, value in given.items()}


def find_network(base: Base, image: ImageName, settings: Settings) -> Network:
    """The network settings for an instance of `base`.

    Args:
        base: The distribution.
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
    set_mirrors = {"debian": settings.debian_mirror, "ubuntu": settings.ubuntu_mirror}
    own_sources = image.remote == "local" or set_mirrors[base.distribution]
    return Network(
        proxies=given,
        certificates=certificates_in(settings.ca_certificates),
        sources_list=sources_list(base, settings) if own_sources else "",
        reach=(proxy and proxy_host(proxy))
        or urlsplit(mirror_of(base, settings)).hostname
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
